#!/bin/bash
# load.sh ARCHIVE...: imports image archives into both nodes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"

for node in n1 n2; do
	for archive in "$@"; do
		# On standard input, as a node does not see all files of the host.
		inside "$node" timeout 120 ctr --namespace k8s.io images import - <"$archive" >>"$STATE/log/$node-images.log" 2>&1 ||
			die "$archive could not be imported into $node: see $STATE/log/$node-images.log"
	done &
	imports+=($!)
done
for import in "${imports[@]}"; do wait "$import"; done
