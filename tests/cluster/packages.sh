#!/bin/sh
# What the cluster needs beside its own programs, installed from Debian's packages when it is missing.
set -eu
PATH=$PATH:/usr/sbin:/sbin

# shellcheck source-path=SCRIPTDIR source=../need.sh
. "$(dirname "$0")/../need.sh"

need build-essential cc --version # pause is C
need buildah buildah --version
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
install_missing
