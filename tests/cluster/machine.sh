#!/bin/bash
# machine.sh NAME: the beginning of a machine, already in namespaces of its own. Gives it the file systems that a machine
# does not share with others, says that it is ready, and becomes pause, which reaps what its parents left behind.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
name=$1
own=$STATE/$name

# A /sys that shows the interfaces of this machine, with the host's cgroups and a bpffs of its own: two agents that shared
# one would share their pins.
mount --rbind /sys/fs/cgroup "$own/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$own/cgroup" /sys/fs/cgroup
umount -l "$own/cgroup"
mount -t bpf bpf /sys/fs/bpf

# What a node keeps at well-known places. up.sh has made the mount points.
while read -r place; do
	mkdir -p "$own/root$place"
	mount --bind "$own/root$place" "$place"
done <"$STATE/places"

# Kubernetes wants mounts to propagate into containers. This is a new peer group: nothing propagates to the host. Last of the
# mounts, or unmounting the copy above would unmount its peers.
mount --make-rshared /

ip link set lo up
touch "$own/ready"
exec "$BIN/pause"
