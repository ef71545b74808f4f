#!/bin/bash
# node-tainted.sh: n2 starts afresh with the taint that whoever makes nodes puts on them, and with no pods of its own; its agent is
# late, as its image takes its time. Pods wait for it: of those that a policy fences not one packet gets through, ever.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "$0")")/../lib.sh"
SPACE=tainted
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
DELAY=${DELAY:-5} PODS=${PODS:-10}
taint=ringfence.dev/agent-not-ready
finish() {
	kubectl delete namespace $SPACE --ignore-not-found --wait=false >/dev/null
	kubectl taint node n2 "$taint-" >/dev/null 2>&1 || true
	"$HERE/install.sh" >/dev/null || true
}
trap finish EXIT
cleared $SPACE
"$HERE/install.sh" --set agent.startupTaint=true >/dev/null

{
	printf '{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n---\n' $SPACE
	traffic_pod $SPACE listener n1 "app: listener"
	echo ---
	echo "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: nothing-out, namespace: $SPACE}, spec: {podSelector: {matchLabels: {app: fenced}}, policyTypes: [Egress]}}"
} | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=60s >/dev/null
address=$(kubectl get pod -n $SPACE listener -o 'jsonpath={.status.podIP}')
hear() { # hear NAME PORT ARGUMENTS...
	traffic hear --state "$STATE" --at $SPACE/listener --port "$2" "${@:3}" >"$STATE/log/hear-$1.log" 2>&1 &
	eventually 10 "nobody listens" n1/kubelet grep -q listening "$STATE/log/hear-$1.log"
}
hear tainted-fenced 7000 --silent --for 10m --label "fenced pods"
silence=$!
hear tainted-free 7001 --expect "$PODS" --for 3m --label "the others"
heard=$!

tag=$(kubectl get daemonset -n ringfence-system ringfence-agent -o 'jsonpath={.spec.template.spec.containers[0].image}')
ctr_n2() { inside n2 timeout 60 ctr --namespace k8s.io "$@" 2>>"$STATE/log/n2-images.log"; }
ctr_n2 images export "$STATE/n2/root/var/lib/kubelet/agent.tar" "docker.io/library/$tag" >/dev/null || die "the agent's image can not be put aside"
kubectl taint node n2 --overwrite "$taint=:NoSchedule" >/dev/null
export BEFORE_KUBELET="inside n2 ctr --namespace k8s.io images rm docker.io/library/$tag >/dev/null 2>&1"
"$HERE/reboot.sh" n2
# The scheduler decides, not whoever writes the pod.
for ((number = 0; number < PODS; number++)); do
	traffic_pod $SPACE "fenced-$number" n2 "app: fenced" "$address:7000"
	echo ---
	traffic_pod $SPACE "free-$number" n2 "app: free" "$address:7001"
	echo ---
done | sed 's|nodeName: n2|nodeSelector: {kubernetes.io/hostname: n2}|' | kubectl create -f - >/dev/null
ready() { kubectl get --raw /api/v1/nodes/n2/proxy/healthz; }
eventually 60 "the kubelet of n2 did not come back" n2/kubelet ready
sleep "$DELAY"
bound=$(kubectl get pods -n $SPACE -o 'jsonpath={range .items[*]}{.spec.nodeName}{"\n"}{end}' | grep -c n2) || true
[ "$bound" = 0 ] || die "$bound pods were bound to n2 before its agent was there"
say "n2 runs, $((2 * PODS)) pods wait, and there is no agent"
ctr_n2 images import /var/lib/kubelet/agent.tar >/dev/null || die "the agent's image can not be brought back"
rm "$STATE/n2/root/var/lib/kubelet/agent.tar"
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=180s >/dev/null || die "the pods do not start: see $STATE/log/n2-kubelet.log"
wait $heard || die "not all of those that may speak are heard: $(tail -1 "$STATE/log/hear-tainted-free.log")"
sleep 3
kill -TERM $silence
wait $silence || die "fenced pods get through: $(cat "$STATE/log/hear-tainted-fenced.log")"
for name in free fenced; do say "$(tail -1 "$STATE/log/hear-tainted-$name.log")"; done
kubectl rollout status -n ringfence-system daemonset/ringfence-agent --timeout=90s >/dev/null || die "the agent of n2 did not come back"
kubectl rollout status -n ringfence-system deployment/ringfence --timeout=90s >/dev/null || die "the webhook did not come back"
