#!/bin/sh
# usage: arm64.sh DIR     what a static build for arm64 takes on another machine
# Debian's cross compiler has to be here; the static libraries of arm64 are unpacked in DIR, and nothing is installed.
set -eu
dir=$1
missing=""
command -v aarch64-linux-gnu-gcc >/dev/null || missing="gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
if [ -n "$missing" ]; then
	echo "arm64.sh: no cross compiler: apt-get install $missing" >&2
	exit 2
fi
! [ -s "$dir/sysroot/usr/lib/aarch64-linux-gnu/libelf.a" ] || exit 0
rm -rf "$dir"
mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial" "$dir/debs" "$dir/sysroot"
dir=$(cd "$dir" && pwd)
# A list of packages of its own: this machine's is of another architecture, and stays.
apt() {
	apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o "Dir::State::Lists=$dir/lists" \
		-o "Dir::Cache=$dir/cache" -o Dir::State::status=/dev/null "$@"
}
cd "$dir/debs"
apt update
apt download libelf-dev zlib1g-dev
for package in *.deb; do dpkg -x "$package" ../sysroot; done
