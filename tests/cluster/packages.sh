#!/bin/sh
# What the cluster needs beside its own programs, installed from Debian's packages when it is missing.
# Prints what it installs; does nothing, and asks for no rights, when everything is there.
set -eu
PATH=$PATH:/usr/sbin:/sbin

missing=""
need() { # need PACKAGE CHECK...
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

need build-essential cc --version # pause is C
need runc runc --version
need containernetworking-plugins test -x /usr/lib/cni/bridge
need iproute2 ip -V
need nftables nft --version
need iptables iptables --version
need ethtool ethtool --version
need conntrack conntrack --version
need openssl openssl version
need procps ps --version
need util-linux unshare --version
need kmod modprobe --version
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
