//! Pods: what lets one around the fence.
//!
//! A Pod, or the template of one at a path of its workload -> findings. Which of them deny depends on the namespace; that is
//! for whoever asks.

use super::items;
use crate::finding::{FieldPath, Finding, Severity, rule::Rule};
use serde_json::Value;

pub(super) const RULES: &[Rule] = &[
    HOST_NETWORK,
    HOST_NAMESPACES,
    PRIVILEGED,
    NET_ADMIN,
    NET_RAW,
    NET_RAW_KEPT,
    KERNEL,
    HOST_PATH,
    HOST_PORT,
    PROBE_HOST,
    SECOND_INTERFACE,
    SYSCTL,
    NODE_NAME,
];

/// A Pod with this below its spec.
macro_rules! pod {
    ($spec:literal) => {
        concat!("apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec:\n", $spec)
    };
}

const PLAIN: &str =
    pod!("  containers:\n  - {name: web, image: web, securityContext: {capabilities: {drop: [ALL]}}}\n");

const HOST_NETWORK: Rule = Rule {
    id: "pod-host-network",
    severity: Some(Severity::Error),
    title: "A pod of the host network is outside of every NetworkPolicy",
    why: "With `hostNetwork: true` a pod has no network of its own: it is its node. No policy selects it, it reaches whatever \
          the node reaches, the node's loopback included, and whoever admits the node admits it.",
    wrong: pod!("  hostNetwork: true\n  containers: [{name: web, image: web}]\n"),
    right: PLAIN,
};

const HOST_NAMESPACES: Rule = Rule {
    id: "pod-host-namespaces",
    severity: Some(Severity::Warning),
    title: "A pod that sees the processes of its node can enter their networks",
    why: "With `hostPID` or `hostIPC`, and a capability or a process that has one, a pod reaches the network namespaces of the \
          node and of other pods.",
    wrong: pod!("  hostPID: true\n  containers: [{name: web, image: web}]\n"),
    right: PLAIN,
};

const PRIVILEGED: Rule = Rule {
    id: "pod-privileged",
    severity: Some(Severity::Error),
    title: "A privileged container can take the fence away",
    why: "A privileged container may enter every network of its node, detach eBPF programs and change their maps: for it there \
          is no fence, and for others there may be none behind it.",
    wrong: pod!("  containers: [{name: web, image: web, securityContext: {privileged: true}}]\n"),
    right: PLAIN,
};

const NET_ADMIN: Rule = Rule {
    id: "pod-net-admin",
    severity: Some(Severity::Warning),
    title: "NET_ADMIN lets a pod change its own network",
    why: "With NET_ADMIN a container gives itself other addresses, routes and interfaces. The hook on the node still judges what \
          leaves the pod; what it judges by is then what the pod says.",
    wrong: pod!("  containers: [{name: web, image: web, securityContext: {capabilities: {add: [NET_ADMIN]}}}]\n"),
    right: PLAIN,
};

const NET_RAW: Rule = Rule {
    id: "pod-net-raw",
    severity: Some(Severity::Warning),
    title: "NET_RAW lets a pod send with the address of another one",
    why: "Raw sockets write any source address, and answer ARP for others on a bridge. Most programs, `ping` of today included, \
          do not need them.",
    wrong: pod!("  containers: [{name: web, image: web, securityContext: {capabilities: {add: [NET_RAW]}}}]\n"),
    right: PLAIN,
};

const NET_RAW_KEPT: Rule = Rule {
    id: "pod-net-raw-kept",
    severity: None,
    title: "NET_RAW is left to the container runtime, which gives it",
    why: "Container runtimes give NET_RAW to every container that does not drop it. `ringfence admission --drop-net-raw` drops it \
          where nobody asked for it. This rule does not speak unless it is set: nearly every Pod would hear it.",
    wrong: pod!("  containers: [{name: web, image: web}]\n"),
    right: PLAIN,
};

const NODE_NAME: Rule = Rule {
    id: "pod-node-name",
    severity: Some(Severity::Warning),
    title: "A pod that names its node is placed by nobody",
    why: "With `nodeName` the scheduler is not asked, so taints such as the one that keeps pods from nodes whose agent is not there \
          yet (`agent.startupTaint`) do not keep the pod away. A nodeSelector or an affinity places it as surely. A pod that is \
          running already has the name from the scheduler.",
    wrong: pod!("  nodeName: node-7\n  containers: [{name: web, image: web}]\n"),
    right: pod!("  nodeSelector: {kubernetes.io/hostname: node-7}\n  containers: [{name: web, image: web}]\n"),
};

const KERNEL: Rule = Rule {
    id: "pod-kernel-capabilities",
    severity: Some(Severity::Error),
    title: "A capability that reaches the programs in the kernel",
    why: "BPF, PERFMON, SYS_ADMIN, SYS_MODULE, SYS_PTRACE, SYS_RAWIO and DAC_READ_SEARCH (and ALL, which is all of them) open \
          ways to load or detach eBPF programs, to open their maps, or into other processes of the node.",
    wrong: pod!("  containers: [{name: web, image: web, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]\n"),
    right: PLAIN,
};

const HOST_PATH: Rule = Rule {
    id: "pod-host-path",
    severity: Some(Severity::Error),
    title: "A directory of the node that the fence depends on",
    why: "Whoever can write to the pinned programs (`/sys/fs/bpf`), the container runtime's socket (`/run`), the CNI's programs \
          and settings, or `/proc` of the node, can take the fence away. A directory above one of them holds it, too.",
    wrong: pod!("  containers: [{name: web, image: web}]\n  volumes: [{name: host, hostPath: {path: /sys/fs/bpf}}]\n"),
    right: pod!("  containers: [{name: web, image: web}]\n  volumes: [{name: host, emptyDir: {}}]\n"),
};

const HOST_PORT: Rule = Rule {
    id: "pod-host-port",
    severity: Some(Severity::Warning),
    title: "A hostPort brings clients with the address of a node",
    why: "What comes by a hostPort reaches the pod through its node, often with the node's address as its source: peers by \
          address no longer tell clients apart, and a pod's own node is always admitted.",
    wrong: pod!("  containers: [{name: web, image: web, ports: [{containerPort: 80, hostPort: 8080}]}]\n"),
    right: pod!("  containers: [{name: web, image: web, ports: [{containerPort: 80}]}]\n"),
};

const PROBE_HOST: Rule = Rule {
    id: "pod-probe-host",
    severity: Some(Severity::Error),
    title: "A probe that the node sends elsewhere",
    why: "The kubelet sends probes and lifecycle requests from the node, past every policy of the pod. With `host` it sends them \
          wherever the author of the Pod wants (kubernetes#99425); Pod Security `baseline` refuses that since 1.34.",
    wrong: pod!("  containers: [{name: web, image: web, livenessProbe: {httpGet: {host: 10.0.0.1, port: 80}}}]\n"),
    right: pod!("  containers: [{name: web, image: web, livenessProbe: {httpGet: {port: 80}}}]\n"),
};

const SECOND_INTERFACE: Rule = Rule {
    id: "pod-second-interface",
    severity: Some(Severity::Warning),
    title: "A second interface that no NetworkPolicy speaks about",
    why: "NetworkPolicy speaks of the pod network only. What goes through interfaces that `k8s.v1.cni.cncf.io/networks` adds is \
          not fenced by it.",
    wrong: "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, annotations: {k8s.v1.cni.cncf.io/networks: storage}}
spec: {containers: [{name: web, image: web}]}
",
    right: PLAIN,
};

const SYSCTL: Rule = Rule {
    id: "pod-network-sysctl",
    severity: Some(Severity::Hint),
    title: "A sysctl that changes how the pod's network works",
    why: "A sysctl below `net.` may make a pod forward packets of others or answer for addresses that are not its own.",
    wrong: "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  securityContext: {sysctls: [{name: net.ipv4.ip_forward, value: '1'}]}
  containers: [{name: web, image: web}]
",
    right: PLAIN,
};

/// Capabilities that reach the kernel's programs.
const KERNEL_CAPABILITIES: [&str; 8] =
    ["ALL", "BPF", "PERFMON", "SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "DAC_READ_SEARCH"];

/// What enforcement depends on. What lies above or below one of these is as good.
const KEPT: [&str; 12] = [
    "/sys/fs/bpf",
    "/sys/fs/cgroup",
    "/sys/kernel",
    "/proc",
    "/run",
    "/var/run",
    "/etc/cni",
    "/opt/cni",
    "/var/lib/cni",
    "/var/lib/kubelet",
    "/etc/kubernetes",
    "/dev",
];

/// The lists of containers of a Pod.
pub const CONTAINERS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// What lets a pod around the fence. `path` is where the Pod, or its template, stands in its object.
pub fn rules(pod: &Value, path: &FieldPath) -> Vec<Finding> {
    let (spec, at) = (&pod["spec"], path.field("spec"));
    let mut findings = Vec::new();
    if spec["hostNetwork"] == true {
        let message = "the pod is its node: no NetworkPolicy holds for it";
        findings.push(HOST_NETWORK.at(&at.field("hostNetwork"), message, "leave hostNetwork out"));
    }
    for field in ["hostPID", "hostIPC"] {
        if spec[field] == true {
            let message = format!("{field} leads into the networks of the node and of other pods");
            findings.push(HOST_NAMESPACES.at(&at.field(field), message, format!("leave {field} out")));
        }
    }
    // What runs has been placed.
    let is_new = matches!(pod["status"]["phase"].as_str(), None | Some("Pending"));
    if is_new && let Some(node) = spec["nodeName"].as_str().filter(|name| !name.is_empty()) {
        let message = format!("the pod is put on {node} without the scheduler, whatever taints keep others away");
        findings.push(NODE_NAME.at(
            &at.field("nodeName"),
            message,
            "write a nodeSelector: {kubernetes.io/hostname: …}",
        ));
    }
    for (n, sysctl) in items(&spec["securityContext"]["sysctls"]).enumerate() {
        if let Some(name) = sysctl["name"].as_str().filter(|name| name.starts_with("net.")) {
            let message = format!("{name} changes how the pod's network works");
            findings.push(SYSCTL.at(
                &at.field("securityContext").field("sysctls").index(n),
                message,
                "leave it out if nothing needs it",
            ));
        }
    }
    for list in CONTAINERS {
        for (n, one) in items(&spec[list]).enumerate().take(super::MAX_FINDINGS) {
            container(one, &at.field(list).index(n), &mut findings);
        }
    }
    for (n, volume) in items(&spec["volumes"]).enumerate() {
        if let Some((written, kept)) = volume["hostPath"]["path"].as_str().and_then(|path| Some((path, reaches(path)?)))
        {
            let message = format!("{written} of the node reaches {kept}, which the fence depends on");
            let place = at.field("volumes").index(n).field("hostPath").field("path");
            findings.push(HOST_PATH.at(
                &place,
                message,
                "use an emptyDir, or a directory that nothing else depends on",
            ));
        }
    }
    const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";
    if pod["metadata"]["annotations"][NETWORKS].as_str().is_some_and(|networks| !networks.is_empty()) {
        let place = path.field("metadata").field("annotations").field(NETWORKS);
        let message = "interfaces beside the pod network are not fenced by NetworkPolicies";
        findings.push(SECOND_INTERFACE.at(&place, message, "see to it that what they lead to is fenced otherwise"));
    }
    findings.truncate(super::MAX_FINDINGS);
    findings
}

fn container(container: &Value, path: &FieldPath, findings: &mut Vec<Finding>) {
    let name = container["name"].as_str().unwrap_or_default();
    let context = &container["securityContext"];
    let at = path.field("securityContext");
    if context["privileged"] == true {
        let message = format!("the container {name} is privileged: it can take the fence away");
        findings.push(PRIVILEGED.at(&at.field("privileged"), message, "leave privileged out, and add what is needed"));
    }
    for (n, added) in items(&context["capabilities"]["add"]).enumerate() {
        let Some(added) = added.as_str() else { continue };
        let capability = added.trim_start_matches("CAP_");
        let (rule, what) = match capability {
            "NET_ADMIN" => (NET_ADMIN, "change the pod's addresses and routes"),
            "NET_RAW" => (NET_RAW, "send with the addresses of others"),
            known if KERNEL_CAPABILITIES.contains(&known) => (KERNEL, "reach the programs that fence pods"),
            _ => continue,
        };
        let message = format!("with {added} the container {name} can {what}");
        findings.push(rule.at(&at.field("capabilities").field("add").index(n), message, format!("leave {added} out")));
    }
    if keeps_net_raw(container) {
        let message = format!("the container {name} keeps NET_RAW, which runtimes give unless it is dropped");
        findings.push(NET_RAW_KEPT.at(path, message, "write securityContext: {capabilities: {drop: [NET_RAW]}}"));
    }
    for (n, port) in items(&container["ports"]).enumerate() {
        if let Some(number) = port["hostPort"].as_u64().filter(|number| *number > 0) {
            let message = format!("port {number} of the node leads to the container {name}, past who asks");
            let place = path.field("ports").index(n).field("hostPort");
            findings.push(HOST_PORT.at(&place, message, "leave hostPort out, and put a Service before the pod"));
        }
    }
    probes(container, name, path, findings);
}

fn probes(container: &Value, name: &str, path: &FieldPath, findings: &mut Vec<Finding>) {
    let probes =
        ["livenessProbe", "readinessProbe", "startupProbe"].map(|field| (&container[field], path.field(field)));
    let hooks =
        ["postStart", "preStop"].map(|field| (&container["lifecycle"][field], path.field("lifecycle").field(field)));
    for (probe, path) in probes.into_iter().chain(hooks) {
        for way in ["httpGet", "tcpSocket"] {
            let host = probe[way]["host"].as_str().filter(|host| !host.is_empty());
            if let Some(host) = host {
                let message = format!("the node itself asks {host} for the container {name}, past every policy");
                findings.push(PROBE_HOST.at(
                    &path.field(way).field("host"),
                    message,
                    "leave host out: the pod is asked",
                ));
            }
        }
    }
}

/// Whether a container has NET_RAW only because nobody dropped it.
pub fn keeps_net_raw(container: &Value) -> bool {
    let context = &container["securityContext"];
    let named = |list: &str| {
        items(&context["capabilities"][list])
            .filter_map(Value::as_str)
            .any(|name| matches!(name.trim_start_matches("CAP_"), "NET_RAW" | "ALL"))
    };
    context["privileged"] != true && !named("add") && !named("drop")
}

/// What of the kept directories a path reaches: one that lies below it, or above it.
fn reaches(path: &str) -> Option<&'static str> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    KEPT.into_iter().find(|kept| kept.split('/').filter(|part| !part.is_empty()).zip(&parts).all(|(a, b)| a == *b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_directory_above_or_below_a_kept_one_reaches_it() {
        for path in ["/", "/sys", "/sys/fs/bpf/ringfence", "/var//run/../run/containerd", "/var/lib", "/a/.."] {
            assert!(reaches(path).is_some(), "{path}");
        }
        for path in ["/data", "/var/log", "/var/lib/mysql", "/running"] {
            assert_eq!(reaches(path), None, "{path}");
        }
    }

    #[test]
    fn every_list_of_containers_is_looked_at() {
        let wild =
            json!([{"name": "c", "securityContext": {"privileged": true, "capabilities": {"add": ["CAP_BPF"]}}}]);
        for list in CONTAINERS {
            let found = rules(&json!({"spec": {list: wild}}), &FieldPath::root().field("spec").field("template"));
            let paths: Vec<String> = found.iter().map(|f| f.path.to_string()).collect();
            assert_eq!(
                paths,
                [
                    format!("spec.template.spec.{list}[0].securityContext.privileged"),
                    format!("spec.template.spec.{list}[0].securityContext.capabilities.add[0]")
                ]
            );
        }
    }
}
