#!/bin/sh
# usage: image.sh VERSION [ARCH]     packs target/image by the last stage of the Dockerfile into target/ringfence-image.tar; of
# another architecture (arm64) target/image-ARCH into target/ringfence-image-ARCH.tar
# No daemon, no registry, no rights beyond a user's own; everything that buildah keeps is thrown away.
set -eu
cd "$(dirname "$0")/.."
version=$1 arch=${2:-}
image=target/ringfence-image${arch:+-$arch}.tar
if ! command -v buildah >/dev/null; then
	echo "image.sh: buildah is not here; install it: apt-get install buildah" >&2
	exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
store() {
	buildah --storage-driver vfs --root "$work/root" --runroot "$work/run" "$@"
}
rm -f "$image"
mkdir "$work/context"
cp -r "target/image${arch:+-$arch}" "$work/context/image"
# The context takes the place of the stage that compiles. Without times the same binary makes the same image.
store bud --quiet --isolation chroot --timestamp 0 ${arch:+--arch "$arch"} --build-context "build=$work/context" \
	--label "org.opencontainers.image.version=$version" --tag "ringfence:$version" . >/dev/null
# Under the name that container runtimes make of `ringfence:VERSION`.
store push --quiet "ringfence:$version" "oci-archive:$image:docker.io/library/ringfence:$version"
echo "$image: $(wc -c <"$image") bytes, docker.io/library/ringfence:$version"
