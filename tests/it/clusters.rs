//! Random clusters in a small universe, so that selectors, blocks, ranges and names meet each other often.

use ipnet::IpNet;
use proptest::{collection, option, prelude::*, sample::select};
use ringfence::policy::{
    baseline::{self, Baseline},
    cluster::{ANTI_SPOOFING, Attachment, Cluster, Event, Unknown},
    mode::{self, Mode},
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
const PODS: [&str; 4] = ["p", "q", "r", "s"];
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
    let own = prop_oneof![8 => Just(None), 2 => Just(Some(Mode::Audit)), 1 => Just(Some(Mode::Enforce))];
    (selector(), rules(), rules(), own).prop_map(|(selector, ingress, egress, mode)| NetworkPolicy {
        selector,
        ingress,
        egress,
        mode,
    })
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
    let parts = (
        labels(),
        node,
        addresses,
        collection::vec(port, 0..3),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.05),
    );
    (parts, uid()).prop_map(|((labels, node, addresses, ports, host_network, finished), uid)| Pod {
        labels,
        node,
        addresses,
        ports,
        host_network,
        finished,
        uid,
    })
}

fn uid() -> impl Strategy<Value = Option<Uid>> {
    option::weighted(0.7, (1u128..3).prop_map(Uid))
}

/// What `n1` sees on its interfaces.
fn attachment() -> impl Strategy<Value = Attachment> {
    (1u32..5, option::weighted(0.8, (key(&PODS), uid()))).prop_map(|(ifindex, pod)| Attachment { ifindex, pod })
}

fn key(names: &'static [&'static str]) -> impl Strategy<Value = Key> {
    (name(&["x", "y", "z"]), name(names)).prop_map(|(namespace, name)| Key { namespace, name })
}

/// A whole cluster of two nodes, as `n1` sees it; pods may claim one address twice, and namespaces may be missing.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let own_baseline = option::weighted(0.2, select(&["off", "deny-ingress", "deny-all"]));
    let own_mode = option::weighted(0.2, select(&["enforce", "audit", "neither"]));
    let own_binding = option::weighted(0.2, select(&["off", "on"]));
    let namespace = (labels(), own_baseline, own_mode, own_binding);
    let namespaces = collection::btree_map(name(&["x", "y", "z"]), namespace, 2..4);
    let baseline =
        prop_oneof![4 => Just(Baseline::Off), 1 => Just(Baseline::DenyIngress), 1 => Just(Baseline::DenyAll)];
    (
        namespaces,
        prop::bool::weighted(0.8),
        collection::btree_map(key(&PODS), pod(), 0..9),
        collection::btree_map(key(&["one", "two", "three"]), policy(), 0..6),
        baseline,
        (
            prop_oneof![
                1 => Just(Default::default()),
                2 => collection::btree_map(select(&ADDRESSES).prop_map(|a| a.parse().unwrap()), attachment(), 0..6),
            ],
            collection::btree_set(select(&BLOCKS[1..]).prop_map(|b| b.parse().unwrap()), 0..2),
            prop_oneof![4 => Just(Unknown::Closed), 1 => Just(Unknown::Open)],
            prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Audit)],
        ),
    )
        .prop_map(|(namespaces, ranges, pods, policies, baseline, (attachments, seen, unknown, mode))| Cluster {
            namespaces: namespaces
                .into_iter()
                .map(|(name, (labels, baseline, mode, binding))| {
                    let own = [(baseline::LABEL, baseline), (mode::NAME, mode), (ANTI_SPOOFING, binding)];
                    let own = own.into_iter().filter_map(|(name, value)| Some((name.into(), value?.into())));
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
            mode,
            here: Some("n1".into()),
            attachments,
            ranges: seen,
            unknown,
        })
}

/// What a cluster is before anything is known of it: its settings, seen by nobody in particular.
pub(crate) fn settings(cluster: &Cluster) -> Cluster {
    with_settings(Cluster::default(), cluster)
}

/// The same with other settings.
pub(crate) fn with_settings(cluster: Cluster, of: &Cluster) -> Cluster {
    Cluster { baseline: of.baseline, mode: of.mode, unknown: of.unknown, ..cluster }
}

/// Everything that leads from one cluster to another: what the node sees on itself comes in between the rest.
pub(crate) fn events(from: &Cluster, to: &Cluster) -> Vec<Event> {
    let mut of_the_node: Vec<Event> = Vec::new();
    let gone = from.attachments.keys().filter(|address| !to.attachments.contains_key(address));
    of_the_node.extend(gone.map(|address| Event::Attachment(*address, None)));
    let there = to.attachments.iter().filter(|(address, seen)| from.attachments.get(address) != Some(seen));
    of_the_node.extend(there.map(|(address, seen)| Event::Attachment(*address, Some(seen.clone()))));
    if from.ranges != to.ranges {
        of_the_node.push(Event::Ranges(to.ranges.clone()));
    }
    let mut events = from.events_to(to);
    let apart = events.len() / (of_the_node.len() + 1) + 1;
    for (number, event) in of_the_node.into_iter().enumerate() {
        events.insert((number * (apart + 1)).min(events.len()), event);
    }
    events
}

/// The same cluster from the place of a node that sees nothing on itself.
pub(crate) fn seen_from(cluster: &Cluster, node: &str) -> Cluster {
    match cluster.here.as_deref() == Some(node) {
        true => cluster.clone(),
        false => Cluster {
            here: Some(node.into()),
            attachments: Default::default(),
            ranges: Default::default(),
            ..cluster.clone()
        },
    }
}
