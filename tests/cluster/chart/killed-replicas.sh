#!/bin/bash
# killed-replicas.sh [KILLS]: one webhook pod of two goes and comes again, again and again (4 times), under load, while certificates
# rotate; both webhooks fail closed, so that every failure is seen. First pods are deleted: nothing may fail. Then their processes
# are killed (kill -9). What fails, and until when after the kill, is counted: an API server learns from a request that fails that
# nobody is there, and from the kubelet after that.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
KILLS=${1:-4}
install --set tls.selfMade.caRotation=5s,tls.selfMade.caLife=10m,tls.selfMade.certificateLife=1m,webhooks.mutating.policies.failurePolicy=Fail

load=$(mktemp -d)
trap 'touch "$load/end"; wait; rm -rf "$load"' EXIT
for name in $(seq 10); do
	echo "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: asked-$name, namespace: default}, spec: {podSelector: {matchLabels: {app: none}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}}"
	echo ---
done >"$load/policies.yaml"
now() { date +%s%3N; }
ask() { # until told to end: ten reviews a time by both webhooks; each failure with its time
	local line
	while [ ! -e "$load/end" ]; do
		"$K" create --dry-run=server -f "$load/policies.yaml" 2>&1 >>"$load/$1.out" | while read -r line; do echo "$(now) $line"; done >>"$load/$1.err" || true
	done
}
for worker in 1 2; do ask $worker & done

pods() { "$K" -n "$NAMESPACE" get pod -l app.kubernetes.io/component=admission -o "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount}{'\n'}{end}" "$@"; }
# Those that the chart had before its new values end in their own time.
two() { [ "$(pods | wc -l)" = 2 ]; }
within 60 "two webhook pods are there, and no others" two
sleep 2
failed() { cat "$load"/*.err | wc -l; }
for ((number = 0; number < KILLS; number++)); do
	read -r pod _ < <(pods | sed -n "$((number % 2 + 1))p")
	"$K" -n "$NAMESPACE" delete pod "$pod" --wait=false >/dev/null
	again() { two && ! "$K" -n "$NAMESPACE" get pod "$pod" && "$K" -n "$NAMESPACE" rollout status deployment/ringfence --timeout=1s; }
	within 60 "another pod is there for $pod" again
	sleep 1
done
holds "webhook pods deleted $KILLS times: nothing fails: $(cat "$load"/*.err | tail -1)" [ "$(failed)" = 0 ]
before=$(cat "$load"/*.out | wc -l)
kills=()
for ((number = 0; number < KILLS; number++)); do
	read -r pod node container restarts < <(pods | sed -n "$((number % 2 + 1))p")
	pid=$("$STATE/bin/on" "$node" ctr --namespace k8s.io tasks ls 2>/dev/null | awk -v id="${container#containerd://}" '$1 == id {print $2}')
	[ -n "$pid" ] || die "$node has no task of $pod"
	kills+=("$(now)")
	"$STATE/bin/on" "$node" kill -KILL "$pid"
	back() { [ "$("$K" -n "$NAMESPACE" get pod "$pod" -o 'jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].ready}')" = "$((restarts + 1)) true" ]; }
	# The kubelet waits ever longer before it starts again what has ended: 10 s, 20 s, 40 s.
	within 120 "$pod is back" back
	sleep 2
done
touch "$load/end"
wait
asked=$(($(cat "$load"/*.out | wc -l) - before))
failed=$(failed)
# How long after the last kill before it each failure was.
latest=$(cat "$load"/*.err | while read -r at _; do
	for ((number = ${#kills[@]} - 1; number > 0; number--)); do [ "${kills[number]}" -gt "$at" ] || break; done
	echo $((at - kills[number]))
done | sort -n | tail -1)
say "one of two webhook pods deleted $KILLS times under load: $before reviews taken, none failed"
say "one of two webhook pods killed $KILLS times under load: $asked reviews taken, $failed failed, the last one ${latest:-0} ms after a kill"
cat "$load"/*.err | cut -d' ' -f2- | sed -E 's/"asked-[0-9]+"//; s/[0-9.]+:[0-9]+(->)?//g' | cut -c1-300 | sort | uniq -c | sort -rn | head -5 >&2
checks=$((checks + 1))
[ "$asked" -ge $((KILLS * 50)) ] || fail "only $asked policies were asked about"
checks=$((checks + 1))
[ "${latest:-0}" -le 2000 ] || fail "a review failed ${latest} ms after a kill"
install
done_with "killed replicas"
