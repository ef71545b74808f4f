#!/bin/bash
# Whatever restarts, what is enforced stays: no packet leaks, none is lost. OTHER_IMAGE=ARCHIVE: an upgrade to that program, too.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "$0")")/../lib.sh"
SPACE=restarts
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
trap tiers_gone EXIT

system=ringfence-system
agents_ready() { kubectl rollout status -n "$system" daemonset/ringfence-agent --timeout=90s >/dev/null; }
agent_of() { kubectl get pod -n "$system" -l app.kubernetes.io/component=agent --field-selector "spec.nodeName=$1" -o "jsonpath={$2}"; }
status_of() { inside "$1" cat "/proc/$2/status"; }

api_server_restarts() { "$HERE/restart.sh" cp/apiserver && eventually 60 "the API server was not ready" cp/apiserver kubectl get --raw /readyz; }
api_server_is_away() {
	"$HERE/restart.sh" cp/apiserver stop
	sleep 5
	"$HERE/restart.sh" cp/apiserver start
	eventually 60 "the API server was not ready" cp/apiserver kubectl get --raw /readyz
}
agents_are_killed() {
	local node container pid restarts
	for node in "${NODES[@]}"; do
		container=$(agent_of "$node" '.items[0].status.containerStatuses[0].containerID')
		restarts=$(agent_of "$node" '.items[0].status.containerStatuses[0].restartCount')
		pid=$(inside "$node" ctr --namespace k8s.io tasks ls 2>/dev/null | awk -v id="${container#containerd://}" '$1 == id {print $2}')
		[ -n "$pid" ] || die "$node has no task ${container#containerd://}"
		inside "$node" kill -KILL "$pid"
		back() { [ "$(agent_of "$node" '.items[0].status.containerStatuses[0].restartCount')" -gt "$restarts" ] && [ "$(agent_of "$node" '.items[0].status.containerStatuses[0].ready')" = true ]; }
		eventually 90 "the agent of $node did not come back after a kill" "$node/kubelet" back
	done
}
agents_are_upgraded() {
	kubectl patch -n "$system" daemonset/ringfence-agent -p "{\"spec\":{\"template\":{\"metadata\":{\"annotations\":{\"scenario\":\"$$\"}}}}}" >/dev/null
	agents_ready
}
# As with a program of another layout, its maps are new: the successor is told everything before it takes the place.
agents_get_other_maps() {
	local arguments='[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--map-sizes=ports=40000,counters=9000"}]'
	kubectl patch -n "$system" daemonset/ringfence-agent --type json -p "$arguments" >/dev/null
	agents_ready
	kubectl rollout undo -n "$system" daemonset/ringfence-agent >/dev/null
	agents_ready
}
chart_is_upgraded() {
	IMAGE=$OTHER_IMAGE "$HERE/install.sh"
	agents_ready
	"$HERE/install.sh"
	agents_ready
}
kubelet_restarts() {
	SIGNAL=KILL "$HERE/restart.sh" n2/kubelet
	ready() { kubectl get --raw /api/v1/nodes/n2/proxy/healthz; }
	eventually 60 "the kubelet of n2 did not come back" n2/kubelet ready
}
containerd_restarts() {
	SIGNAL=KILL "$HERE/restart.sh" n2/containerd
	eventually 60 "containerd of n2 did not come back" n2/containerd inside n2 ctr version
}

tiers
policies
under_streams "the API server restarts" api_server_restarts
under_streams "the API server is away for 5 s" api_server_is_away
under_streams "the agents are killed" agents_are_killed
under_streams "the agents are upgraded" agents_are_upgraded
under_streams "the agents get maps of other sizes" agents_get_other_maps
[ -z "${OTHER_IMAGE:-}" ] || under_streams "the chart is upgraded to another program, and back" chart_is_upgraded
under_streams "a kubelet and its containerd are killed" kubelet_restarts containerd_restarts
agents_ready
