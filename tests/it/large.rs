//! Large clusters, of nodes with 110 pods each. The benches use them, too.

use ringfence::policy::{
    baseline::{Baseline, with_name_label},
    cluster::Cluster,
    model::*,
    selector::{Requirement, Selector},
};

/// How large: two policies a namespace.
pub(crate) struct Size {
    namespaces: u32,
    /// In each namespace.
    pods: u32,
    nodes: u32,
}

/// 100,000 pods in 5,000 namespaces, 10,000 policies, 909 nodes.
pub(crate) const LARGE: Size = Size { namespaces: 5_000, pods: 20, nodes: 909 };
/// 5,000 pods in 500 namespaces, 1,000 policies, 45 nodes.
#[allow(dead_code, reason = "for the benches")]
pub(crate) const MEDIUM: Size = Size { namespaces: 500, pods: 10, nodes: 45 };
/// The node that is asked about.
pub(crate) const NODE: &str = "node-7";

fn equals(key: &str, value: &str) -> Selector {
    Selector::from_iter([Requirement::equals(key, value)])
}

/// Two policies a namespace: one app admits another, and a team's namespaces and a block are admitted on a range.
fn policies(namespace: u32) -> [(Key, NetworkPolicy); 2] {
    let port = |port| PortMatch { protocol: Protocol::Tcp, port };
    let near = Rule {
        peers: vec![Peer::Pods { namespaces: None, pods: equals("app", "app-0") }],
        ports: vec![port(PortSpec::Range(80, 80))],
    };
    let block = Block { cidr: format!("192.168.{}.0/24", namespace % 256).parse().unwrap(), except: vec![] };
    let far = Rule {
        peers: vec![
            Peer::Pods {
                namespaces: Some(equals("team", &format!("team-{}", namespace % 100))),
                pods: equals("app", "app-1"),
            },
            Peer::Block(block),
        ],
        ports: vec![port(PortSpec::Range(8000, 8999))],
    };
    let key = |name: &str| Key::new(format!("ns-{namespace}"), name);
    let policy = |app: &str, rule: Rule| NetworkPolicy {
        selector: equals("app", app),
        ingress: Some(vec![rule.clone()]),
        egress: Some(vec![rule]),
        mode: None,
    };
    [(key("near"), policy("app-1", near)), (key("far"), policy("app-2", far))]
}

impl Size {
    /// A pod by its namespace and its number in it.
    pub(crate) fn pod(&self, namespace: u32, number: u32) -> (Key, Pod) {
        let place = namespace * self.pods + number;
        let labels = [("app".to_owned(), format!("app-{}", number % 4)), ("pod".to_owned(), number.to_string())];
        let pod = Pod {
            labels: Labels::from_iter(labels),
            node: Some(format!("node-{}", place % self.nodes).into()),
            addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + place).into()],
            ..Pod::default()
        };
        (Key::new(format!("ns-{namespace}"), format!("pod-{number}")), pod)
    }

    /// All of it.
    pub(crate) fn cluster(&self) -> Cluster {
        let namespace = |n: u32| {
            let name = Name::from(format!("ns-{n}"));
            let labels = Labels::from_iter([("team".to_owned(), format!("team-{}", n % 100))]);
            (name.clone(), Namespace { labels: with_name_label(&name, labels), ..Namespace::default() })
        };
        Cluster {
            namespaces: (0..self.namespaces).map(namespace).collect(),
            nodes: (0..self.nodes).map(|n| (Name::from(format!("node-{n}")), Node::default())).collect(),
            pods: (0..self.namespaces).flat_map(|n| (0..self.pods).map(move |p| self.pod(n, p))).collect(),
            policies: (0..self.namespaces).flat_map(policies).collect(),
            baseline: Baseline::Off,
            ..Cluster::default()
        }
    }
}
