#!/bin/bash
# install.sh [HELM ARGUMENTS...]: loads the image that `make image` makes into both nodes, and installs or upgrades the chart
# with it. IMAGE is another archive; CHART_DIR another chart.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
ROOT=$(realpath "$HERE/../..")
IMAGE=${IMAGE:-$ROOT/target/ringfence-image.tar}

[ -s "$IMAGE" ] || die "$IMAGE is not there: make image"
index=$(tar -xOf "$IMAGE" index.json)
tag=$(sed -n 's|.*"docker.io/library/ringfence:\([^"]*\)".*|\1|p' <<<"$index")
digest=$(sed -n 's|.*"digest":"sha256:\([0-9a-f]*\)".*|\1|p' <<<"$index")
[ -n "$tag" ] && [ -n "$digest" ] || die "$IMAGE holds no docker.io/library/ringfence"
"$HERE/load.sh" "$IMAGE"
say "image ringfence:$tag is on both nodes, $(($(stat -c %s "$IMAGE") / 100000))00 kB"
# The annotation makes new pods of a new image, though its tag stays.
"$STATE/bin/helm" upgrade --install ringfence "${CHART_DIR:-$ROOT/charts/ringfence}" --namespace ringfence-system --create-namespace \
	--set "image.repository=ringfence,image.tag=$tag,image.pullPolicy=Never" \
	--set-string "podAnnotations.image=${digest:0:16},agent.podAnnotations.image=${digest:0:16}" --wait --timeout 120s "$@" \
	>"$STATE/log/helm.log" 2>&1 || die "the chart could not be installed: see $STATE/log/helm.log: $(tail -1 "$STATE/log/helm.log")"
say "the chart is installed in ringfence-system"
