#!/bin/bash
# killed.sh: a cluster whose up.sh is killed in the middle leaves nothing behind after down.sh, even if that is killed, too. At
# several moments, in a directory of its own.
set -euo pipefail
RINGFENCE_CLUSTER_DIR=/run/ringfence-killed-$$
export RINGFENCE_CLUSTER_DIR
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
out=$(mktemp)
trap '"$HERE/down.sh"; rm -f "$out"' EXIT

left() {
	ls -d "$STATE"* 2>/dev/null || true
	find /sys/fs/cgroup -maxdepth 2 -name "$CGROUP" 2>/dev/null || true
	grep -lF "$STATE" /proc/[0-9]*/mountinfo 2>/dev/null || true
	# Each has the directory in its arguments or its environment.
	grep -lzF "$STATE" /proc/[0-9]*/cmdline 2>/dev/null || true
	ip -o link show | grep -E ' (switch|cni0|flannel\.1)[:@]' || true
}
for moment in 0.3 1.5 6; do
	setsid "$HERE/up.sh" >"$out" 2>&1 &
	up=$!
	sleep $moment
	kill -KILL $up 2>/dev/null || die "up.sh ended before it could be killed: $(cat "$out")"
	wait $up 2>/dev/null || true
	[ $moment = 0.3 ] || {
		"$HERE/down.sh" &
		down=$!
		sleep 0.2
		kill -KILL $down 2>/dev/null || true
		wait $down 2>/dev/null || true
	}
	"$HERE/down.sh"
	remains=$(left)
	[ -z "$remains" ] || die "killed after $moment s, and left behind: $remains"
done
say "killed at three moments: nothing is left behind"
