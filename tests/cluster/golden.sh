#!/bin/bash
# golden.sh [CASE...]: what kubectl prints, compared with golden/CASE.txt; REWRITE=1 writes those files. A case is a manifest,
# CASE.yaml, which is given to the five commands below, or CASE.commands, one command a line. Nothing is left between two of
# the five; a list of commands goes on from one to the next. CASE.values has values of the chart, which is upgraded for it.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
cd "$HERE/golden"
export PATH=$STATE/bin:$PATH
made=$(mktemp -d) values=""
# shellcheck disable=SC2317
finish() {
	rm -rf "$made"
	[ -z "$values" ] || "$HERE/install.sh" >/dev/null
	kubectl delete -f setup.yaml --ignore-not-found --wait=false >/dev/null
}
trap finish EXIT

five() { # five MANIFEST
	local how
	for how in create apply "apply --server-side" "create --dry-run=server" "create --dry-run=client"; do
		echo "kubectl $how -f $1"
	done
}
clean() {
	# What shows a baseline goes with the baseline, and by nobody's hand.
	kubectl -n shop delete networkpolicies --field-selector metadata.name!=ringfence-baseline >/dev/null
	kubectl -n fenced delete pod one --ignore-not-found --now >/dev/null 2>&1
}
# What is another one each time, and where it is.
without_chance() {
	sed -E -e 's/[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/TIME/g' -e 's/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}/UID/g' -e 's/(resourceVersion: )"[0-9]+"/\1"VERSION"/' -e 's/[[:space:]]+$//'
}
# The transcript of the commands on standard input: each behind a $, what it printed, and its exit code unless it is 0.
transcript() { # transcript [CLEAN]
	local command status printed
	while read -r -u 4 command; do
		[ -n "$command" ] || continue
		status=0
		printed=$(timeout 60 bash -c "$command" 2>&1 </dev/null) || status=$?
		printf '$ %s\n' "$command"
		[ -z "$printed" ] || without_chance <<<"$printed"
		[ "$status" = 0 ] || echo "exit code $status"
		[ -z "${1:-}" ] || [[ $command == *--dry-run* ]] || clean
	done 4<&0
}

cases=("$@")
if [ $# = 0 ]; then
	for file in *.yaml; do
		case=${file%.yaml}
		[ "$case" = setup ] || [ -e "$case.commands" ] || cases+=("$case")
	done
	# Those with values last, so that the chart is upgraded as seldom as can be.
	for file in *.commands; do [ -e "${file%.commands}.values" ] || cases+=("${file%.commands}"); done
	for file in *.values; do cases+=("${file%.values}"); done
fi
kubectl apply -f setup.yaml >/dev/null
# Until everybody who answers has heard of it.
heard() { for _ in 1 2 3 4; do ! kubectl create --dry-run=server -f right.yaml 2>&1 | grep -q Warning || return; done; }
eventually 30 "the webhook does not know the pods of shop" cp/apiserver heard
differ=()
for case in "${cases[@]}"; do
	clean
	if [ -e "$case.values" ]; then
		values=$case.values
		"$HERE/install.sh" --set "$(cat "$values")" >/dev/null
	fi
	if [ -e "$case.commands" ]; then
		transcript <"$case.commands" >"$made/$case.txt"
	else
		five "$case.yaml" | transcript clean >"$made/$case.txt"
	fi
	if [ "${REWRITE:-0}" = 1 ]; then
		cp "$made/$case.txt" "$case.txt"
	elif ! diff -u --label "golden/$case.txt" --label "kubectl now" "$case.txt" "$made/$case.txt" >&2; then
		differ+=("$case")
	fi
done
if [ "${#differ[@]}" != 0 ]; then
	die "what kubectl prints is not what it was: ${differ[*]}; REWRITE=1 golden.sh CASE takes it in, once it has been read"
fi
say "what kubectl prints: ${#cases[@]} cases as written down"
