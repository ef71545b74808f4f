#!/bin/sh
# What building and testing need beside Rust, installed from Debian's packages when it is missing.
# Prints what it installs; does nothing, and asks for no rights, when everything is there.
set -eu

missing=""
need() { # need PACKAGE CHECK...
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

need build-essential cc --version
need clang clang --version
need pkg-config pkg-config --version
need libelf-dev pkg-config --exists libelf
need zlib1g-dev pkg-config --exists zlib
need iproute2 ip -V
need nftables nft --version
need openssl openssl version

if ! cargo --version >/dev/null 2>&1; then
	echo "cargo is not there: install Rust 1.95 or later from https://rustup.rs, then run this again" >&2
	exit 1
fi
for component in clippy fmt; do
	cargo "$component" --version >/dev/null 2>&1 || rustup component add "$(echo "$component" | sed s/^fmt/rustfmt/)"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
	echo "these are missing, and there is no apt-get to install them:$missing" >&2
	exit 1
fi
root=""
[ "$(id -u)" = 0 ] || root=sudo
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
$root apt-get update -qq
# shellcheck disable=SC2086
$root apt-get install -y -qq --no-install-recommends $missing >/dev/null
