#!/bin/bash
# bench.sh: figures of a cluster, no verdicts; compare only what one run printed. On a new cluster, gone again afterwards.
#
#   CHANGES=200 PAIRS=20 PODS=200 CROWD=5000 CROWD_POLICIES=1000 START_PODS=10000   how much of each
#   WAVE=20 PAUSE=1.5   so many new pods in a row with an engine, then without; so many seconds between them, 0: at once
#   ONLY="latency connections start pods"   which
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
SPACE=bench
# shellcheck source-path=SCRIPTDIR source=tiers.sh
. "$HERE/tiers.sh"
ROOT=$(realpath "$HERE/../..")
RINGFENCE=${RINGFENCE:-$ROOT/target/image/ringfence}
CHANGES=${CHANGES:-200} PAIRS=${PAIRS:-20} PODS=${PODS:-200} WAVE=${WAVE:-20} PAUSE=${PAUSE:-1.5} CROWD=${CROWD:-5000} CROWD_POLICIES=${CROWD_POLICIES:-1000} START_PODS=${START_PODS:-10000}
ONLY=${ONLY:-latency connections start pods}
wanted() { [[ " $ONLY " == *" $1 "* ]]; }
[ -x "$RINGFENCE" ] || die "$RINGFENCE is not there: make image"
ours=()
finish() {
	local status=$? id
	trap - EXIT
	for id in "${ours[@]}"; do ! alive "$id" || kill -KILL "$(cut -d' ' -f1 "$id")"; done
	if [ "${KEEP:-0}" = 1 ]; then
		service_alive cp/controller-manager || "$HERE/restart.sh" cp/controller-manager start
	else
		"$HERE/down.sh"
	fi
	exit $status
}
"$HERE/up.sh"
trap finish EXIT

# --- agents outside of pods, so that they come and go within a second

start_agent() { # start_agent NODE: returns once it is ready
	local machine
	machine=$(machine_id "$1")
	# shellcheck disable=SC2016
	setsid --fork bash -c '. "$1/lib.sh"; echo "$$ $(started $$)" >"$2"
		exec nsenter --target "$3" --net --mount -- "$4" agent --node "$5" --kubeconfig "$6" --neighbours "$7" --pod "$8"' _ \
		"$HERE" "$STATE/agent-$1.id" "$machine" "$RINGFENCE" "$1" "$STATE/admin.conf" $SPACE "$owner" </dev/null >>"$STATE/log/$1-agent.log" 2>&1
	ours+=("$STATE/agent-$1.id")
	local tries=0
	until agent_ready "$1"; do
		[ $((tries += 1)) -lt 3000 ] || die "the agent of $1 is not ready: see $STATE/log/$1-agent.log"
		sleep 0.01
	done
}
# shellcheck disable=SC2016
agent_ready() { on_net "$1" bash -c 'exec 3<>/dev/tcp/127.0.0.1/9441 && printf "GET /readyz HTTP/1.0\r\n\r\n" >&3 && read -r line <&3 && [[ $line == *" 200 "* ]]' 2>/dev/null; }
end_agent() { # end_agent NODE: and what it enforces
	kill -KILL "$(cut -d' ' -f1 "$STATE/agent-$1.id")"
	gone "$STATE/agent-$1.id"
	nsenter --target "$(machine_id "$1")" --net --mount -- "$RINGFENCE" agent --detach >/dev/null
}

# --- pods and policies of the measurements

{
	printf '{apiVersion: v1, kind: Namespace, metadata: {name: %s}}\n---\n' $SPACE
	traffic_pod $SPACE client n1 "app: client"
	echo ---
	traffic_pod $SPACE server n2 "app: server"
} | kubectl apply -f - >/dev/null
kubectl wait --for=condition=Ready pod --all -n $SPACE --timeout=60s >/dev/null
# What agents tell belongs to a pod, and would be cleared away if there were none.
owner=$(kubectl get pod server -n $SPACE -o 'jsonpath={.metadata.name}/{.metadata.uid}')
# Policy 0 admits the client, the others somebody else; all select the server.
server_policies() { # server_policies FROM TO
	local number
	for ((number = $1; number < $2; number++)); do
		cat <<-Y
			{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p$number, namespace: $SPACE}, spec: {podSelector: {matchLabels: {app: server}},
			 policyTypes: [Ingress], ingress: [{from: [{podSelector: {matchLabels: {app: $([ "$number" = 0 ] && echo client || echo "other-$number")}}}]}]}}
			---
		Y
	done | kubectl apply -f - >/dev/null
}
# In the network of the API server. Wide enough that the source ports of the probes do not come round.
wide() { on_net cp "$BIN/traffic" "$@"; }
pod_net() { nsenter --net="$(wide place --state "$STATE" "$1")" -- "${@:2}"; }
pod_net $SPACE/client sysctl -qw net.ipv4.ip_local_port_range="1024 65535"

latency() { wide latency --state "$STATE" --from $SPACE/client --to $SPACE/server --policy $SPACE/p0 --changes "$CHANGES" --label "$1"; }

# in_turns NUMBER: the other way round each time, as what comes first may have it easier.
in_turns() { if [ $(($1 % 2)) = 0 ]; then echo without with; else echo with without; fi; }

if wanted connections; then
	declare -A rate
	for others in 0 300; do
		server_policies 0 1
		[ $others = 0 ] || server_policies 1 301
		ratios=""
		for ((pair = 0; pair < PAIRS; pair++)); do
			for how in $(in_turns $pair); do
				[ $how = without ] || for node in "${NODES[@]}"; do start_agent "$node"; done
				# What starting costs has passed.
				sleep 2
				rate[$how]=$(wide connections --state "$STATE" --from $SPACE/client --to $SPACE/server)
				[ $how = without ] || for node in "${NODES[@]}"; do end_agent "$node"; done
			done
			ratios+="$(awk -v a="${rate[with]}" -v b="${rate[without]}" 'BEGIN {print a / b}') "
		done
		say "connections, $((others + 1)) policies select the server: share of no engine $(traffic spread --ratios <<<"$ratios") (the last pair: ${rate[with]} and ${rate[without]} a second)"
	done
	kubectl delete networkpolicies --all -n $SPACE >/dev/null
fi

if wanted pods; then
	# In waves, with and without; by default one after the other, so that none waits for the start of others. Fenced ones only with.
	waves=$(((PODS + WAVE - 1) / WAVE))
	declare -A lost=([without]=0 [with]=0)
	for ((wave = 0; wave < waves; wave++)); do
		for how in $(in_turns $wave); do
			[ $how = without ] || for node in "${NODES[@]}"; do start_agent "$node"; done
			KINDS=friend PAUSE=$PAUSE PODS=$((PODS / waves)) TIMES=$STATE/first-$how "$HERE/scenarios/new-pods.sh" >"$STATE/log/new-pods.log" 2>&1 ||
				die "new pods: see $STATE/log/new-pods.log"
			lost[$how]=$((lost[$how] + $(sed -n 's/.*; \([0-9]*\) whose very first was lost/\1/p' "$STATE/log/new-pods.log" | paste -sd+)))
			kubectl wait --for=delete namespace/new-pods namespace/new-pods-friend --timeout=120s >/dev/null
			[ $how = without ] || for node in "${NODES[@]}"; do end_agent "$node"; done
		done
	done
	for how in without with; do say "first allowed packet of a new pod, $how an engine: $(traffic spread <"$STATE/first-$how"); of ${lost[$how]} the very first was lost"; done
fi

"$HERE/install.sh"
server_policies 0 1
if wanted pods; then
	KINDS="baseline policy" PODS=$((PODS / 2)) "$HERE/scenarios/new-pods.sh" | grep fenced
	kubectl wait --for=delete namespace/new-pods namespace/new-pods-baseline namespace/new-pods-policy --timeout=240s >/dev/null
fi
if wanted latency; then
	latency "one policy:"
	server_policies 1 301
	latency "300 other policies:"
fi
# What has no node would be cleared away.
"$HERE/restart.sh" cp/controller-manager stop
if wanted latency; then
	wide populate --state "$STATE" --pods "$CROWD" --policies "$CROWD_POLICIES"
	latency "$CROWD pods and $CROWD_POLICIES policies more:"
fi
if wanted start; then
	"$HERE/restart.sh" cp/controller-manager start
	"$STATE/bin/helm" uninstall ringfence --namespace ringfence-system --wait --timeout 120s >/dev/null
	# The chart's agent answers until it has taken its pins away, and ours wants its port.
	kubectl wait --for=delete pod --all -n ringfence-system --timeout=60s >/dev/null
	"$HERE/restart.sh" cp/controller-manager stop
	wide populate --state "$STATE" --pods "$START_PODS" --policies "$CROWD_POLICIES"
	begin=() memory=0
	for ((round = 0; round < 5; round++)); do
		start=$(date +%s%N)
		start_agent n2
		begin+=("$((($(date +%s%N) - start) / 1000000))")
		peak=$(awk '/^VmHWM/ {print $2}' "/proc/$(cut -d' ' -f1 "$STATE/agent-n2.id")/status")
		[ "$peak" -le "$memory" ] || memory=$peak
		end_agent n2
	done
	say "an agent's start to ready, $START_PODS pods and $CROWD_POLICIES policies on the API server: ${begin[*]} ms; $((memory / 1024)) MB of memory at most"
fi
