# shellcheck shell=bash disable=SC2034
# What the scripts of the cluster share: where things are, how to speak, processes by id and start time, machines.

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
STATE=${RINGFENCE_CLUSTER_DIR:-/run/ringfence-cluster}
# A cluster that runs remembers whose programs it runs: under sudo the home directory is another one.
CACHE=${RINGFENCE_CLUSTER_CACHE:-$(readlink "$STATE/programs" || echo "${XDG_CACHE_HOME:-$HOME/.cache}/ringfence-cluster")}
BIN=$CACHE/bin
NODES=(n1 n2)
declare -A V4=([cp]=172.30.0.1 [n1]=172.30.0.11 [n2]=172.30.0.12) V6=([cp]=fd00:30::1 [n1]=fd00:30::11 [n2]=fd00:30::12)
IMAGES=$CACHE/images
# Cgroups are the only names that clusters in different directories would share.
CGROUP=rf-cluster-$(printf %s "$STATE" | cksum | cut -d' ' -f1)
PATH=$BIN:$PATH:/usr/sbin:/sbin

say() { printf '%4d s  %s\n' "$SECONDS" "$*"; }
die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# started ID: when the process started, or nothing if it is gone or only waits for its parent to notice. The second field
# of /proc/ID/stat, its name, may hold anything: cut behind it come the state and, as field 22 of the whole, the time.
started() {
	local stat
	stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	read -r -a stat <<<"${stat##*) }"
	[ "${stat[0]}" != Z ] && echo "${stat[19]}"
}

# Is the process whose id and start time stand in FILE still there?
alive() {
	local pid since
	read -r pid since 2>/dev/null <"$1" || return 1
	[ "$(started "$pid")" = "$since" ]
}

# A machine is a set of namespaces (network, mounts, processes) without any name on the host. Its first process ends with
# the process whose id stands in machines/NAME, and everything in it ends with its first process.
machine_id() {
	alive "$STATE/machines/$1" || die "machine $1 is not running: start with up.sh"
	cut -d' ' -f1 "$STATE/machines/$1"
}

# on_net MACHINE COMMAND...: in its network only, with the files and processes of the host
on_net() {
	local id
	id=$(machine_id "$1")
	shift
	nsenter --target "$id" --net -- "$@"
}

# inside MACHINE COMMAND...
inside() {
	local id
	id=$(machine_id "$1")
	shift
	nsenter --target "$id" --net --mount --pid="/proc/$id/ns/pid_for_children" -- "$@"
}

# launch MACHINE/SERVICE: runs services/MACHINE/SERVICE, a script that writes its id and becomes the program.
launch() {
	local id
	id=$(machine_id "${1%/*}")
	rm -f "$STATE/services/$1.id"
	setsid --fork nsenter --target "$id" --net --mount --pid="/proc/$id/ns/pid_for_children" -- \
		"$STATE/services/$1" </dev/null >>"$STATE/log/${1/\//-}.log" 2>&1
	eventually 10 "$1 did not start" "$1" test -s "$STATE/services/$1.id"
}

# The id in the file is one of the machine's own: it has an other number outside.
service_alive() {
	# shellcheck disable=SC2016
	inside "${1%/*}" bash -c '. "$1/lib.sh"; alive "$2"' _ "$HERE" "$STATE/services/$1.id"
}

log_of() { echo "$STATE/log/${1/\//-}.log"; }

# eventually SECONDS COMPLAINT MACHINE/SERVICE COMMAND...: tries the command until it succeeds; the service is whom to blame.
eventually() {
	local seconds=$1 complaint=$2 service=$3 end=$((SECONDS + $1)) tries=0
	shift 3
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || die "$complaint in $seconds s: see $(log_of "$service")"
		# Who has ended will not do it any more.
		if [ $((tries += 1)) = 20 ]; then
			tries=0
			[ ! -s "$STATE/services/$service.id" ] || service_alive "$service" || [ "$1" = gone ] ||
				die "$complaint: $service has ended: see $(log_of "$service")"
		fi
		sleep 0.1
	done
}

# The id stands in its file before there is anything to end, so that down.sh finds it however this script ends.
machine() {
	local name=$1
	mkdir -p "$STATE/$name"/{cgroup,root} "$STATE/services/$name"
	# shellcheck disable=SC2016
	setsid --fork bash -euc '. "$1/lib.sh"
		echo "$$ $(started $$)" >"$STATE/machines/$2"
		exec unshare --net --mount --pid --fork --kill-child --mount-proc "$1/machine.sh" "$2"' _ "$HERE" "$name" \
		</dev/null >"$STATE/log/$name-machine.log" 2>&1
	eventually 10 "machine $name did not start" "$name/machine" test -e "$STATE/$name/ready"
}

# plug NODE: into the switch of cp
plug() {
	local netns
	netns=$(machine_id "$1")
	# The same card each time: somebody may remember it.
	on_net cp ip link add "$1" type veth peer name eth0 address "02:00:ac:1e:00:$(printf %02x "${V4[$1]##*.}")" netns "$netns"
	on_net cp ip link set "$1" master switch up
	on_net "$1" ip link set eth0 up
	address "$1" eth0
	on_net "$1" ip route add default via "${V4[cp]}"
	[ -z "$DUAL" ] || on_net "$1" ip -6 route add default via "${V6[cp]}"
	setting "$1" net/ipv4/ip_forward 1
	setting "$1" net/bridge/bridge-nf-call-iptables 1
	setting "$1" net/bridge/bridge-nf-call-ip6tables 1
	[ -z "$DUAL" ] || setting "$1" net/ipv6/conf/all/forwarding 1
}
address() { # address MACHINE INTERFACE
	on_net "$1" ip addr add "${V4[$1]}/24" dev "$2"
	[ -n "$DUAL" ] || return 0
	setting "$1" net/ipv6/conf/all/disable_ipv6 0
	on_net "$1" ip addr add "${V6[$1]}/64" dev "$2" nodad
}
# shellcheck disable=SC2016
setting() { on_net "$1" bash -c 'echo "$2" >"/proc/sys/$1"' _ "$2" "$3"; }

# gone FILE: waits until the process whose id stands there is gone.
gone() {
	local tries=300
	while alive "$1"; do
		[ $((tries -= 1)) -gt 0 ] || die "process $(cut -d' ' -f1 "$1") does not end"
		sleep 0.1
	done
}

# end FILE: kills the process whose id stands there, and what it has started.
end() {
	local pid child
	alive "$1" || return 0
	read -r pid _ <"$1"
	# The first process of a machine's namespace: it is gone when all the others are.
	child=$(ps -o pid= --ppid "$pid" | tr -d ' ' | head -1) || true # none, yet
	[ -z "$child" ] || echo "$child $(started "$child")" >"$1.child"
	kill -KILL "$pid"
	gone "$1"
	[ -z "$child" ] || gone "$1.child"
}
