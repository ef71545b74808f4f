#!/bin/bash
# conformance.sh: everything that takes a cluster, on new ones, each gone again afterwards: the network, what kubectl prints,
# traffic while things come and go, Kubernetes' own NetworkPolicy specs, the chart's life.
#
# Without PROXY and DUAL that is a cluster of IPv4 and kube-proxy in nftables mode for all of it, and one of both families and
# iptables mode for a part; with one of them, all of it on such a cluster alone. Results in target/conformance/MODE: netpol.xml
# (JUnit), netpol.log, and the cluster's logs if something failed. Specs that may fail stand in known-failures.txt.
#   FOCUS=REGEX  only these specs and nothing else    CHART=0  without Ringfence, to see the runner: what should be denied is not
#   KEEP=1       leaves the cluster up                PROCS=N  specs at the same time (3)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
ROOT=$(realpath "$HERE/../..")
OUT=${OUT:-$ROOT/target/conformance}
for program in netpol.test ginkgo traffic; do
	[ -x "$BIN/$program" ] || die "$BIN/$program is not there: run build.sh first"
done
# Of the suite, for the second cluster: each kind of peer, of port and of change, one spec each.
PART='default-deny-all|both ingress and egress|AND and OR|endPort|named port|IPBlock.CIDR and IPBlock.Except|updated (policy|pod)|using UDP'
rm -rf "$OUT"
mkdir -p "$OUT"

finish() {
	local status=$?
	trap - EXIT
	if [ -n "${mode:-}" ]; then
		[ $status = 0 ] || cp -r "$STATE/log" "$OUT/$mode/" 2>/dev/null || true
		[ "${KEEP:-0}" = 1 ] || "$HERE/down.sh" || status=1
	fi
	[ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID" "$OUT"
	exit $status
}
trap finish EXIT

# stage COMMAND...: with its own time, and a name for who fails.
stage() {
	local begin=$SECONDS
	timeout 1500 "$@" || die "$mode: $(basename "$1") failed"
	say "$mode: $(basename "$1") took $((SECONDS - begin)) s"
}

# suite FOCUS: ginkgo's own program runs the specs, several at a time; the last line is the summary.
suite() {
	local focus=() teller status=0 out=$OUT/$mode
	[ -z "$1" ] || focus=(--focus "$1")
	say "running the specs; three that need SCTP sockets are left out, as not every kernel can speak it"
	: >"$out/progress"
	tail -n +1 -f "$out/progress" &
	teller=$!
	(cd "$out" && on_net cp timeout 1500 "$BIN/ginkgo" --procs="${PROCS:-3}" --no-color -v --timeout 24m --skip '\[Feature:SCTPConnectivity\]' \
		"${focus[@]}" --output-dir "$out" --junit-report netpol.xml "$BIN/netpol.test" -- --kubeconfig "$STATE/admin.conf" \
		--provider skeleton --known-failures "$HERE/known-failures.txt" --progress "$out/progress" >"$out/netpol.log" 2>&1) || status=$?
	sleep 1.5 # what tail has not seen
	kill "$teller"
	wait "$teller" 2>/dev/null || true
	[ $status = 0 ] || die "$mode: the suite failed: see $out/netpol.log"
	tail -1 "$out/progress" >>"$OUT/summary"
}

# on_cluster PROXY DUAL all|part|FOCUS
on_cluster() {
	local begin=$SECONDS script
	export PROXY=$1 DUAL=$2
	mode=$PROXY${DUAL:+-dual}
	mkdir -p "$OUT/$mode"
	say "$mode: a new cluster"
	"$HERE/up.sh"
	[ "${CHART:-1}" = 0 ] || "$HERE/install.sh"
	case $3 in
	all)
		stage "$HERE/killed.sh"
		stage "$HERE/check.sh"
		stage "$HERE/golden.sh"
		for script in "$HERE"/scenarios/*.sh; do stage "$script"; done
		suite ""
		# The last ones: they install the chart otherwise, and take it away.
		for script in "$HERE"/chart/*.sh; do [ "${script##*/}" = lib.sh ] || stage "$script"; done
		;;
	part)
		stage "$HERE/check.sh"
		stage "$HERE/scenarios/three-tiers.sh"
		suite "$PART"
		;;
	*) suite "$3" ;;
	esac
	[ "${KEEP:-0}" = 1 ] || "$HERE/down.sh"
	echo "$mode: $((SECONDS - begin)) s" >>"$OUT/summary"
	[ "${KEEP:-0}" = 1 ] || mode=""
}

DUAL=${DUAL:-}
[ "$DUAL" != 0 ] || DUAL=""
if [ -n "${FOCUS:-}" ]; then
	on_cluster "${PROXY:-nftables}" "$DUAL" "$FOCUS"
elif [ -n "${PROXY:-}$DUAL" ]; then
	on_cluster "${PROXY:-nftables}" "$DUAL" all
else
	on_cluster nftables "" all
	[ "${KEEP:-0}" = 1 ] || on_cluster iptables 1 part
fi
say "conformance:"
cat "$OUT/summary"
