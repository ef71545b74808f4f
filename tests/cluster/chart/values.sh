#!/bin/bash
# values.sh: what the chart renders with every values file of charts/ringfence/ci is taken by a real API server. Nothing is
# stored. Kinds of other projects (cert-manager, Prometheus) are unknown to it and are left out.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
# Where the objects would be.
made=()
for namespace in "$NAMESPACE" apps; do
	! "$K" create namespace "$namespace" >/dev/null 2>&1 || made+=("$namespace")
done
trap '[ ${#made[@]} = 0 ] || "$K" delete namespace --wait=false "${made[@]}" >/dev/null' EXIT

for values in "$ROOT"/charts/ringfence/ci/*-values.yaml; do
	name=$(basename "$values" -values.yaml)
	said=$("$STATE/bin/helm" template dry "$ROOT/charts/ringfence" --namespace "$NAMESPACE" --values "$values" |
		"$K" apply --dry-run=server -f - 2>&1) || true
	taken=$(grep -cE '(created|configured|unchanged) \(server dry run\)$' <<<"$said") || true
	other=$(grep -vE '(created|configured|unchanged) \(server dry run\)$|no matches for kind "(Certificate|Issuer|ServiceMonitor)"|^ensure CRDs' <<<"$said") || true
	checks=$((checks + 1))
	[[ $taken -ge 10 && -z $other ]] || fail "$name: $taken objects taken, and: $other"
done
done_with "values files"
