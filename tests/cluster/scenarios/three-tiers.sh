#!/bin/bash
# Real traffic between the tiers by pod addresses, Services, NodePorts and hairpin: everything before there are policies,
# what they admit afterwards, and everything again when they are gone.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "$0")")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../tiers.sh
. "$HERE/tiers.sh"
trap tiers_gone EXIT

tiers
look() { # look open|fenced WHAT
	flows "$1" | traffic streams --state "$STATE" --settle 20s --for 2s >"$STATE/log/streams-$1.log" 2>&1 || {
		cat "$STATE/log/streams-$1.log" >&2
		die "three tiers, $2: not as it should be"
	}
	say "three tiers, $2: $(grep -c '^ok ' "$STATE/log/streams-$1.log") flows as they should be"
}
look open "no policies"
policies
look fenced "their policies"
kubectl delete networkpolicies --all -n "$SPACE" >/dev/null
look open "no policies any more"
