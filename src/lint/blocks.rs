//! ipBlocks: what lies inside them that nobody thought of, and what does not.

use super::{
    Meaning,
    view::{View, block, list},
};
use crate::{
    finding::{FieldPath, Finding, Severity, rule::Rule},
    policy::model::{self, Block, Direction, Peer},
};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

pub(super) const RULES: &[Rule] =
    &[METADATA, EXCEPT_TWICE, EXCEPT_UNDONE, ONE_FAMILY, COVERS_PODS, PODS, SERVICE, CLIENTS];

const METADATA: Rule = Rule {
    id: "metadata-endpoint",
    severity: Some(Severity::Warning),
    title: "An egress block holds the cloud's metadata endpoint",
    why: "169.254.169.254 gives credentials of the node to whoever asks on many clouds. A block as large as `0.0.0.0/0` holds \
          it.",
    wrong: "podSelector: {}\npolicyTypes: [Egress]\negress:\n- to:\n  - ipBlock: {cidr: 0.0.0.0/0}\n",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 0.0.0.0/0, except: [169.254.169.254/32]}
",
};

const EXCEPT_TWICE: Rule = Rule {
    id: "except-overlap",
    severity: Some(Severity::Warning),
    title: "An except lies inside another one",
    why: "What is excepted twice is excepted once. One of the two was probably meant to be another range.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.1.2.0/24]}
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.2.0/24]}
",
};

const EXCEPT_UNDONE: Rule = Rule {
    id: "except-undone",
    severity: Some(Severity::Warning),
    title: "What an except takes out another rule lets in",
    why: "An `except` does not deny: it only says what this block does not admit. Rules and policies add up, so another one that \
          admits the same range undoes it: of this policy, or of another one that holds for the same pods.",
    wrong: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
- to:
  - ipBlock: {cidr: 10.1.0.0/16}
",
    right: "\
podSelector: {}
policyTypes: [Egress]
egress:
- to:
  - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}
- to:
  - ipBlock: {cidr: 192.168.0.0/16}
",
};

const ONE_FAMILY: Rule = Rule {
    id: "one-address-family",
    severity: Some(Severity::Hint),
    title: "Every address of one family, and none of the other",
    why: "`0.0.0.0/0` is every IPv4 address and no IPv6 address. In a dual-stack cluster names often resolve to IPv6 first.",
    wrong: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - ipBlock: {cidr: 0.0.0.0/0}
",
    right: "\
podSelector: {}
policyTypes: [Ingress]
ingress:
- from:
  - ipBlock: {cidr: 0.0.0.0/0}
  - ipBlock: {cidr: '::/0'}
",
};

const COVERS_PODS: Rule = Rule {
    id: "block-covers-pods",
    severity: Some(Severity::Warning),
    title: "A block that is meant for the outside holds the pods of the cluster",
    why: "Ringfence and Calico hold ipBlocks against the addresses of pods, too; Cilium does not. A large block without an except \
          for the pod ranges opens what the selectors of other rules close.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 10.0.0.0/8}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 10.0.0.0/8, except: [10.244.0.0/16]}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
",
};

const PODS: Rule = Rule {
    id: "block-of-pods",
    severity: Some(Severity::Warning),
    title: "An ipBlock means pods by their addresses",
    why: "The address of a pod is another one after every restart, and its old one is soon another pod's. Pods are meant by \
          their labels.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 10.244.1.7/32}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {}
  policyTypes: [Egress]
  egress:
  - to:
    - podSelector: {matchLabels: {app: db}}
---
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
",
};

const SERVICE: Rule = Rule {
    id: "block-of-service",
    severity: Some(Severity::Warning),
    title: "An ipBlock means a Service by its address",
    why: "Traffic to a Service is judged after its address has become that of a pod behind it. An ipBlock with a ClusterIP, or \
          with the address of a load balancer of this cluster, never matches it.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to:
    - ipBlock: {cidr: 10.96.0.20/32}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: 10.96.0.20
  selector: {app: db}
  ports: [{port: 3306}]
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Egress]
  egress:
  - to:
    - podSelector: {matchLabels: {app: db}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: 10.96.0.20
  selector: {app: db}
  ports: [{port: 3306}]
",
};

const CLIENTS: Rule = Rule {
    id: "client-address-hidden",
    severity: Some(Severity::Warning),
    title: "Clients outside come with the address of a node",
    why: "A Service of type NodePort or LoadBalancer without `externalTrafficPolicy: Local` may send a connection on through \
          another node, which puts its own address in place of the client's. An ipBlock with the clients' addresses then \
          matches some connections and not others.",
    wrong: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: {cidr: 203.0.113.0/24}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
",
    right: "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - ipBlock: {cidr: 203.0.113.0/24}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  selector: {app: web}
  ports: [{port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
",
};

const ENDPOINT: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// How many blocks are held against the cluster.
const BLOCKS: usize = 200;

pub(super) fn rules(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = families(policy);
    let blocks = policy
        .peers()
        .filter_map(|(direction, path, peer)| block(peer).map(|block| (direction, path.field("ipBlock"), block)));
    for (direction, path, block) in blocks.take(BLOCKS) {
        if direction == Direction::Egress && holds(block, ENDPOINT) && block.cidr.prefix_len() < 32 {
            let message = format!("{} holds 169.254.169.254, the cloud's metadata endpoint", block.cidr);
            findings.push(METADATA.at(&path.field("cidr"), message, "write except: [169.254.169.254/32]"));
        }
        findings.extend(excepts(policy, direction, &path, block));
        if let Some(view) = &policy.view {
            findings.extend(around(policy, view, direction, &path, block));
        }
    }
    findings
}

fn holds(block: &Block, address: IpAddr) -> bool {
    block.cidr.contains(&address) && !block.except.iter().any(|except| except.contains(&address))
}

fn excepts(policy: &Meaning<'_>, direction: Direction, path: &FieldPath, block: &Block) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (at, except) in block.except.iter().enumerate().take(BLOCKS) {
        let path = path.field("except").index(at);
        let other = block.except.iter().enumerate().find(|(n, other)| {
            *n != at && other.contains(except) && (other.prefix_len() < except.prefix_len() || *n < at)
        });
        if let Some((_, other)) = other {
            let message = format!("{except} lies inside {other}, which is excepted already");
            findings.push(EXCEPT_TWICE.at(&path, message, "leave it out, or write the range that was meant"));
            continue;
        }
        // The same ports, or any: a rule for another port does not undo it.
        let own = policy.rules().find(|(_, at, _)| path.0.starts_with(&at.path().0)).map(|(_, _, rule)| &rule.ports);
        let meet = |rule: &model::Rule| rule.ports.is_empty() || Some(&rule.ports) == own;
        let undoes = |peer: &Peer| matches!(peer, Peer::Block(b) if b.cidr.contains(except) && b.except.is_empty());
        let here = policy.rules().filter(|(d, _, rule)| *d == direction && meet(rule)).find_map(|(_, at, rule)| {
            let peer = rule.peers.iter().position(undoes).map(|peer| at.field(list(direction)).index(peer));
            peer.filter(|peer| !path.0.starts_with(&peer.0)).or_else(|| rule.peers.is_empty().then(|| at.path()))
        });
        let undone = here.map(|other| other.to_string()).or_else(|| {
            let (key, _) = policy.beside().iter().find(|(_, other)| {
                let mut rules = other.rules(direction).into_iter().flatten().filter(|rule| meet(rule));
                rules.any(|rule| rule.peers.is_empty() || rule.peers.iter().any(undoes))
            })?;
            Some(format!("the policy {}", key.name))
        });
        if let Some(other) = undone {
            let message = format!("{except} is taken out here and let in by {other}");
            findings.push(EXCEPT_UNDONE.at(
                &path,
                message,
                "policies only add: leave the other one out, or give it the same except",
            ));
        }
    }
    findings
}

fn families(policy: &Meaning<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (direction, path, rule) in policy.rules() {
        let whole = |v4: bool| {
            let blocks = rule.peers.iter().enumerate().filter_map(|(at, peer)| Some((at, block(peer)?.cidr)));
            blocks.into_iter().find(|(_, cidr)| cidr.prefix_len() == 0 && matches!(cidr, IpNet::V4(_)) == v4)
        };
        let (at, other) = match (whole(true), whole(false)) {
            (Some((at, _)), None) => (at, "::/0"),
            (None, Some((at, _))) => (at, "0.0.0.0/0"),
            _ => continue,
        };
        let path = path.field(list(direction)).index(at).field("ipBlock").field("cidr");
        let message = format!("every address of one family, and none in {other}");
        findings.push(ONE_FAMILY.at(&path, message, format!("write a second peer: ipBlock: {{cidr: '{other}'}}")));
    }
    findings
}

fn around(
    policy: &Meaning<'_>,
    view: &View<'_>,
    direction: Direction,
    path: &FieldPath,
    block: &Block,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let cidr = path.field("cidr");
    let mut ranges = view.cluster.nodes.values().flat_map(|node| &node.pod_ranges).take(super::view::LOOKS);
    let open = |range: &&IpNet| !block.except.iter().any(|except| except.contains(*range));
    let touched = ranges.find(|range| (block.cidr.contains(*range) || range.contains(&block.cidr)) && open(range));
    if let Some(range) = touched {
        findings.push(if range.contains(&block.cidr) {
            let message = format!("{} are addresses of pods ({range}), which change", block.cidr);
            PODS.at(&cidr, message, "write a podSelector, with a namespaceSelector where they are elsewhere")
        } else {
            let message = format!("{} holds the pods of this cluster, too ({range})", block.cidr);
            COVERS_PODS.at(&cidr, message, format!("if they are not meant write except: [{range}] and their like"))
        });
    }
    let narrow = block.cidr.prefix_len() + 8 >= block.cidr.max_prefix_len();
    let mut services = view.cluster.around.services.iter().take(super::view::LOOKS);
    let is_its = |address: &IpAddr| holds(block, *address);
    if narrow && let Some((key, service)) = services.find(|(_, s)| s.addresses.iter().chain(&s.external).any(is_its)) {
        let help = match service.selector.is_empty() {
            true => "write the addresses and the port of its endpoints".to_owned(),
            false => "write a podSelector for the pods behind it, and the port that they listen on".to_owned(),
        };
        let message = format!("{} is the Service {key}: judged are the pods behind it, not its address", block.cidr);
        findings.push(SERVICE.at(&cidr, message, help));
    }
    if direction == Direction::Ingress && block.cidr.prefix_len() > 0 {
        let selected = || policy.selected().iter().take(20);
        let hiding = view
            .services(&policy.key.namespace)
            .find(|(_, service)| service.hides_clients && selected().any(|(_, pod)| service.has(pod)));
        if let Some((key, _)) = hiding {
            let message = format!("clients may come through the Service {} with the address of a node", key.name);
            findings.push(CLIENTS.at(&cidr, message, "write externalTrafficPolicy: Local in that Service"));
        }
    }
    findings
}
