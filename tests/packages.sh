#!/bin/sh
# What building and testing need beside Rust, installed from Debian's packages when it is missing.
set -eu

# shellcheck source-path=SCRIPTDIR source=need.sh
. "$(dirname "$0")/need.sh"

need build-essential c++ --version
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
install_missing
