#!/bin/bash
# baselines.sh: baselines are shown, put right and taken away again; who may not open a namespace does not; nothing of it holds
# up the end of a namespace; DNS gets out to where the EndpointSlices of kube-dns lead. The chart is installed, and there is no DNS.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
ns=rf-baselines
jane=("$K" --as rf-jane)
clean() {
	"$K" delete --ignore-not-found --wait=false namespace "$ns" "$ns-new" >/dev/null
	"$K" delete --ignore-not-found clusterrole,clusterrolebinding rf-jane >/dev/null
	"$K" -n kube-system delete --ignore-not-found --wait=false endpointslice/rf-dns pod/rf-dns service/kube-dns >/dev/null
}
trap clean EXIT
shown() { "$K" -n "$ns" get networkpolicy ringfence-baseline -o "jsonpath=$1"; }
shows() { [ "$(shown "$1")" = "$2" ]; }

"$K" create namespace "$ns" >/dev/null
"$K" create clusterrole rf-jane --verb='*' --resource=namespaces,networkpolicies.networking.k8s.io >/dev/null
"$K" create clusterrolebinding rf-jane --clusterrole=rf-jane --user=rf-jane >/dev/null

# Shown.
holds "fencing is everybody's" "${jane[@]}" label namespace "$ns" ringfence.dev/baseline=deny-all
within 10 "deny-all is shown" shows '{.spec.policyTypes}' '["Ingress","Egress"]'
holds "it goes with the chart" shows '{.metadata.ownerReferences[0].kind}' ClusterRole
holds "another baseline" "$K" label namespace "$ns" --overwrite ringfence.dev/baseline=deny-ingress
within 10 "deny-ingress is shown" shows '{.spec.policyTypes}' '["Ingress"]'
version=$(shown '{.metadata.resourceVersion}')
sleep 5
holds "nothing is written where nothing differs" shows '{.metadata.resourceVersion}' "$version"

# Guarded, also against those who may do everything.
for who in --as=rf-jane --as=kubernetes-admin --as-group=system:masters; do
	[[ $who != --as-group* ]] || who="--as=root $who"
	# shellcheck disable=SC2086
	refused "deleting by $who" "" "$K" $who -n "$ns" delete networkpolicy ringfence-baseline
done
refused "deleting" "this object shows the baseline" "$K" -n "$ns" delete networkpolicy ringfence-baseline
refused "deleting all" "this object shows the baseline" "$K" -n "$ns" delete networkpolicy --all
refused "editing" "this object shows the baseline" "$K" -n "$ns" patch networkpolicy ringfence-baseline --type merge -p '{"spec":{"ingress":[{}]}}'
refused "making one" "this object shows the baseline" "$K" -n default create --dry-run=server -f - <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: ringfence-baseline}, spec: {podSelector: {}}}"
refused "opening" "takes the verb open on baselines" "${jane[@]}" label namespace "$ns" ringfence.dev/baseline-
refused "opening to off" "takes the verb open on baselines" "${jane[@]}" label namespace "$ns" --overwrite ringfence.dev/baseline=off
refused "a baseline that is none" "no baseline is called" "${jane[@]}" label namespace "$ns" --overwrite ringfence.dev/baseline=deny
refused "audit" "takes the verb open on modes" "${jane[@]}" label namespace "$ns" ringfence.dev/mode=audit
refused "a new namespace in audit" "takes the verb open on modes" "${jane[@]}" create -f - <<<"{apiVersion: v1, kind: Namespace, metadata: {name: $ns-new, labels: {ringfence.dev/mode: audit}}}"
refused "no anti-spoofing" "takes the verb open on antispoofing" "${jane[@]}" label namespace "$ns" ringfence.dev/anti-spoofing=off
refused "an allowance" "takes the verb open on allowances" "${jane[@]}" annotate namespace "$ns" ringfence.dev/allow=host-network
holds "other labels" "${jane[@]}" label namespace "$ns" team=shop ringfence.dev/mode=enforce ringfence.dev/anti-spoofing=on
"$K" create clusterrole rf-opener --verb=open --resource=modes.ringfence.dev --resource-name="$ns" --dry-run=client -o yaml >/dev/null 2>&1 || true
holds "who has the verb opens" "$K" label namespace "$ns" --overwrite ringfence.dev/mode=audit
holds "what is open may stay so" "${jane[@]}" label namespace "$ns" --overwrite team=other

# Put right, where the guard is away.
"$K" get validatingadmissionpolicybinding ringfence-shown -o json >"$STATE/guard.json"
"$K" delete validatingadmissionpolicybinding ringfence-shown >/dev/null
opened() { "$K" -n "$ns" patch networkpolicy ringfence-baseline --type merge -p '{"spec":{"policyTypes":["Ingress","Egress"],"egress":[{}]}}'; }
within 30 "the guard is away" opened
within 10 "an edit is put right" shows '{.spec}' '{"podSelector":{},"policyTypes":["Ingress"]}'
holds "deleted" "$K" -n "$ns" delete networkpolicy ringfence-baseline
within 10 "it comes back" shows '{.spec.policyTypes}' '["Ingress"]'
python3 -c 'import json,sys; o=json.load(open(sys.argv[1])); o["metadata"]={k:o["metadata"][k] for k in ("name","labels","annotations") if k in o["metadata"]}; print(json.dumps(o))' "$STATE/guard.json" |
	"$K" create -f - >/dev/null
rm "$STATE/guard.json"

# Taken away.
holds "opening by who may" "$K" label namespace "$ns" ringfence.dev/baseline-
none() { [ -z "$("$K" -n "$ns" get networkpolicy -o name)" ]; }
within 10 "it goes with the baseline" none
holds "fenced again" "$K" label namespace "$ns" ringfence.dev/baseline=deny-all
within 10 "shown again" shows '{.spec.policyTypes}' '["Ingress","Egress"]'

# DNS, where the resolver has other labels and another port.
holds "no audit any more" "$K" label namespace "$ns" ringfence.dev/mode-
{
	traffic_pod "$ns" asks n1 "app: asks"
	echo ---
	traffic_pod kube-system rf-dns n2 "app: dns"
} | "$K" apply -f - >/dev/null
"$K" wait --for=condition=Ready -n "$ns" pod/asks --timeout=60s >/dev/null
"$K" wait --for=condition=Ready -n kube-system pod/rf-dns --timeout=60s >/dev/null
address=$("$K" -n kube-system get pod rf-dns -o 'jsonpath={.status.podIP}')
gets_out() { # gets_out WHAT allow|deny: to the port of the slice, and never to another one
	local out=$STATE/log/streams-dns.log
	checks=$((checks + 1))
	traffic streams --state "$STATE" --settle 20s --for 1s >"$out" 2>&1 <<-F || fail "$1: $(cat "$out")"
		slice $2 $ns/asks kube-system/rf-dns $address:5353
		other deny $ns/asks kube-system/rf-dns $address:5354
	F
}
gets_out "no slice" deny
"$K" apply -f - >/dev/null <<-Y
	{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, spec: {ports: [{name: dns, port: 53, protocol: UDP, targetPort: 5353}]}}
	---
	apiVersion: discovery.k8s.io/v1
	kind: EndpointSlice
	metadata: {name: rf-dns, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns, endpointslice.kubernetes.io/managed-by: rf}}
	addressType: IPv4
	ports: [{name: dns, port: 5353, protocol: UDP}, {name: metrics, port: 9153, protocol: TCP}]
	endpoints: [{addresses: ["$address"], targetRef: {kind: Pod, name: rf-dns, namespace: kube-system}}]
Y
gets_out "a slice" allow
within 10 "it is shown" shows '{.spec.egress[1]}' "{\"ports\":[{\"port\":5353,\"protocol\":\"UDP\"}],\"to\":[{\"ipBlock\":{\"cidr\":\"$address/32\"}}]}"
"$K" -n kube-system delete endpointslice rf-dns >/dev/null
gets_out "the slice is gone" deny
within 10 "it is shown no more" shows '{.spec.egress[1]}' ''

holds "a namespace ends" "$K" delete namespace "$ns" --timeout=60s
done_with "baselines"
