#!/bin/bash
# install.sh [HELM ARGUMENTS...]: packs target/release/ringfence as the image ringfence:test, loads it into both nodes, and
# installs or upgrades the chart with it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
ROOT=$(realpath "$HERE/../..")
BINARY=${BINARY:-$ROOT/target/release/ringfence}

[ -x "$BINARY" ] || die "$BINARY is not there: make build"
"$HERE/image.sh" "$STATE/ringfence.tar" docker.io/library/ringfence:test /ringfence "$BINARY=/ringfence"
"$HERE/load.sh" "$STATE/ringfence.tar"
say "image ringfence:test is on both nodes, $(($(stat -c %s "$STATE/ringfence.tar") / 1000000)) MB"
# The annotation makes new pods of a new binary, though its tag stays.
"$STATE/bin/helm" upgrade --install ringfence "$ROOT/charts/ringfence" --namespace ringfence-system --create-namespace \
	--set image.repository=ringfence,image.tag=test,image.pullPolicy=Never \
	--set-string "podAnnotations.binary=$(sha256sum "$BINARY" | cut -c1-16)" --wait --timeout 120s "$@" \
	>"$STATE/log/helm.log" 2>&1 || die "the chart could not be installed: see $STATE/log/helm.log: $(tail -1 "$STATE/log/helm.log")"
say "the chart is installed in ringfence-system"
