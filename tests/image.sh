#!/bin/sh
# usage: image.sh VERSION     packs target/image by the last stage of the Dockerfile into target/ringfence-image.tar
# No daemon, no registry, no rights beyond a user's own; everything that buildah keeps is thrown away.
set -eu
cd "$(dirname "$0")/.."
version=$1
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
rm -f target/ringfence-image.tar
# The context takes the place of the stage that compiles. Without times the same binary makes the same image.
store bud --quiet --isolation chroot --timestamp 0 --build-context build=target \
	--label "org.opencontainers.image.version=$version" --tag "ringfence:$version" . >/dev/null
# Under the name that container runtimes make of `ringfence:VERSION`.
store push --quiet "ringfence:$version" "oci-archive:target/ringfence-image.tar:docker.io/library/ringfence:$version"
echo "target/ringfence-image.tar: $(wc -c <target/ringfence-image.tar) bytes, docker.io/library/ringfence:$version"
