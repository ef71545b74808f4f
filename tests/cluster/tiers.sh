# shellcheck shell=bash disable=SC2153
# For scenarios: users, web, api, db and a stranger on two nodes, their Services, their policies, and what may flow.
#
#   users ──▶ web (n1) ──▶ api (n2) ──▶ db (n1)        stranger (n2, beside api; alone in another namespace)

SPACE=${SPACE:-tiers}
# What the webhook warns of is not what these are about.
kubectl() { "$STATE/bin/kubectl" "$@" 2> >(grep -v "^Warning: " >&2); }
[ "$(id -u)" = 0 ] || die "namespaces of machines and pods need root"

tiers() {
	# shellcheck source=/dev/null
	. "$STATE/mode"
	local pod node port
	cleared "$SPACE" "$SPACE-other"
	{
		printf '{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n---\n' "$SPACE" "$SPACE-other"
		while read -r pod node port; do
			traffic_pod "$SPACE" "$pod" "$node" "app: $pod"
			cat <<-Y
				---
				{apiVersion: v1, kind: Service, metadata: {name: $pod, namespace: $SPACE}, spec: {type: NodePort, ipFamilyPolicy: PreferDualStack,
				 selector: {app: $pod}, ports: [{port: $port, protocol: UDP, nodePort: $((30000 + port))}]}}
				---
			Y
		done <<<"$TIERS"
		traffic_pod "$SPACE-other" stranger n2 "app: web"
	} | kubectl apply -f - >/dev/null
	kubectl wait --for=condition=Ready pod --all -n "$SPACE" --timeout=60s >/dev/null
	kubectl wait --for=condition=Ready pod --all -n "$SPACE-other" --timeout=60s >/dev/null
}
# cleared NAMESPACE...: of an earlier run, of which they may still be going.
cleared() { kubectl delete namespace "$@" --ignore-not-found --timeout=90s >/dev/null; }

TIERS="web n1 80
api n2 1500
db n1 1306"

# traffic_pod NAMESPACE NAME NODE LABELS [TARGET...]: hails the targets; without any it is silent.
traffic_pod() {
	local targets=("${@:5}")
	cat <<-Y
		{apiVersion: v1, kind: Pod, metadata: {name: $2, namespace: $1, labels: {$4}}, spec: {nodeName: $3, terminationGracePeriodSeconds: 0,
		 automountServiceAccountToken: false, enableServiceLinks: false, containers: [{name: c, image: "ringfence.dev/traffic:test",
		  imagePullPolicy: Never, args: [hail $(printf ', "%s"' "${targets[@]}" | sed 's/^, ""$//')]}]}}
	Y
}

# Their NodePorts at once: the next one has the same.
tiers_gone() {
	kubectl delete services --all -n "$SPACE" >/dev/null || true
	kubectl delete namespace "$SPACE" "$SPACE-other" --ignore-not-found --wait=false >/dev/null
}

policies() {
	policy() { # policy NAME SELECTOR TYPES RULES
		echo "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: $1, namespace: $SPACE}, spec: {podSelector: {$2}, policyTypes: [$3], $4}}"
		echo ---
	}
	{
		policy nothing-else "" "Ingress, Egress" ""
		policy web "matchLabels: {app: web}" "Ingress, Egress" "ingress: [{ports: [{port: 80, protocol: UDP}]}],
		 egress: [{to: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 1500, protocol: UDP}]}]"
		policy api "matchLabels: {app: api}" "Ingress, Egress" "ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 1500, protocol: UDP}]}],
		 egress: [{to: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 1306, protocol: UDP}]}]"
		policy db "matchLabels: {app: db}" "Ingress, Egress" "ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 1306, protocol: UDP}]}]"
	} | kubectl apply -f - >/dev/null
}

# flows open|fenced: for `traffic streams`, in every family.
flows() {
	local deny=deny family from to verdict address service node
	[ "$1" = fenced ] || deny=allow
	declare -A port=([web]=80 [api]=1500 [db]=1306) space=([web]=$SPACE [api]=$SPACE [db]=$SPACE [stranger]=$SPACE-other) place=([users]=cp)
	for from in "${!space[@]}"; do place[$from]=${space[$from]}/$from; done
	for ((family = 0; family < ${DUAL:-0} + 1; family++)); do
		while read -r from to verdict; do
			address=$(bracketed "$(kubectl get pod -n "$SPACE" "$to" -o "jsonpath={.status.podIPs[$family].ip}")")
			service=$(bracketed "$(kubectl get service -n "$SPACE" "$to" -o "jsonpath={.spec.clusterIPs[$family]}")")
			[ "$from" = users ] || [ "$from" = "$to" ] ||
				echo "$from-$to-address-$family $verdict ${place[$from]} ${place[$to]} $address:${port[$to]}"
			[ "$from" = users ] ||
				echo "$from-$to-service-$family $verdict ${place[$from]} ${place[$to]} $service:${port[$to]}"
			[ "$from" != users ] || for node in "${NODES[@]}"; do
				address=${V4[$node]}
				[ "$family" = 0 ] || address=[${V6[$node]}]
				echo "$from-$to-nodeport-$node-$family $verdict cp ${place[$to]} $address:$((30000 + ${port[$to]})) ${port[$to]}"
			done
		done <<-F
			users web allow
			web api allow
			api db allow
			api api allow
			users db $deny
			web db $deny
			api web $deny
			db api $deny
			stranger api $deny
			stranger db $deny
		F
		# A node reaches its own pods, whatever policies say.
		address=$(bracketed "$(kubectl get pod -n "$SPACE" db -o "jsonpath={.status.podIPs[$family].ip}")")
		echo "node-db-$family allow n1 ${place[db]} $address:${port[db]}"
	done
}
bracketed() { if [[ $1 == *:* ]]; then echo "[$1]"; else echo "$1"; fi; }

# under_streams NAME FUNCTION...: calls the functions one after the other while all flows run; nothing may leak, nothing get lost.
under_streams() {
	local out=$STATE/log/streams-${1// /-}.log pid function
	flows fenced >"$STATE/flows"
	traffic streams --state "$STATE" --settle 20s --for 10m <"$STATE/flows" >"$out" 2>&1 &
	pid=$!
	running() { grep -qs '^streams run' "$out"; }
	waited=0
	until running; do
		kill -0 "$pid" 2>/dev/null && [ $((waited += 1)) -lt 400 ] || die "the flows of $1 are not as they should be from the beginning: $(cat "$out")"
		sleep 0.1
	done
	for function in "${@:2}"; do "$function"; done
	sleep 1
	kill -TERM "$pid"
	if ! wait "$pid"; then
		cat "$out" >&2
		die "$1: packets leaked or were lost"
	fi
	say "$1: $(grep -c '^ok ' "$out") flows, $(awk '/^ok / {n += $4} END {print n}' "$out") packets: no leak, no loss"
}
