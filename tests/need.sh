#!/bin/sh
# For the lists of packages beside it: `need PACKAGE CHECK...` notes what is missing, `install_missing` installs it from
# Debian's packages. Prints what it installs; does nothing, and asks for no rights, when everything is there.

missing=""
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}

install_missing() {
	[ -n "$missing" ] || return 0
	if ! command -v apt-get >/dev/null; then
		echo "these are missing, and there is no apt-get to install them:$missing" >&2
		return 1
	fi
	root=""
	[ "$(id -u)" = 0 ] || root=sudo
	echo "installing:$missing"
	export DEBIAN_FRONTEND=noninteractive
	$root apt-get update -qq
	# shellcheck disable=SC2086
	$root apt-get install -y -qq --no-install-recommends $missing >/dev/null
}
