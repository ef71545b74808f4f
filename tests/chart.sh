#!/bin/bash
# usage: chart.sh RINGFENCE     what can be known of the helm chart without a cluster
# Lint and render with every file of charts/ringfence/ci, judge the rendered policies by our own catalogue, and give values
# that have to be refused.
set -euo pipefail
cd "$(dirname "$0")/.."
ringfence=$1
chart=charts/ringfence
kubernetes=1.30.0 # the oldest that the chart allows
if ! command -v helm >/dev/null; then
	echo "chart.sh: helm is not here; install it: go install helm.sh/helm/v4/cmd/helm@v4.3.1" >&2
	exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
	echo "FAILED: $*" >&2
	failures=$((failures + 1))
}
render() { # render NAMESPACE [HELM-ARGUMENTS...]
	helm template ringfence "$chart" --kube-version "$kubernetes" --namespace "$@"
}

# The agent is what fences: it needs what others may not have. The webhook answers API servers and asks them: no peer can name them.
needed=()
for rule in pod-host-network pod-host-path pod-host-port pod-kernel-capabilities pod-net-admin pod-probe-host open-to-everybody open-to-anywhere; do needed+=(--rule "$rule=off"); done

rendered=0
for values in "$chart"/ci/*-values.yaml; do
	name=$(basename "$values" -values.yaml)
	helm lint --strict --kube-version "$kubernetes" --quiet --values "$values" "$chart" || fail "helm lint: $name"
	for namespace in ringfence-system default; do
		out="$work/$name-$namespace.yaml"
		render "$namespace" --values "$values" >"$out" || { fail "helm template: $name in $namespace"; continue; }
		rendered=$((rendered + 1))
		# Everything that is YAML and everything in policies; a warning of ours about our own policies is a mistake.
		said=$("$ringfence" check "${needed[@]}" "$out") || fail "ringfence check: $name in $namespace: $said"
		[[ $said == "nothing wrong"* ]] || fail "ringfence check: $name in $namespace: $said"
		# No hooks but the test, and nothing that could hold up an uninstall.
		if grep -E '^ *"?helm.sh/hook"?:' "$out" | grep -qv 'helm.sh/hook: test$'; then fail "$name: a hook that is no test"; fi
		if grep -qE 'finalizers:|privileged: true|hostPID|hostIPC|SYS_ADMIN' "$out"; then fail "$name: more than is needed"; fi
		# A variable that nobody sets would be taken as it is written.
		# shellcheck disable=SC2016
		for variable in $(grep -o '\$([A-Z_]*)' "$out" | tr -d '$()' | sort -u); do
			grep -q "name: $variable\$" "$out" || fail "$name: nobody sets \$($variable)"
		done
		# Options that the rendered pods give are options of the program.
		for component in admission agent; do
			known=$("$ringfence" "$component" --help)
			for option in $(awk -v c="- $component" 'index($0, c) && $1 == "-" && NF == 2 { on = 1; next } on && /^ *- --/ { sub(/=.*/, ""); print $2; next } { on = 0 }' "$out"); do
				[[ $known == *"$option"* ]] || fail "$name: ringfence $component has no option $option"
			done
		done
	done
done
[ "$rendered" -ge 10 ] || fail "only $rendered renderings"

# The way in and the way out: two releases do not meet.
same=$(comm -12 <(render one | sed -n 's/^  name: //p' | sort -u) <(render two | sed -n 's/^  name: //p' | sort -u))
cluster=$(render one | awk '/^kind: (Cluster|Validating|Mutating)/ { on = 1 } on && /^  name:/ { print $2; on = 0 }' | sort -u)
for name in $cluster; do
	if grep -qx "$name" <<<"$same"; then fail "releases in two namespaces would share $name"; fi
done

# Values out of range are refused, and the message says where.
refused=0
refuses() { # refuses PATH HELM-ARGUMENTS...
	local path=$1 said
	shift
	if said=$(render ringfence-system "$@" 2>&1); then
		fail "taken though it is wrong: $*"
	elif [[ $said != *"$path"* ]]; then
		fail "$* is refused without saying $path: $said"
	fi
	refused=$((refused + 1))
}
refuses /replicas --set replicas=0
refuses /replicas --set-string replicas=2
refuses /agent/baseline --set agent.baseline=deny
refuses /agent/baseline --set agent.baseline=false
refuses /agent/baselineFor --set agent.baselineFor=old
refuses /agent/mode --set agent.mode=off
refuses /agent/unknownPods --set agent.unknownPods=allow
refuses /agent/cniResults --set agent.cniResults=var/lib
refuses /agent/startupTaint --set-string agent.startupTaint=yes
refuses /rules --set rules.ignored-rules=fatal
refuses /agent/ops/port --set agent.ops.port=80
refuses /agent/enabled --set-string agent.enabled=yes
refuses /agent --set agent.privileged=true
refuses /agent/seccompProfile/type --set agent.seccompProfile.type=None
refuses /webhooks/timeoutSeconds --set webhooks.timeoutSeconds=31
refuses /webhooks/validating/pods/failurePolicy --set webhooks.validating.pods.failurePolicy=fail
refuses /webhooks/mutating --set webhooks.mutating.failurePolicy=Fail
refuses /tls/selfMade/caRotation --set tls.selfMade.caRotation=90
refuses /tls/caBundle --set tls.secretName=x --set 'tls.caBundle=-----BEGIN'
refuses /tls/clientCA --set tls.clientCA=Q0E=
refuses tls.caBundle --set tls.secretName=x
refuses tls.secretName --set tls.caBundle=Q0E=
refuses tls.secretName --set tls.certManager.enabled=true --set tls.secretName=x --set tls.caBundle=Q0E=
refuses /tls/certManager/issuerRef --set tls.certManager.enabled=true --set tls.certManager.issuerRef.kind=Issuer
refuses /image/tag --set image.tag=a:b
refuses /metrics/serviceMonitor/interval --set metrics.serviceMonitor.interval=30
refuses /test/namespace --set test.namespace=Default
refuses replica --set replica=3
if render ringfence-system --kube-version 1.29.9 >/dev/null 2>&1; then fail "Kubernetes 1.29 is taken"; fi

# What the dashboard shows is counted somewhere.
for metric in $(grep -o 'ringfence_[a-z_]*' "$chart/files/dashboard.json" | sort -u); do
	name=$(sed -E 's/^ringfence_(admission_)?//; s/_(total|bucket|info)$//' <<<"$metric")
	grep -rqE "register\\(\"$name\"" src || fail "the dashboard shows $metric, which nothing counts"
done

# Every value has its default in values.yaml and its place in the schema.
python=$(command -v python3 || true)
if [ -n "$python" ]; then
	helm show values "$chart" | grep -oE '^[a-zA-Z]+' | sort -u >"$work/values"
	"$python" -c 'import json,sys; print("\n".join(json.load(open(sys.argv[1]))["properties"]))' "$chart/values.schema.json" |
		grep -vx global | sort -u >"$work/schema"
	cmp -s "$work/values" "$work/schema" || fail "values.yaml and its schema differ: $(comm -3 "$work/values" "$work/schema" | xargs)"
else
	fail "python3 is not here to compare values.yaml with its schema; install it"
fi

if [ "$failures" -gt 0 ]; then
	echo "the chart: $failures failed" >&2
	exit 1
fi
echo "the chart: $rendered renderings clean, $refused wrong values refused"
