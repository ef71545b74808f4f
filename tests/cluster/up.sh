#!/bin/bash
# up.sh: a Kubernetes cluster of two nodes on this machine, in namespaces of its own. PROXY=nftables|iptables chooses
# kube-proxy's mode, DUAL=1 gives IPv4 and IPv6. Nothing is left of it after down.sh.
#
#   machine cp  172.30.0.1, fd00:30::1     etcd, API server, controller manager, scheduler; the switch to which all are plugged
#   machine n1  172.30.0.11, fd00:30::11   containerd, kubelet, kube-proxy, flannel
#   machine n2  172.30.0.12, fd00:30::12   the same
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "$(realpath "$0")")/lib.sh"
PROXY=${PROXY:-nftables}
DUAL=${DUAL:-}
PODS=10.244.0.0/16 SERVICES=10.96.0.0/16 API_SERVICE=10.96.0.1 DNS_SERVICE=10.96.0.10
[ "$DUAL" != 0 ] || DUAL=""
if [ -n "$DUAL" ]; then
	PODS+=,fd00:244::/56 SERVICES+=,fd00:96::/112
fi

preconditions() {
	[ "$(id -u)" = 0 ] || die "namespaces, mounts and containers need root"
	[[ $PROXY == nftables || $PROXY == iptables ]] || die "PROXY=$PROXY: nftables or iptables"
	[[ ! -e $STATE && ! -e $STATE.going ]] || die "$STATE is there already: end that cluster with down.sh first"
	local program
	for program in etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl containerd ctr flanneld pause; do
		[ -x "$BIN/$program" ] || die "$BIN/$program is not there: run build.sh first"
	done
	for program in runc ip nft iptables openssl nsenter unshare; do
		command -v "$program" >/dev/null || die "$program is not there: run packages.sh first"
	done
	# Where they are not in the kernel already.
	for program in overlay vxlan br_netfilter nf_conntrack; do modprobe -q "$program" 2>/dev/null || true; done
	# Without it packets between two pods of one node pass neither Services nor policies.
	[ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || die "this kernel has no br_netfilter: load the module, or enable CONFIG_BRIDGE_NETFILTER"
}

# Well-known places of which every node has its own, as mounts that only the node sees. Mount points that the host lacks are
# made, and remembered for down.sh before they are.
places() {
	printf '%s\n' /etc/cni/net.d /run/containerd /run/flannel /var/lib/cni /var/lib/containerd /var/lib/kubelet \
		/var/log/containers /var/log/pods >"$STATE/places"
	local place missing
	while read -r place; do
		missing=()
		while [ ! -d "$place" ]; do
			missing=("$place" "${missing[@]}")
			place=${place%/*}
		done
		for place in "${missing[@]}"; do
			echo "$place" >>"$STATE/made"
			mkdir "$place"
		done
	done <"$STATE/places"
	# kube-proxy and CNI plugins make it.
	[ -e /run/xtables.lock ] || echo /run/xtables.lock >>"$STATE/made"
}

certificates() {
	mkdir -m 0700 "$STATE/pki"
	cd "$STATE/pki"
	local key=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
	openssl req -x509 "${key[@]}" -days 30 -keyout ca.key -out ca.crt -subj /CN=ringfence-cluster
	openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out sa.key
	openssl pkey -in sa.key -pubout -out sa.pub
	issue() { # issue NAME SUBJECT [ALTERNATIVE NAMES]
		openssl req "${key[@]}" -keyout "$1.key" -out "$1.csr" -subj "$2"
		printf 'extendedKeyUsage=clientAuth,serverAuth\n%s\n' "${3:+subjectAltName=$3}" >"$1.ext"
		openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt"
	}
	issue apiserver /CN=kube-apiserver "IP:127.0.0.1,IP:$API_SERVICE,IP:${V4[cp]},IP:${V6[cp]},DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
	issue kubelet-client /O=system:masters/CN=apiserver-kubelet
	issue admin /O=system:masters/CN=admin
	issue webhook-client /CN=api-server-of-ringfence-cluster
	issue flannel /O=system:masters/CN=flannel
	issue controller-manager /CN=system:kube-controller-manager
	issue scheduler /CN=system:kube-scheduler
	issue proxy /CN=system:kube-proxy
	local node user
	for node in "${NODES[@]}"; do issue "$node" "/O=system:nodes/CN=system:node:$node" "IP:${V4[$node]},IP:${V6[$node]},DNS:$node"; done
	for user in admin flannel controller-manager scheduler proxy "${NODES[@]}"; do
		cat >"$STATE/$user.conf" <<-Y
			apiVersion: v1
			kind: Config
			current-context: ringfence-cluster
			contexts: [{name: ringfence-cluster, context: {cluster: ringfence-cluster, user: $user}}]
			clusters: [{name: ringfence-cluster, cluster: {server: "https://${V4[cp]}:6443", certificate-authority: $STATE/pki/ca.crt}}]
			users: [{name: $user, user: {client-certificate: $STATE/pki/$user.crt, client-key: $STATE/pki/$user.key}}]
		Y
	done
	cd /
}

# service MACHINE/SERVICE COMMAND...: as a script, so that restart.sh can run it again.
service() {
	local script=$STATE/services/$1
	{
		echo "#!/bin/bash"
		printf 'export RINGFENCE_CLUSTER_DIR=%q\n. %q\n' "$STATE" "$HERE/lib.sh"
		echo "echo \"\$\$ \$(started \$\$)\" >$(printf %q "$script.id")"
		[ "${1#*/}" != flannel ] || echo "export NODE_NAME=${1%/*}"
		echo "exec $(printf '%q ' "${@:2}")"
	} >"$script"
	chmod +x "$script"
	launch "$1"
}

# Who the API server says to be where a webhook asks for a certificate.
admission_control() {
	cat >"$STATE/webhook-client.conf" <<-Y
		apiVersion: v1
		kind: Config
		users: [{name: "*", user: {client-certificate: $STATE/pki/webhook-client.crt, client-key: $STATE/pki/webhook-client.key}}]
	Y
	local configuration="{apiVersion: apiserver.config.k8s.io/v1, kind: WebhookAdmissionConfiguration, kubeConfigFile: $STATE/webhook-client.conf}"
	cat >"$STATE/admission-control.yaml" <<-Y
		apiVersion: apiserver.config.k8s.io/v1
		kind: AdmissionConfiguration
		plugins:
		  - {name: ValidatingAdmissionWebhook, configuration: $configuration}
		  - {name: MutatingAdmissionWebhook, configuration: $configuration}
	Y
}

control_plane() {
	local pki=$STATE/pki
	service cp/etcd etcd --data-dir "$STATE/cp/etcd" --listen-client-urls http://127.0.0.1:2379 \
		--advertise-client-urls http://127.0.0.1:2379 --unsafe-no-fsync
	admission_control
	# With aggregator routing webhooks are called at the addresses of their pods: no kube-proxy is needed here, only routes.
	service cp/apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --advertise-address "${V4[cp]}" \
		--service-cluster-ip-range "$SERVICES" --authorization-mode Node,RBAC --enable-admission-plugins NodeRestriction \
		--allow-privileged --enable-aggregator-routing --admission-control-config-file "$STATE/admission-control.yaml" \
		--client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" --tls-private-key-file "$pki/apiserver.key" \
		--service-account-issuer https://kubernetes.default.svc --service-account-key-file "$pki/sa.pub" \
		--service-account-signing-key-file "$pki/sa.key" --kubelet-preferred-address-types InternalIP \
		--kubelet-client-certificate "$pki/kubelet-client.crt" --kubelet-client-key "$pki/kubelet-client.key"
	eventually 90 "the API server was not ready" cp/apiserver "$STATE/bin/kubectl" get --raw /readyz
	say "API server ready"
	service cp/controller-manager kube-controller-manager --kubeconfig "$STATE/controller-manager.conf" --leader-elect=false \
		--allocate-node-cidrs --cluster-cidr "$PODS" --use-service-account-credentials \
		--root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
		--cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key"
	service cp/scheduler kube-scheduler --kubeconfig "$STATE/scheduler.conf" --leader-elect=false
}

# Kubelets remove cgroups that they do not know, so each has a root of its own.
cgroups() {
	local node controller controllers
	if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
		mkdir -p "/sys/fs/cgroup/$CGROUP"
		read -r -a controllers </sys/fs/cgroup/cgroup.controllers
		for controller in "${controllers[@]}"; do
			echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
			echo "+$controller" >"/sys/fs/cgroup/$CGROUP/cgroup.subtree_control"
		done 2>/dev/null || true # what can not be had a kubelet names better
		for node in "${NODES[@]}"; do mkdir -p "/sys/fs/cgroup/$CGROUP/$node"; done
		return
	fi
	for controller in /sys/fs/cgroup/*/; do
		[[ -e $controller/cgroup.procs && ! -e $controller/cgroup.controllers ]] || continue
		for node in "" "${NODES[@]}"; do
			mkdir -p "$controller/$CGROUP/$node"
			[ -e "$controller/cpuset.cpus" ] || continue
			cat "$controller/cpuset.cpus" >"$controller/$CGROUP/$node/cpuset.cpus"
			cat "$controller/cpuset.mems" >"$controller/$CGROUP/$node/cpuset.mems"
		done
	done
}

runtime() { # runtime NODE
	local own=$STATE/$1
	cat >"$own/containerd.toml" <<-T
		version = 3
		[plugins.'io.containerd.cri.v1.images']
		  snapshotter = "overlayfs"
		[plugins.'io.containerd.cri.v1.images'.pinned_images]
		  sandbox = "registry.k8s.io/pause:$(cat "$BIN/pause.version")"
		[plugins.'io.containerd.cri.v1.runtime']
		  netns_mounts_under_state_dir = true
		  restrict_oom_score_adj = true
		  [plugins.'io.containerd.cri.v1.runtime'.cni]
		    bin_dirs = ["/usr/lib/cni"]
		    conf_dir = "/etc/cni/net.d"
		  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
		    runtime_type = "io.containerd.runc.v2"
		    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
		      SystemdCgroup = false
	T
	service "$1/containerd" containerd --config "$own/containerd.toml"
}

kubelet() { # kubelet NODE
	local own=$STATE/$1 pki=$STATE/pki
	cat >"$own/kubelet.yaml" <<-Y
		apiVersion: kubelet.config.k8s.io/v1beta1
		kind: KubeletConfiguration
		authentication: {anonymous: {enabled: false}, x509: {clientCAFile: $pki/ca.crt}, webhook: {enabled: true}}
		authorization: {mode: Webhook}
		tlsCertFile: $pki/$1.crt
		tlsPrivateKeyFile: $pki/$1.key
		containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
		cgroupDriver: cgroupfs
		cgroupRoot: /$CGROUP/$1
		failCgroupV1: false
		failSwapOn: false
		clusterDNS: [$DNS_SERVICE]
		clusterDomain: cluster.local
		resolvConf: $STATE/resolv.conf
		# Not this machine's disk, and not its memory, is what is tested here.
		evictionHard: {memory.available: 100Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
		localStorageCapacityIsolation: false
		maxPods: 200
		healthzPort: 0
		serializeImagePulls: false
	Y
	service "$1/kubelet" kubelet --config "$own/kubelet.yaml" --kubeconfig "$STATE/$1.conf" --hostname-override "$1" \
		--node-ip "${V4[$1]}${DUAL:+,${V6[$1]}}" --v=2
	service "$1/proxy" kube-proxy --kubeconfig "$STATE/proxy.conf" --hostname-override "$1" --proxy-mode "$PROXY" \
		--cluster-cidr "$PODS" --conntrack-max-per-core 0 --healthz-bind-address 0.0.0.0:10256 --metrics-bind-address 127.0.0.1:10249
}

# flannel takes its subnet from the node's podCIDR, and says in subnet.env what it made of it. Its CNI plugin would only put
# that into a configuration of Debian's bridge plugin: that is written here. With it the node turns ready.
network() { # network NODE
	local node=$1 cidrs cidr ranges="" routes="" mtu env=$STATE/$1/root/run/flannel/subnet.env cni=$STATE/$1/root/etc/cni/net.d
	eventually 60 "node $node did not register and get its podCIDR" "$node/kubelet" has_cidrs "$node"
	service "$node/flannel" flanneld --kubeconfig "$STATE/flannel.conf" --net-conf "$STATE/net-conf.json"
	eventually 60 "flannel did not say its subnet" "$node/flannel" test -s "$env"
	mtu=$(sed -n s/^FLANNEL_MTU=//p "$env")
	read -r -a cidrs <<<"$(pod_cidrs "$node")"
	for cidr in "${cidrs[@]}"; do
		ranges+="${ranges:+,}[{\"subnet\":\"$cidr\"}]"
		on_net cp ip route replace "$cidr" via "$([[ $cidr == *:* ]] && echo "${V6[$node]}" || echo "${V4[$node]}")"
	done
	for cidr in ${PODS//,/ }; do routes+="${routes:+,}{\"dst\":\"$cidr\"}"; done
	# containerd looks at renames inside of the directory, not at files that come into it.
	cat >"$cni/.new" <<-J
		{"cniVersion":"1.0.0","name":"cbr0","plugins":[
		  {"type":"bridge","bridge":"cni0","mtu":$mtu,"isDefaultGateway":true,"hairpinMode":true,"forceAddress":true,"ipMasq":false,
		   "ipam":{"type":"host-local","ranges":[$ranges],"routes":[$routes]}},
		  {"type":"portmap","capabilities":{"portMappings":true}}]}
	J
	mv "$cni/.new" "$cni/10-flannel.conflist"
}
pod_cidrs() { "$STATE/bin/kubectl" get node "$1" -o 'jsonpath={.spec.podCIDRs[*]}'; }
has_cidrs() { [ -n "$(pod_cidrs "$1")" ]; }
is_ready() { "$STATE/bin/kubectl" get node "$1" -o 'jsonpath={.status.conditions[?(@.type=="Ready")].status}' | grep -q True; }

# kubectl and helm that reach the API server from where it can be reached, and leave no traces in the home directory.
tools() {
	mkdir "$STATE/bin"
	local tool
	for tool in kubectl helm; do
		cat >"$STATE/bin/$tool" <<-S
			#!/bin/bash
			set -euo pipefail
			[ "\$(id -u)" = 0 ] || exec sudo "\$0" "\$@"
			export KUBECONFIG=$STATE/admin.conf KUBECACHEDIR=$STATE/cache/kubectl
			export HELM_CACHE_HOME=$STATE/cache/helm HELM_CONFIG_HOME=$STATE/cache/helm HELM_DATA_HOME=$STATE/cache/helm
			exec nsenter --target "\$(cut -d' ' -f1 $STATE/machines/cp)" --net -- $BIN/$tool "\$@"
		S
	done
	cat >"$STATE/bin/on" <<-S
		#!/bin/bash
		# on MACHINE COMMAND...: runs it on cp, n1 or n2
		set -euo pipefail
		[ "\$(id -u)" = 0 ] || exec sudo "\$0" "\$@"
		export RINGFENCE_CLUSTER_DIR=$STATE
		. $HERE/lib.sh
		inside "\$@"
	S
	chmod +x "$STATE/bin"/*
}

preconditions
mkdir -p "$(dirname "$STATE")"
mkdir "$STATE"
echo "$$ $(started $$)" >"$STATE/up.id"
mkdir "$STATE"/{log,machines,services}
printf 'PROXY=%q\nDUAL=%q\n' "$PROXY" "$DUAL" >"$STATE/mode"
ln -s "$CACHE" "$STATE/programs"
places
cgroups
tools
certificates >"$STATE/log/certificates.log" 2>&1 || die "certificates could not be made: see $STATE/log/certificates.log"
echo "nameserver $DNS_SERVICE" >"$STATE/resolv.conf"
echo "{\"Network\":\"${PODS%,*}\",\"EnableNFTables\":true,\"Backend\":{\"Type\":\"vxlan\"}${DUAL:+,\"EnableIPv6\":true,\"IPv6Network\":\"${PODS#*,}\"}}" >"$STATE/net-conf.json"

for name in cp "${NODES[@]}"; do machine "$name"; done
on_net cp ip link add switch type bridge
on_net cp ip link set switch up
address cp switch
for node in "${NODES[@]}"; do plug "$node"; done
say "machines cp, ${NODES[*]} are there: ${DUAL:+dual stack, }kube-proxy in $PROXY mode"
for node in "${NODES[@]}"; do runtime "$node"; done
control_plane
for node in "${NODES[@]}"; do eventually 30 "containerd was not ready" "$node/containerd" inside "$node" ctr version; done
"$HERE/load.sh" "$IMAGES"/{pause,agnhost,traffic}.tar
for node in "${NODES[@]}"; do kubelet "$node"; done
for node in "${NODES[@]}"; do network "$node"; done
for node in "${NODES[@]}"; do eventually 60 "node $node did not turn ready" "$node/kubelet" is_ready "$node"; done
rm "$STATE/up.id"
say "nodes ${NODES[*]} are ready"
