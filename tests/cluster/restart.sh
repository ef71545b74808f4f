#!/bin/bash
# restart.sh MACHINE/SERVICE [stop|start]: ends a program of the cluster and runs it again, or only one of both.
# SIGNAL=KILL ends it at once. The services: cp/etcd, cp/apiserver, cp/controller-manager, cp/scheduler, and containerd,
# kubelet, proxy and flannel of n1 and n2.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
service=${1:?"restart.sh MACHINE/SERVICE [stop|start]"} what=${2:-both}
[ -x "$STATE/services/$service" ] || die "there is no service $service: one of $(cd "$STATE/services" && echo */*[!.id])"

if [ "$what" != start ] && service_alive "$service"; then
	read -r pid _ <"$STATE/services/$service.id"
	inside "${service%/*}" kill "-${SIGNAL:-TERM}" "$pid"
	gone() { ! service_alive "$service"; }
	eventually 60 "$service did not end" "$service" gone
fi
[ "$what" = stop ] || launch "$service"
