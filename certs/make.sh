#!/bin/sh
# Makes a certificate authority and a server certificate for `ringfence admission`, by openssl.
# usage: make.sh DIR [DNS-NAME|IP...]      writes ca.crt, tls.crt and tls.key into DIR
# Without names the certificate is for this machine: localhost, 127.0.0.1 and ::1.
set -eu

if [ $# -lt 1 ] || [ -z "$1" ]; then
    echo "usage: make.sh DIR [DNS-NAME|IP...]" >&2
    exit 2
fi
if ! command -v openssl >/dev/null; then
    echo "make.sh: openssl is not here; install it" >&2
    exit 2
fi
dir=$1
shift
[ $# -gt 0 ] || set -- localhost 127.0.0.1 ::1

# The API server looks at subject alternative names only, never at the common name.
names=
for name; do
    case $name in
    *:*) kind=IP ;;
    *[!0-9.]*) kind=DNS ;;
    *) kind=IP ;;
    esac
    names=${names:+$names,}$kind:$name
done

umask 077
mkdir -p "$dir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# The key of the CA is forgotten: nobody can issue another certificate that the cluster would trust. To renew, run this again
# and replace the caBundle together with the pair.
openssl ecparam -name prime256v1 -genkey -noout -out "$work/ca.key"
openssl req -x509 -new -sha256 -days 3650 -key "$work/ca.key" -subj "/CN=ringfence CA" -out "$dir/ca.crt" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign"

openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$dir/tls.key"
openssl req -new -sha256 -key "$dir/tls.key" -subj "/CN=ringfence admission" -out "$work/tls.csr"
cat >"$work/leaf.cnf" <<END
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth
subjectAltName=$names
END
openssl x509 -req -sha256 -days 365 -in "$work/tls.csr" -CA "$dir/ca.crt" -CAkey "$work/ca.key" -CAcreateserial \
    -CAserial "$work/serial" -extfile "$work/leaf.cnf" -out "$dir/tls.crt" 2>"$work/log" ||
    { cat "$work/log" >&2; exit 1; }

chmod 644 "$dir/ca.crt" "$dir/tls.crt"
echo "wrote ca.crt, tls.crt and tls.key into $dir (for $*)"
