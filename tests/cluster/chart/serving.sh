#!/bin/bash
# serving.sh: the webhook as some clusters need it: on the network of its nodes, for clients with a certificate only, with a
# certificate that somebody else makes. The chart is installed.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
files=$(mktemp -d)
maker=""
finish() {
	[ -z "$maker" ] || kill "$maker" 2>/dev/null || true
	"$K" delete --ignore-not-found --timeout=30s crd issuers.cert-manager.io certificates.cert-manager.io >/dev/null || true
	# kubectl remembers kinds for hours.
	rm -rf "$STATE/cache/kubectl"
	"$K" delete --ignore-not-found secret -n "$NAMESPACE" ringfence-tls >/dev/null
	rm -rf "$files"
}
trap finish EXIT
wrong() { "$K" create --dry-run=server -f - <<<"{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: wrong, namespace: default}, spec: {podSelector: {}, policyTypes: [Egress], ingress: [{}]}}"; }
answers() { # answers HOW: what is right is taken, and what is wrong is refused in our words
	holds "asking $1" asks
	refused "a wrong policy $1" ringfence wrong
}

install --set hostNetwork=true,ports.https=9643,ports.ops=9644
on_nodes() { [ -z "$("$K" -n "$NAMESPACE" get pods -l app.kubernetes.io/component=admission --field-selector status.phase=Running -o 'jsonpath={range .items[*]}{.status.podIP} {.status.hostIP}{"\n"}{end}' | awk '$1 != $2')" ]; }
within 60 "the webhook has the addresses of its nodes" on_nodes
answers "on the network of the nodes"

# The API server shows a certificate of the cluster's CA.
install --set-file "tls.clientCA=$STATE/pki/ca.crt"
answers "with a certificate"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=another -keyout "$files/another.key" -out "$files/another.crt" 2>/dev/null
# The Deployment waits for `ready`; the API server may keep connections to pods that are ending.
install --set-file "tls.clientCA=$files/another.crt"
one_of_another() { ! asks; }
within 60 "a client with a certificate of another CA gets no answer" one_of_another
refused "a client with a certificate of another CA" "failed calling webhook" asks

# What cert-manager does, with openssl: kinds, a Secret for the Certificate, its CA in what asks for that by annotation.
for kind in Issuer Certificate; do
	cat <<-Y
		apiVersion: apiextensions.k8s.io/v1
		kind: CustomResourceDefinition
		metadata: {name: ${kind,,}s.cert-manager.io}
		spec:
		  group: cert-manager.io
		  scope: Namespaced
		  names: {kind: $kind, plural: ${kind,,}s, singular: ${kind,,}}
		  versions: [{name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}]
		---
	Y
done | "$K" apply -f - >/dev/null
"$K" wait --for=condition=Established crd/issuers.cert-manager.io crd/certificates.cert-manager.io --timeout=30s >/dev/null
inject() {
	local config name index
	for config in validatingwebhookconfiguration mutatingwebhookconfiguration; do
		for name in $("$K" get "$config" -o name | grep ringfence); do
			[ "$("$K" get "$name" -o 'jsonpath={.metadata.annotations.cert-manager\.io/inject-ca-from}')" = "$NAMESPACE/ringfence" ] || continue
			for index in $("$K" get "$name" -o json | grep -c '"clientConfig"' | xargs seq 0 | head -n -1); do
				echo "{\"op\": \"add\", \"path\": \"/webhooks/$index/clientConfig/caBundle\", \"value\": \"$(base64 -w0 "$files/another.crt")\"}"
			done | paste -sd, | sed 's/.*/[&]/' >"$files/patch"
			"$K" patch "$name" --type=json --patch-file "$files/patch"
		done
	done
}
make_certificates() {
	local secret names
	until secret=$("$K" -n "$NAMESPACE" get certificate ringfence -o 'jsonpath={.spec.secretName}' 2>/dev/null) && [ -n "$secret" ]; do sleep 0.2; done
	names=$("$K" -n "$NAMESPACE" get certificate ringfence -o 'jsonpath={range .spec.dnsNames[*]}DNS:{@},{end}')
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=served -keyout "$files/served.key" -out "$files/served.csr"
	openssl x509 -req -in "$files/served.csr" -CA "$files/another.crt" -CAkey "$files/another.key" -CAcreateserial -days 1 \
		-extfile <(echo "subjectAltName=${names%,}") -out "$files/served.crt"
	"$K" -n "$NAMESPACE" create secret tls "$secret" --cert "$files/served.crt" --key "$files/served.key"
	# Again and again, as cert-manager does: replicas that are ending write the CA of their own until they have.
	while [ ! -e "$files/end" ]; do
		inject
		sleep 1
	done
}
make_certificates >"$files/maker.log" 2>&1 &
maker=$!
install --set tls.certManager.enabled=true
sleep 2
touch "$files/end"
wait "$maker" || fail "the certificate could not be made: $(tail -1 "$files/maker.log")"
maker=""
answers "with a certificate of somebody else"
# The pod may be one that is ending, whom nobody can reach any more.
served() { on_net cp timeout 3 openssl s_client -connect "$("$K" -n "$NAMESPACE" get pods -l app.kubernetes.io/component=admission -o 'jsonpath={.items[0].status.podIP}'):8443" </dev/null 2>/dev/null | grep -q 'issuer=CN = another'; }
within 30 "that certificate is served" served
install
answers "with certificates of its own again"
done_with "other networks, clients and certificates"
