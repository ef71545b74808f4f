#!/bin/bash
# reboot.sh NODE: the power goes, and the node comes back as nodes do: its disk is as it was, and no process, no link, no
# pin and nothing in /run is. What is given as commands in BEFORE_KUBELET is done before its kubelet runs.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
node=${1:?"reboot.sh NODE"}
# shellcheck source=/dev/null
. "$STATE/mode"
[[ " ${NODES[*]} " == *" $node "* ]] || die "there is no node $node"

end "$STATE/machines/$node"
# A kubelet waits 3 s for each cgroup whose container is gone.
for tree in /sys/fs/cgroup/{,*/}"$CGROUP/$node"; do
	[ ! -d "$tree" ] || find "$tree" -mindepth 1 -depth -type d -exec rmdir {} + 2>/dev/null || true
done
unplugged() { ! on_net cp ip link show "$node"; }
eventually 10 "the link of $node did not go" "$node/machine" unplugged
rm -rf "$STATE/$node/root/run" "$STATE/$node/ready"
rm -f "$STATE/services/$node"/*.id
machine "$node"
plug "$node"
launch "$node/containerd"
eventually 30 "containerd was not ready" "$node/containerd" inside "$node" ctr version
launch "$node/flannel"
eventually 60 "flannel did not say its subnet" "$node/flannel" test -s "$STATE/$node/root/run/flannel/subnet.env"
[ -z "${BEFORE_KUBELET:-}" ] || eval "$BEFORE_KUBELET"
launch "$node/proxy"
launch "$node/kubelet"
say "node $node came back"
