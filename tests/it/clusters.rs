//! Random clusters in a small universe, so that selectors, blocks, ranges and names meet each other often.

use ipnet::IpNet;
use proptest::{collection, option, prelude::*, sample::select};
use ringfence::policy::{
    baseline::{self, Baseline},
    cluster::Cluster,
    model::*,
    selector::{Requirement, Selector, Test},
};
use std::{collections::BTreeSet, net::IpAddr};

/// Addresses that pods, nodes and strangers have; blocks below divide them.
pub(crate) const ADDRESSES: [&str; 16] = [
    "10.1.0.1",
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.9",
    "10.2.0.1",
    "10.2.0.2",
    "10.2.0.9",
    "192.0.2.1",
    "192.0.2.130",
    "172.16.0.1",
    "172.16.0.2",
    "fd00:1::1",
    "fd00:1::2",
    "fd00:1::9",
    "fd00:2::1",
    "2001:db8::1",
];
const BLOCKS: [&str; 12] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/28",
    "10.1.0.2/31",
    "10.1.0.2/32",
    "10.2.0.0/29",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/16",
    "fd00:1::/124",
    "fd00:1::2/128",
];
/// Ports that flows ask for.
pub(crate) const PORTS: [u16; 6] = [0, 80, 81, 443, 5000, 65535];

fn name(names: &'static [&'static str]) -> impl Strategy<Value = Name> {
    select(names).prop_map(Name::from)
}

fn labels() -> impl Strategy<Value = Labels> {
    collection::vec((select(&["app", "tier"]), select(&["a", "b"])), 0..3).prop_map(Labels::from_iter)
}

fn selector() -> impl Strategy<Value = Selector> {
    let values = || collection::btree_set(name(&["a", "b", "c"]), 1..3);
    let test = prop_oneof![
        3 => values().prop_map(Test::In),
        1 => values().prop_map(Test::NotIn),
        1 => Just(Test::Exists),
        1 => Just(Test::DoesNotExist),
    ];
    let requirement =
        (name(&["app", "tier", baseline::NAMESPACE_NAME]), test).prop_map(|(key, test)| Requirement { key, test });
    collection::vec(requirement, 0..3).prop_map(Selector::from_iter)
}

fn block() -> impl Strategy<Value = Block> {
    (select(&BLOCKS), collection::btree_set(select(&BLOCKS), 0..3)).prop_map(|(cidr, except)| {
        let cidr: IpNet = cidr.parse().unwrap();
        let except: BTreeSet<IpNet> = except.into_iter().map(|e| e.parse().unwrap()).collect();
        Block { cidr, except: except.into_iter().filter(|e| cidr.contains(e) && *e != cidr).collect() }
    })
}

fn port() -> impl Strategy<Value = PortMatch> {
    let spec = prop_oneof![
        3 => select(&PORTS).prop_map(|p| PortSpec::Range(p, p)),
        1 => Just(PortSpec::ALL),
        1 => (select(&PORTS), select(&PORTS)).prop_map(|(a, b)| PortSpec::Range(a.min(b), a.max(b))),
        2 => name(&["http", "dns"]).prop_map(PortSpec::Named),
    ];
    (select(&Protocol::ALL), spec).prop_map(|(protocol, port)| PortMatch { protocol, port })
}

fn rule() -> impl Strategy<Value = Rule> {
    let peer = prop_oneof![
        2 => (option::of(selector()), selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        1 => block().prop_map(Peer::Block),
    ];
    (collection::vec(peer, 0..3), collection::vec(port(), 0..3)).prop_map(|(peers, ports)| Rule { peers, ports })
}

/// A policy; each direction isolates or not.
pub(crate) fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || option::weighted(0.7, collection::vec(rule(), 0..3));
    (selector(), rules(), rules()).prop_map(|(selector, ingress, egress)| NetworkPolicy { selector, ingress, egress })
}

fn pod() -> impl Strategy<Value = Pod> {
    let port = (name(&["http", "dns"]), select(&Protocol::ALL), select(&PORTS[1..]))
        .prop_map(|(name, protocol, number)| NamedPort { name, protocol, number });
    let addresses = collection::btree_set(select(&ADDRESSES), 0..3).prop_map(|chosen| {
        let mut addresses: Vec<IpAddr> = chosen.into_iter().map(|a| a.parse().unwrap()).collect();
        // One of each family, as the API has it.
        addresses.dedup_by_key(|a| a.is_ipv4());
        addresses
    });
    let node = option::weighted(0.9, name(&["n1", "n2"]));
    (labels(), node, addresses, collection::vec(port, 0..3), prop::bool::weighted(0.05), prop::bool::weighted(0.05))
        .prop_map(|(labels, node, addresses, ports, host_network, finished)| Pod {
            labels,
            node,
            addresses,
            ports,
            host_network,
            finished,
            ..Pod::default()
        })
}

fn key(names: &'static [&'static str]) -> impl Strategy<Value = Key> {
    (name(&["x", "y", "z"]), name(names)).prop_map(|(namespace, name)| Key { namespace, name })
}

/// A whole cluster of two nodes; pods may claim one address twice, and namespaces may be missing.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let namespace =
        (name(&["x", "y", "z"]), labels(), option::weighted(0.2, select(&["off", "deny-ingress", "deny-all"])));
    let namespaces = collection::btree_map(
        name(&["x", "y", "z"]),
        namespace.prop_map(|(_, labels, baseline)| (labels, baseline)),
        2..4,
    );
    let baseline =
        prop_oneof![4 => Just(Baseline::Off), 1 => Just(Baseline::DenyIngress), 1 => Just(Baseline::DenyAll)];
    (
        namespaces,
        prop::bool::weighted(0.8),
        collection::btree_map(key(&["p", "q", "r", "s"]), pod(), 0..9),
        collection::btree_map(key(&["one", "two", "three"]), policy(), 0..6),
        baseline,
    )
        .prop_map(|(namespaces, ranges, pods, policies, baseline)| Cluster {
            namespaces: namespaces
                .into_iter()
                .map(|(name, (labels, own))| {
                    let own = own.map(|own| (Name::from(baseline::LABEL), Name::from(own)));
                    let labels = labels.iter().map(|(k, v)| (k.clone(), v.clone())).chain(own).collect();
                    (
                        name.clone(),
                        Namespace { labels: baseline::with_name_label(&name, labels), ..Namespace::default() },
                    )
                })
                .collect(),
            nodes: [
                ("n1", "172.16.0.1", ["10.1.0.0/28", "fd00:1::/124"]),
                ("n2", "172.16.0.2", ["10.2.0.0/28", "fd00:2::/124"]),
            ]
            .into_iter()
            .map(|(name, address, own)| {
                let pod_ranges = own.iter().filter(|_| ranges).map(|r| r.parse().unwrap()).collect();
                (Name::from(name), Node { addresses: vec![address.parse().unwrap()], pod_ranges })
            })
            .collect(),
            pods,
            policies,
            baseline,
            ..Cluster::default()
        })
}
