#!/bin/bash
# check.sh: does the network of the cluster work? A pod on n1 reaches a server on n2, at its address and by a Service, in
# every family that the cluster has; and somebody outside reaches it by the NodePort.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
kubectl() { "$STATE/bin/kubectl" -n rf-check "$@"; }

image=registry.k8s.io/e2e-test-images/agnhost:$(cat "$BIN/agnhost.version")
trap '"$STATE/bin/kubectl" delete namespace rf-check --ignore-not-found --wait=false >/dev/null' EXIT
kubectl apply -f - >/dev/null <<Y
{apiVersion: v1, kind: Namespace, metadata: {name: rf-check}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: rf-check},
 spec: {nodeName: n1, terminationGracePeriodSeconds: 0, containers: [{name: c, image: "$image", args: [pause]}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: server, namespace: rf-check, labels: {app: server}},
 spec: {nodeName: n2, terminationGracePeriodSeconds: 0, containers: [{name: c, image: "$image", args: [netexec, --http-port=80]}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: server, namespace: rf-check},
 spec: {type: NodePort, ipFamilyPolicy: PreferDualStack, selector: {app: server}, ports: [{port: 8080, targetPort: 80, nodePort: 31080}]}}
Y
kubectl wait --for=condition=Ready pod --all --timeout=60s >/dev/null
say "pods run"
reached() { kubectl exec client -- /agnhost connect --timeout=2s "$1"; }
# shellcheck disable=SC2016
outside() { on_net cp timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/31080"' _ "$1"; }
for address in $(kubectl get pod server -o 'jsonpath={.status.podIPs[*].ip}'); do
	[[ $address != *:* ]] || address=[$address]
	eventually 10 "the pod does not reach $address:80" n2/proxy reached "$address:80"
	say "$address:80 reached, a pod's address on the other node"
done
for address in $(kubectl get service server -o 'jsonpath={.spec.clusterIPs[*]}'); do
	[[ $address != *:* ]] || address=[$address]
	eventually 10 "the pod does not reach $address:8080" n1/proxy reached "$address:8080"
	say "$address:8080 reached, a Service"
done
# shellcheck disable=SC2013
for address in $(kubectl get node n1 -o 'jsonpath={.status.addresses[?(@.type=="InternalIP")].address}'); do
	eventually 10 "[$address]:31080 is not reached from outside" n1/proxy outside "$address"
	say "$address:31080 reached from outside, the NodePort of the node without the server"
done
