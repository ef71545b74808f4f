#!/bin/bash
# image.sh OUT.tar NAME:TAG ENTRYPOINT FILE=PATH...: an OCI archive with these files and nothing below them, for
# `ctr images import`. Of a file that is dynamically linked, what ldd finds comes along. tar and sha256sum are all that
# this needs: no daemon, no storage driver, no namespaces of a builder. The same input makes the same bytes.
set -euo pipefail
out=$(realpath "$1") name=$2 entrypoint=$3
shift 3

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root blobs=$work/oci/blobs/sha256
mkdir -p "$blobs" "$root"/{dev,etc,proc,sys,tmp}
chmod 1777 "$root/tmp"

for file in "$@"; do
	from=${file%%=*} to=${file#*=}
	install -D -m 0755 "$from" "$root$to"
	# "libz.so.1 => /lib/x86_64-linux-gnu/libz.so.1 (0x...)" and "/lib64/ld-linux-x86-64.so.2 (0x...)"; nothing for static ones
	libraries=$(ldd "$from" 2>/dev/null | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}') || true
	for library in $libraries; do
		[ -e "$root$library" ] || install -D -m 0755 "$library" "$root$library"
	done
done

digest() { sha256sum "$1" | cut -d' ' -f1; }
keep() { # keep FILE: into the blobs, under its digest
	mv "$1" "$blobs/$(digest "$1")"
}
described() { # described MEDIATYPE FILE
	printf '"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d' "$1" "$(digest "$2")" "$(stat -c %s "$2")"
}

tar -C "$root" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$work/layer" .
arch=$(dpkg --print-architecture 2>/dev/null || echo amd64)
printf '{"architecture":"%s","os":"linux","config":{"Entrypoint":["%s"],"Env":["PATH=/"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	"$arch" "$entrypoint" "$(digest "$work/layer")" >"$work/config"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{%s},"layers":[{%s}]}' \
	"$(described config.v1+json "$work/config")" "$(described layer.v1.tar "$work/layer")" >"$work/manifest"
printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"io.containerd.image.name":"%s","org.opencontainers.image.ref.name":"%s"}}]}' \
	"$(described manifest.v1+json "$work/manifest")" "$name" "${name##*:}" >"$work/oci/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$work/oci/oci-layout"
for blob in layer config manifest; do keep "$work/$blob"; done

mkdir -p "$(dirname "$out")"
tar -C "$work/oci" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -cf "$out.new" .
mv "$out.new" "$out"
