# shellcheck shell=bash
# What the scenarios of the chart share. They run on a cluster that is up, and count what fails.

# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/../lib.sh"
ROOT=$(realpath "$HERE/../..")
K=$STATE/bin/kubectl
NAMESPACE=ringfence-system
failures=0
checks=0

# What the release's pods said last, and who leads; for who reads of a failure. It holds up nothing for long.
last_words() {
	# shellcheck disable=SC2016
	timeout 20 bash -c '
		"$1" -n "$2" get leases -o custom-columns=LEASE:.metadata.name,HOLDER:.spec.holderIdentity,RENEWED:.spec.renewTime
		for pod in $("$1" -n "$2" get pods -o name); do
			echo "--- $pod"
			"$1" -n "$2" logs --all-containers --tail 20 "$pod" || true # it has not begun, or is gone
		done' _ "$K" "$NAMESPACE" >&2 || echo "(no more of it within 20 s)" >&2
}

# Of the first failure it is said at once what pods said, too: they may be gone in the end.
fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
	[ "$failures" != 1 ] || last_words
}

# holds WHAT COMMAND...: it succeeds.
holds() {
	local what=$1 said
	shift
	checks=$((checks + 1))
	said=$("$@" 2>&1) || fail "$what: $said"
}

# refused WHAT TEXT COMMAND...: it fails, and says the text.
refused() {
	local what=$1 text=$2 said
	shift 2
	checks=$((checks + 1))
	if said=$("$@" 2>&1); then
		fail "$what: it was taken: $said"
	elif [[ $said != *"$text"* ]]; then
		fail "$what: refused without \"$text\": $said"
	fi
}

# within SECONDS WHAT COMMAND...: it succeeds sooner or later.
within() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	checks=$((checks + 1))
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$end" ] || { fail "$what"; return; }
		sleep 0.2
	done
}

# install HELM ARGUMENTS...: as install.sh does it.
install() { "$HERE/install.sh" "$@" >/dev/null || die "the chart could not be installed"; }

# A policy that is right, and selects nothing, is asked about and not stored.
asks() { "$K" create --dry-run=server -f - <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: asked, namespace: default}, spec: {podSelector: {matchLabels: {app: none}}, policyTypes: [Ingress], ingress: [{from: [{podSelector: {}}]}]}}"; }

done_with() { # done_with WHAT
	if [ "$failures" != 0 ]; then
		last_words
		echo "$1: $failures failed" >&2
		exit 1
	fi
	say "$1: $checks checks passed"
}
