#!/bin/bash
# nodes.sh: the startup taint goes when the agent enforces, and an agent's right to change nodes reaches no further; a baseline for
# new namespaces leaves older ones alone. The chart is upgraded for it, and as it was in the end.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
taint=ringfence.dev/agent-not-ready ns=rf-new
clean() {
	local key
	for key in "$taint" other; do "$K" taint node n1 n2 "$key-" >/dev/null 2>&1 || true; done
	"$K" delete --ignore-not-found --wait=false namespace $ns >/dev/null
	"$K" delete --ignore-not-found clusterrole,clusterrolebinding rf-jane >/dev/null
}
trap clean EXIT
has() { "$K" get node "$1" -o 'jsonpath={.spec.taints[*].key}' | grep -q "$2"; }
lacks() { ! has "$@"; }

"$K" taint node n1 n2 --overwrite "$taint=:NoSchedule" other=:PreferNoSchedule >/dev/null
install --set agent.startupTaint=true,agent.baseline=deny-ingress
for node in n1 n2; do
	within 30 "the taint of $node goes" lacks $node $taint
	holds "other taints of $node stay" has $node other
done
agent=(--as="system:serviceaccount:$NAMESPACE:ringfence-agent" --as-user-extra=authentication.kubernetes.io/node-name=n1)
refused "another node" "no other node" "$K" "${agent[@]}" patch node n2 -p '{"spec":{"taints":[]}}'
refused "another taint" "no other taint" "$K" "${agent[@]}" patch node n1 -p '{"spec":{"taints":[]}}'
refused "a taint more" "no other taint" "$K" "${agent[@]}" patch node n1 -p '{"spec":{"taints":[{"key":"other","effect":"PreferNoSchedule"},{"key":"mine","effect":"NoExecute"}]}}'
refused "a label" "nothing of its node" "$K" "${agent[@]}" label node n1 mine=yes
refused "unschedulable" "nothing of its node" "$K" "${agent[@]}" patch node n1 -p '{"spec":{"unschedulable":true}}'
refused "the word of another node" "no other ConfigMap" "$K" "${agent[@]}" -n "$NAMESPACE" create configmap ringfence-node-n2
refused "another ConfigMap" "no other ConfigMap" "$K" "${agent[@]}" -n "$NAMESPACE" apply --server-side --force-conflicts -f - \
	<<<'{apiVersion: v1, kind: ConfigMap, metadata: {name: kube-root-ca.crt}, data: {ca.crt: x}}'
refused "deleting it" "no other ConfigMap" "$K" "${agent[@]}" -n "$NAMESPACE" delete --wait=false configmap kube-root-ca.crt
# The agent itself says something now and then, and takes it back.
holds "the word of its own" "$K" "${agent[@]}" -n "$NAMESPACE" apply --server-side --force-conflicts -f - \
	<<<'{apiVersion: v1, kind: ConfigMap, metadata: {name: ringfence-node-n1}}'
holds "taking it back" "$K" "${agent[@]}" -n "$NAMESPACE" delete --ignore-not-found --wait=false configmap ringfence-node-n1

"$K" create clusterrole rf-jane --verb=get,list,patch,update,create --resource=namespaces >/dev/null
"$K" create clusterrolebinding rf-jane --clusterrole=rf-jane --user=rf-jane >/dev/null
jane=("$K" --as rf-jane)
shown() { "$K" -n "$1" get networkpolicy ringfence-baseline; }
holds "a new namespace" "$K" create namespace $ns
within 10 "has the baseline" shown $ns
refused "an older one has none" "not found" shown default
refused "opening the new one" "takes the verb open on baselines" "${jane[@]}" label namespace $ns ringfence.dev/baseline=off
holds "fencing an older one" "${jane[@]}" label namespace default ringfence.dev/baseline=deny-ingress
within 10 "shows it" shown default
refused "opening that again" "takes the verb open on baselines" "${jane[@]}" label namespace default ringfence.dev/baseline-
holds "by who may" "$K" label namespace default ringfence.dev/baseline-
install
gone() { ! shown $ns; }
within 20 "without the setting it goes" gone
done_with "taint, new namespaces"
