#!/bin/bash
# down.sh: ends the cluster and removes every trace of it, however much of it there is. Only processes that up.sh started
# are ended: by id, and only if the id is still that process.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
[ "$(id -u)" = 0 ] || die "namespaces, mounts and containers need root"

# Cgroups can be removed once the kernel is through with what was in them.
remove_cgroups() {
	local tree tries=100
	for tree in /sys/fs/cgroup/"$CGROUP" /sys/fs/cgroup/*/"$CGROUP"; do
		[ ! -L "${tree%/*}" ] || continue
		while [ -d "$tree" ]; do
			find "$tree" -depth -type d -exec rmdir {} + 2>/dev/null || true
			[ -d "$tree" ] || break
			[ $((tries -= 1)) -gt 0 ] || die "$tree can not be removed: what is still in it stands in its cgroup.procs"
			sleep 0.1
		done
	done
}

# A mount point that another cluster uses, too, stays: removing it would take the mount away there.
remove_made() {
	local path
	tac "$1" | while read -r path; do
		if [ -d "$path" ]; then
			grep -qsF " $path " /proc/[0-9]*/mountinfo || rmdir --ignore-fail-on-non-empty "$path"
		else
			rm -f "$path"
		fi
	done
}

# Renamed first: whatever up.sh left running cannot write an id any more, so all ids are seen.
if [ -e "$STATE/up.id" ] && alive "$STATE/up.id"; then
	kill -KILL "$(cut -d' ' -f1 "$STATE/up.id")"
	gone "$STATE/up.id"
fi
[ ! -e "$STATE" ] || [ -e "$STATE.going" ] || mv "$STATE" "$STATE.going"
for state in "$STATE.going" "$STATE"; do
	[ -e "$state" ] || continue
	# A machine's processes end with its first one; its namespaces, and every mount and link in them, end with its processes.
	for machine in "$state"/machines/*; do
		[ ! -e "$machine" ] || end "$machine"
	done
	remove_cgroups
	[ ! -e "$state/made" ] || remove_made "$state/made"
	rm -rf "$state"
done
remove_cgroups
