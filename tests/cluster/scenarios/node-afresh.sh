#!/bin/bash
# node-afresh.sh: the power of n2 goes; its kubelet starts its pods again by itself, and the agent comes later, as its image
# takes its time. What gets through between is counted, and said; once the agent is there nothing does.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "$0")")/../lib.sh"
SPACE=afresh
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
DELAY=${DELAY:-5}
trap 'kubectl delete namespace $SPACE --ignore-not-found --wait=false >/dev/null' EXIT
cleared $SPACE

{
	printf '{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n---\n' $SPACE
	traffic_pod $SPACE listener n1 "app: listener"
} | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=60s >/dev/null
address=$(kubectl get pod -n $SPACE listener -o 'jsonpath={.status.podIP}')
{
	cat <<-Y
		{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: nothing-out, namespace: $SPACE}, spec: {podSelector: {matchLabels: {app: fenced}}, policyTypes: [Egress]}}
		---
	Y
	traffic_pod $SPACE fenced n2 "app: fenced" "$address:7000"
	echo ---
	traffic_pod $SPACE free n2 "app: free" "$address:7001"
} | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=60s >/dev/null

hear() { # hear NAME PORT ARGUMENTS...
	traffic hear --state "$STATE" --at $SPACE/listener --port "$2" "${@:3}" >"$STATE/log/hear-$1.log" 2>&1 &
	eventually 10 "nobody listens" n1/kubelet grep -q listening "$STATE/log/hear-$1.log"
}
hear fenced 7000 --count --for 10m
counting=$!
tag=$(kubectl get daemonset -n ringfence-system ringfence-agent -o 'jsonpath={.spec.template.spec.containers[0].image}')
ctr_n2() { inside n2 timeout 60 ctr --namespace k8s.io "$@" 2>>"$STATE/log/n2-images.log"; }
ctr_n2 images export "$STATE/n2/root/var/lib/kubelet/agent.tar" "docker.io/library/$tag" >/dev/null || die "the agent's image can not be put aside"
export BEFORE_KUBELET="inside n2 ctr --namespace k8s.io images rm docker.io/library/$tag >/dev/null 2>&1"
"$HERE/reboot.sh" n2
hear free 7001 --expect 1 --for 2m
wait $! || die "n2 came back, and its pods do not speak: see $STATE/log/n2-kubelet.log"
say "the kubelet of n2 has started its pods, and there is no agent"
sleep "$DELAY"
ctr_n2 images import /var/lib/kubelet/agent.tar >/dev/null || die "the agent's image can not be brought back"
rm "$STATE/n2/root/var/lib/kubelet/agent.tar"
ready() { kubectl rollout status -n ringfence-system daemonset/ringfence-agent --timeout=2s; }
eventually 120 "the agent of n2 did not come back" n2/kubelet ready
sleep 1
kill -TERM $counting
wait $counting || true
say "until the agent was there: $(tail -1 "$STATE/log/hear-fenced.log")"
hear fenced-after 7000 --silent --for 5s --label "once the agent was there"
wait $! || die "a fenced pod gets through: $(cat "$STATE/log/hear-fenced-after.log")"
say "$(tail -1 "$STATE/log/hear-fenced-after.log")"
# Its many failures have made its kubelet wait a minute and more before the next start: another pod begins anew.
kubectl delete pod -n ringfence-system -l app.kubernetes.io/component=agent --field-selector spec.nodeName=n2 >/dev/null
eventually 60 "another agent of n2 did not start" n2/kubelet ready
kubectl rollout status -n ringfence-system deployment/ringfence --timeout=90s >/dev/null || die "the webhook did not come back"
