#!/bin/bash
# conformance.sh: a new cluster, the chart on it, Kubernetes' own NetworkPolicy specs against it, and the cluster gone again.
# Results in target/conformance: netpol.xml (JUnit), netpol.log, and the cluster's logs if something failed. Specs that may
# fail stand in known-failures.txt.
#   FOCUS=REGEX  only these specs         CHART=0  without Ringfence, to see the runner: what should be denied is not
#   KEEP=1       leaves the cluster up    PROXY, DUAL as for up.sh
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
ROOT=$(realpath "$HERE/../..")
OUT=${OUT:-$ROOT/target/conformance}
[ -x "$BIN/netpol.test" ] || die "$BIN/netpol.test is not there: run build.sh first"

rm -rf "$OUT"
mkdir -p "$OUT"
finish() {
	local status=$?
	[ $status = 0 ] || cp -r "$STATE/log" "$OUT/" 2>/dev/null || true
	[ "${KEEP:-0}" = 1 ] || "$HERE/down.sh"
	[ -z "${SUDO_UID:-}" ] || chown -R "$SUDO_UID" "$OUT"
	exit $status
}
trap finish EXIT
"$HERE/up.sh"
[ "${CHART:-1}" = 0 ] || "$HERE/install.sh"

focus=()
[ -z "${FOCUS:-}" ] || focus=(--ginkgo.focus "$FOCUS")
say "running the specs; three that need SCTP sockets are left out, as not every kernel can speak it"
cd "$OUT"
on_net cp timeout 3000 "$BIN/netpol.test" --kubeconfig "$STATE/admin.conf" --provider skeleton --ginkgo.no-color --ginkgo.v \
	--ginkgo.timeout 45m --ginkgo.skip '\[Feature:SCTPConnectivity\]' "${focus[@]}" --ginkgo.junit-report "$OUT/netpol.xml" \
	--known-failures "$HERE/known-failures.txt" --progress-fd 3 3>&1 >"$OUT/netpol.log" 2>&1 ||
	die "the suite failed: see $OUT/netpol.log"
