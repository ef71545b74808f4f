#!/bin/bash
# rotation.sh [ROTATIONS]: certificates rotated (20 times) under load, and a replica of two replaced meanwhile: no request fails.
# Then what is lost: the Secret, and its content. The chart is installed with short times, and both webhooks fail closed, so
# that every failure is seen.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
ROTATIONS=${1:-20}
install --set tls.selfMade.caRotation=3s,tls.selfMade.caLife=10m,tls.selfMade.certificateLife=1m,webhooks.mutating.policies.failurePolicy=Fail

secret() { "$K" -n "$NAMESPACE" get secret ringfence-authorities -o "jsonpath=$1"; }
since() { secret '{.data.since}'; }
load=$(mktemp -d)
trap 'touch "$load/end"; wait; rm -rf "$load"' EXIT
for name in $(seq 100); do
	echo "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: asked-$name, namespace: default}, spec: {podSelector: {matchLabels: {app: none}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}}"
	echo ---
done >"$load/policies.yaml"
ask() { # until told to end: a hundred reviews a time by both webhooks, over one connection to the API server
	while [ ! -e "$load/end" ]; do
		"$K" create --dry-run=server -f "$load/policies.yaml" >>"$load/$1.out" 2>>"$load/$1.err" || true
	done
}
for worker in 1 2; do ask $worker & done

begun=$SECONDS rotations=0 replaced=""
known=$(since)
while [ $rotations -lt "$ROTATIONS" ]; do
	[ $((SECONDS - begun)) -lt $((ROTATIONS * 10)) ] || { fail "only $rotations rotations in $((SECONDS - begun)) s"; break; }
	now=$(since)
	if [ "$now" != "$known" ]; then
		known=$now rotations=$((rotations + 1))
		# In the middle of it: the replica that leads in certificates.
		if [ $rotations -ge $((ROTATIONS / 2)) ] && [ -z "$replaced" ]; then
			replaced=$("$K" -n "$NAMESPACE" get lease ringfence-authorities -o 'jsonpath={.spec.holderIdentity}')
			"$K" -n "$NAMESPACE" delete pod "$replaced" --wait=false >/dev/null
		fi
	fi
	sleep 0.2
done
took=$((SECONDS - begun))
touch "$load/end"
wait
asked=$(cat "$load"/*.out | wc -l)
checks=$((checks + 1))
[ ! -s "$load/1.err" ] && [ ! -s "$load/2.err" ] || fail "$(cat "$load"/*.err | wc -l) of $asked failed: $(cat "$load"/*.err | cut -c1-400 | sort | uniq -c | head -5)"
checks=$((checks + 1))
[ "$asked" -ge $((ROTATIONS * 20)) ] || fail "only $asked policies were asked about"
say "$rotations rotations in $took s, the leading replica $replaced replaced meanwhile: $asked policies asked about, $(cat "$load"/*.err | wc -l) failed"

install
# Nobody is left who knows it: other authorities, for as long as it is usual.
spent=$(secret '{.data.current\.crt}')
"$K" -n "$NAMESPACE" scale deployment ringfence --replicas 0 >/dev/null
"$K" -n "$NAMESPACE" wait --for=delete pod -l app.kubernetes.io/component=admission --timeout=60s >/dev/null
holds "deleting the Secret while nobody is there" "$K" -n "$NAMESPACE" delete secret ringfence-authorities
"$K" -n "$NAMESPACE" scale deployment ringfence --replicas 2 >/dev/null
holds "ready again" "$K" -n "$NAMESPACE" rollout status deployment ringfence --timeout 60s
trusted=$(secret '{.data.current\.crt}')
holds "other authorities" [ "$trusted" != "$spent" ]
within 10 "asking after that" asks

# Somebody knows it.
holds "deleting the Secret" "$K" -n "$NAMESPACE" delete secret ringfence-authorities
within 30 "a lost Secret is written again" secret '{.data.since}'
holds "with what API servers trust" [ "$(secret '{.data.current\.crt}')" = "$trusted" ]
holds "asking after that" asks
holds "spoiling the Secret" "$K" -n "$NAMESPACE" patch secret ringfence-authorities --type merge -p '{"data":{"current.key":"eA=="}}'
again() { [ "$(secret '{.data.current\.crt}')" = "$trusted" ] && [ "$(secret '{.data.current\.key}')" != eA== ]; }
within 30 "a spoilt Secret is written again" again
holds "asking after that" asks
done_with "certificates"
