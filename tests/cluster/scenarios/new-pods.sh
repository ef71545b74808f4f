#!/bin/bash
# new-pods.sh: pods that speak as soon as they run. Those whose namespace is fenced, by a baseline or by a policy, get nothing
# through, ever; neither do those that a policy at the other end does not admit. Those that are admitted are heard.
# PODS=20 of each kind, all at once, or one after the other with a PAUSE of seconds; KINDS="baseline policy foe friend";
# TIMES=FILE collects after how many ms each friend was heard.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "$0")")/../lib.sh"
SPACE=new-pods
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
PODS=${PODS:-20}
read -r -a KINDS <<<"${KINDS:-baseline policy foe friend}"
gone() { kubectl delete namespace $SPACE "${KINDS[@]/#/$SPACE-}" --ignore-not-found --wait=false >/dev/null; }
trap gone EXIT
cleared $SPACE "${KINDS[@]/#/$SPACE-}"

{
	for kind in "" "${KINDS[@]/#/-}"; do printf '{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {kind: "%s"}}}\n---\n' "$SPACE$kind" "${kind#-}"; done
	# Somebody who listens on each node: one whom everybody reaches, one who is isolated and admits friends.
	for node in "${NODES[@]}"; do
		traffic_pod $SPACE "open-$node" "$node" "app: open"
		echo ---
		traffic_pod $SPACE "isolated-$node" "$node" "app: isolated"
		echo ---
	done
	cat <<-Y
		{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: friends, namespace: $SPACE}, spec: {podSelector: {matchLabels: {app: isolated}},
		 policyTypes: [Ingress], ingress: [{from: [{namespaceSelector: {matchLabels: {kind: friend}}, podSelector: {matchLabels: {app: new}}}]}]}}
		---
	Y
	[[ " ${KINDS[*]} " != *" policy "* ]] || echo "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: nothing-out, namespace: $SPACE-policy}, spec: {podSelector: {}, policyTypes: [Egress]}}"
} | kubectl apply -f - >/dev/null
[[ " ${KINDS[*]} " != *" baseline "* ]] || kubectl label namespace $SPACE-baseline ringfence.dev/baseline=deny-all >/dev/null
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=60s >/dev/null
address() { kubectl get pod -n $SPACE "$1" -o 'jsonpath={.status.podIP}'; }

pids=() outs=()
hear() { # hear POD PORT ARGUMENTS...: in the background, until it listens
	local out
	out=$STATE/log/hear-$1-$2.log
	traffic hear --state "$STATE" --at "$SPACE/$1" --port "$2" "${@:3}" >"$out" 2>&1 &
	pids+=($!) outs+=("$out")
	eventually 10 "nobody listens at $1" n1/kubelet grep -q listening "$out"
}
targets=() foes=() friends=()
for node in "${NODES[@]}"; do
	hear "open-$node" 7000 --label "fenced pods, to $node" --silent --for 600s
	hear "isolated-$node" 7001 --label "pods that are not admitted, to $node" --silent --for 600s
	[[ " ${KINDS[*]} " != *" friend "* ]] ||
		hear "isolated-$node" 7002 --label "pods that are admitted, to $node" --expect "$PODS" --for 120s --times "${TIMES:-/dev/null}"
	targets+=("$(address "open-$node"):7000") foes+=("$(address "isolated-$node"):7001") friends+=("$(address "isolated-$node"):7002")
done
new() { # new NUMBER: one of each kind
	for kind in "${KINDS[@]}"; do
		hails=("${targets[@]}")
		[ "$kind" != foe ] || hails=("${foes[@]}")
		[ "$kind" != friend ] || hails=("${friends[@]}")
		traffic_pod "$SPACE-$kind" "$kind-$1" "${NODES[$1 % 2]}" "app: new" "${hails[@]}"
		echo ---
	done
}
if [ "${PAUSE:-0}" != 0 ]; then
	for ((number = 0; number < PODS; number++)); do
		new "$number" | kubectl create -f - >/dev/null
		sleep "$PAUSE"
	done
else
	for ((number = 0; number < PODS; number++)); do new "$number"; done | kubectl create -f - >/dev/null
fi
for kind in "${KINDS[@]}"; do
	kubectl wait --for=condition=Ready pod --all -n "$SPACE-$kind" --timeout=240s >/dev/null || die "the pods of $SPACE-$kind do not run"
done
sleep 3
# Who waits for silence has waited long enough now: it is told to end and says what it heard.
bad=0
for index in "${!pids[@]}"; do
	kill -TERM "${pids[index]}" 2>/dev/null || true
	wait "${pids[index]}" || bad=1
	tail -n +2 "${outs[index]}" | while read -r line; do say "$line"; done
done
[ $bad = 0 ] || die "new pods: leaked, or not heard: see $STATE/log/hear-*.log"
