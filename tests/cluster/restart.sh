#!/bin/bash
# restart.sh MACHINE/SERVICE [stop|start]: ends a program of the cluster and runs it again, or only one of both. It is
# terminated, and killed when it takes longer than 10 s (an API server waits for its watchers a minute long); SIGNAL=KILL does
# not ask. The services: cp/etcd, cp/apiserver, cp/controller-manager, cp/scheduler, and containerd, kubelet, proxy and
# flannel of n1 and n2.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
service=${1:?"restart.sh MACHINE/SERVICE [stop|start]"} what=${2:-both}
[ -x "$STATE/services/$service" ] || die "there is no service $service: $(cd "$STATE/services" && find . -type f ! -name '*.id' -printf '%P ')"

if [ "$what" != start ] && service_alive "$service"; then
	read -r pid _ <"$STATE/services/$service.id"
	gone() { ! service_alive "$service"; }
	inside "${service%/*}" kill "-${SIGNAL:-TERM}" "$pid"
	for ((tries = 0; tries < 100; tries++)); do
		! gone || break
		sleep 0.1
	done
	if ! gone; then
		say "$service does not end: killing it"
		inside "${service%/*}" kill -KILL "$pid"
		eventually 10 "$service did not end" "$service" gone
	fi
fi
[ "$what" = stop ] || launch "$service"
