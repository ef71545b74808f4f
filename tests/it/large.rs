//! A large cluster: 100,000 pods in 5,000 namespaces, 10,000 policies, 909 nodes with 110 pods each. The benches use it, too.

use ringfence::policy::{
    baseline::{Baseline, with_name_label},
    cluster::Cluster,
    model::*,
    selector::{Requirement, Selector},
};

const NAMESPACES: u32 = 5_000;
const PODS: u32 = 20;
const NODES: u32 = 909;
/// The node that is asked about.
pub(crate) const NODE: &str = "node-7";

fn equals(key: &str, value: &str) -> Selector {
    Selector::from_iter([Requirement::equals(key, value)])
}

/// A pod by its namespace and its number in it.
pub(crate) fn pod(namespace: u32, number: u32) -> (Key, Pod) {
    let place = namespace * PODS + number;
    let labels = [("app".to_owned(), format!("app-{}", number % 4)), ("pod".to_owned(), number.to_string())];
    let pod = Pod {
        labels: Labels::from_iter(labels),
        node: Some(format!("node-{}", place % NODES).into()),
        addresses: vec![std::net::Ipv4Addr::from(0x0a00_0000 + place).into()],
        ..Pod::default()
    };
    (Key::new(format!("ns-{namespace}"), format!("pod-{number}")), pod)
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

/// All of it.
pub(crate) fn cluster() -> Cluster {
    let namespace = |n: u32| {
        let name = Name::from(format!("ns-{n}"));
        let labels = Labels::from_iter([("team".to_owned(), format!("team-{}", n % 100))]);
        (name.clone(), Namespace { labels: with_name_label(&name, labels), ..Namespace::default() })
    };
    Cluster {
        namespaces: (0..NAMESPACES).map(namespace).collect(),
        nodes: (0..NODES).map(|n| (Name::from(format!("node-{n}")), Node::default())).collect(),
        pods: (0..NAMESPACES).flat_map(|n| (0..PODS).map(move |p| pod(n, p))).collect(),
        policies: (0..NAMESPACES).flat_map(policies).collect(),
        baseline: Baseline::Off,
        ..Cluster::default()
    }
}
