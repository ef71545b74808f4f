#!/bin/bash
# lifecycle.sh: install, upgrade, rollback, uninstall, each in one pass; and nothing is left that could block the cluster or drop
# a packet. The chart is not installed before, nor after.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
helm=("$STATE/bin/helm" --namespace "$NAMESPACE")
"${helm[@]}" uninstall ringfence --ignore-not-found --wait >/dev/null 2>&1 || true

install
holds "asking after the install" asks
holds "helm test" "${helm[@]}" test ringfence
bundle() { "$K" get validatingwebhookconfiguration ringfence -o 'jsonpath={.webhooks[*].clientConfig.caBundle}'; }
before=$(bundle)
holds "the caBundle is there" [ -n "$before" ]

install --set replicas=3,agent.baseline=deny-ingress
holds "asking after the upgrade" asks
holds "the caBundle stays at an upgrade" [ "$(bundle)" = "$before" ]
holds "rollback" "${helm[@]}" rollback ringfence 1 --wait --timeout 120s
holds "asking after the rollback" asks
holds "the caBundle stays at a rollback" [ "$(bundle)" = "$before" ]
replicas() { [ "$("$K" -n "$NAMESPACE" get deployment ringfence -o 'jsonpath={.status.readyReplicas}')" = 2 ]; }
within 60 "two replicas after the rollback" replicas

"$K" create namespace rf-life >/dev/null
trap '"$K" delete --ignore-not-found --wait=false namespace rf-life >/dev/null' EXIT
"$K" label namespace rf-life ringfence.dev/baseline=deny-all >/dev/null
# A leader that ended without giving its Lease back is replaced after 15 to 18 s.
within 30 "a baseline is shown" "$K" -n rf-life get networkpolicy ringfence-baseline
holds "uninstall" "${helm[@]}" uninstall ringfence --wait --timeout 120s
left() {
	"$K" get mutatingwebhookconfiguration,validatingwebhookconfiguration,validatingadmissionpolicy,validatingadmissionpolicybinding,clusterrole,clusterrolebinding -o name | grep ringfence || true
	"$K" -n "$NAMESPACE" get secret,lease,configmap,networkpolicy,serviceaccount,role,rolebinding,service,deployment,daemonset,pod -o name | grep -v -e kube-root-ca -e /default$ || true
	"$K" -n kube-system get role,rolebinding -o name | grep ringfence || true
	"$K" get networkpolicy --all-namespaces -o name | grep baseline || true
	for node in n1 n2; do "$STATE/bin/on" "$node" find /sys/fs/bpf -name '*ringfence*' | sed "s/^/$node:/"; done
}
nothing() { [ -z "$(left)" ]; }
within 60 "nothing is left" nothing
nothing || echo "left: $(left | xargs)" >&2
holds "a policy can be written" asks
holds "a namespace can be opened" "$K" label namespace rf-life ringfence.dev/baseline-
done_with "install, upgrade, rollback, uninstall"
