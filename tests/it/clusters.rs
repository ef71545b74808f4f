//! Random clusters in a small universe, so that selectors, blocks, ranges and names meet each other often.

use ipnet::IpNet;
use proptest::{
    collection, option,
    prelude::*,
    sample::{Index, select},
};
use ringfence::policy::{
    baseline::{self, Baseline},
    cluster::{ANTI_SPOOFING, Attachment, Cluster, Event, Sightings, Unknown},
    mode::{self, Mode},
    model::*,
    resolver::{self, Slice},
    selector::{Requirement, Selector, Test, Values},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

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
/// Some with bits of a host, as the API takes them.
const BLOCKS: [&str; 14] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/28",
    "10.1.0.5/28",
    "10.1.0.2/31",
    "10.1.0.2/32",
    "10.2.0.0/29",
    "192.0.2.0/24",
    "192.0.2.128/25",
    "::/0",
    "fd00::/16",
    "fd00:1::/124",
    "fd00:1::7/124",
    "fd00:1::2/128",
];
const PODS: [&str; 4] = ["p", "q", "r", "s"];
const POLICIES: [&str; 3] = ["one", "two", "three"];
/// Ports that flows ask for.
pub(crate) const PORTS: [u16; 6] = [0, 80, 81, 443, 5000, 65535];

fn name(names: &'static [&'static str]) -> impl Strategy<Value = Name> {
    select(names).prop_map(Name::from)
}

fn labels() -> impl Strategy<Value = Labels> {
    collection::vec((select(&["app", "tier"]), select(&["a", "b"])), 0..3).prop_map(Labels::from_iter)
}

fn selector() -> impl Strategy<Value = Selector> {
    let requirement = |keys, values: &'static [&'static str]| {
        let values = move || collection::btree_set(name(values), 1..3).prop_map(Values::from_iter);
        let test = prop_oneof![
            3 => values().prop_map(Test::In),
            1 => values().prop_map(Test::NotIn),
            1 => Just(Test::Exists),
            1 => Just(Test::DoesNotExist),
        ];
        (name(keys), test).prop_map(|(key, test)| Requirement { key, test })
    };
    let requirement = prop_oneof![
        3 => requirement(&["app", "tier"], &["a", "b", "c"]),
        2 => requirement(&[baseline::NAMESPACE_NAME], &["x", "y", "z"]),
    ]
    .boxed();
    let requirements = prop_oneof![
        2 => Just(Vec::new()),
        2 => collection::vec(requirement.clone(), 1..2),
        1 => collection::vec(requirement, 2..3),
    ];
    requirements.prop_map(Selector::from_iter)
}

fn block() -> impl Strategy<Value = Block> {
    (
        prop_oneof![1 => select(&["0.0.0.0/0", "::/0"]), 3 => select(&BLOCKS)],
        collection::btree_set(select(&BLOCKS), 0..4),
    )
        .prop_map(|(cidr, except)| {
            let cidr: IpNet = cidr.parse().unwrap();
            let except: BTreeSet<IpNet> = except.into_iter().map(|e| e.parse().unwrap()).collect();
            Block { cidr, except: except.into_iter().filter(|e| cidr.contains(e) && *e != cidr).collect() }
        })
}

fn port() -> impl Strategy<Value = PortMatch> {
    let spec = prop_oneof![
        1 => Just(PortSpec::Range(80, 80)),
        2 => select(&PORTS).prop_map(|p| PortSpec::Range(p, p)),
        1 => Just(PortSpec::ALL),
        1 => (select(&PORTS), select(&PORTS)).prop_map(|(a, b)| PortSpec::Range(a.min(b), a.max(b))),
        4 => name(&["http", "dns"]).prop_map(PortSpec::Named),
    ];
    (protocol(), spec).prop_map(|(protocol, port)| PortMatch { protocol, port })
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![4 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp), 1 => Just(Protocol::Sctp)]
}

fn rule() -> impl Strategy<Value = Rule> {
    let peer = prop_oneof![
        3 => (option::of(selector()), selector()).prop_map(|(namespaces, pods)| Peer::Pods { namespaces, pods }),
        2 => block().prop_map(Peer::Block),
    ];
    (collection::vec(peer, 0..3), collection::vec(port(), 0..3)).prop_map(|(peers, ports)| Rule { peers, ports })
}

/// A policy; each direction isolates or not.
pub(crate) fn policy() -> impl Strategy<Value = NetworkPolicy> {
    let rules = || option::weighted(0.7, collection::vec(rule(), 0..4));
    let own = prop_oneof![8 => Just(None), 2 => Just(Some(Mode::Audit)), 1 => Just(Some(Mode::Enforce))];
    (selector(), rules(), rules(), own).prop_map(|(selector, ingress, egress, mode)| NetworkPolicy {
        selector,
        ingress,
        egress,
        mode,
    })
}

fn pod() -> impl Strategy<Value = Pod> {
    let number = prop_oneof![1 => Just(80), 1 => select(&PORTS[1..])];
    let port = (name(&["http", "dns"]), protocol(), number).prop_map(|(name, protocol, number)| NamedPort {
        name,
        protocol,
        number,
    });
    let addresses = collection::btree_set(select(&ADDRESSES), 0..4).prop_map(|chosen| {
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

/// Most addresses are of one pod only.
fn with_addresses_of_their_own(mut pods: BTreeMap<Key, Pod>) -> BTreeMap<Key, Pod> {
    let mut taken = BTreeSet::new();
    for (number, pod) in pods.values_mut().enumerate() {
        pod.addresses.retain(|address| taken.insert(*address) || number % 5 == 4);
    }
    pods
}

fn uid() -> impl Strategy<Value = Option<Uid>> {
    option::weighted(0.7, (1u128..3).prop_map(Uid))
}

/// What `n1` sees on an interface: mostly a pod that there is with an address that it has, else anything.
#[derive(Debug, Clone)]
struct Seen {
    pod: Option<Index>,
    address: Result<Index, &'static str>,
    attachment: Attachment,
}

fn seen() -> impl Strategy<Value = Seen> {
    let attachment =
        (1u32..5, option::weighted(0.8, (key(&PODS), uid()))).prop_map(|(ifindex, pod)| Attachment { ifindex, pod });
    let address = prop_oneof![2 => any::<Index>().prop_map(Ok), 1 => select(&ADDRESSES).prop_map(Err)];
    (option::weighted(0.8, any::<Index>()), address, attachment).prop_map(|(pod, address, attachment)| Seen {
        pod,
        address,
        attachment,
    })
}

fn attached(seen: Vec<Seen>, pods: &BTreeMap<Key, Pod>) -> BTreeMap<IpAddr, Attachment> {
    let here: Vec<_> = pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some("n1")).collect();
    let attach = |Seen { pod, address, mut attachment }: Seen| {
        let pod = pod.filter(|_| !here.is_empty()).map(|index| here[index.index(here.len())]);
        if let (Some((key, pod)), Some(seen)) = (pod, &mut attachment.pod) {
            *seen = (key.clone(), pod.uid.or(seen.1));
        }
        let own = |index: Index| pod.map(|(_, pod)| &pod.addresses).filter(|a| !a.is_empty()).map(|a| *index.get(a));
        let address = match address {
            Ok(index) => own(index).unwrap_or_else(|| index.get(&ADDRESSES).parse().unwrap()),
            Err(any) => any.parse().unwrap(),
        };
        (address, attachment)
    };
    seen.into_iter().map(attach).collect()
}

/// What `n2`, and somebody without a Node, see as `n1` hears it: mostly pods that there are, which may have other addresses.
fn heard(seen: Vec<(bool, Seen)>, pods: &BTreeMap<Key, Pod>) -> BTreeMap<Name, Sightings> {
    let mut heard: BTreeMap<Name, Sightings> = BTreeMap::new();
    let there: Vec<_> = pods.iter().filter(|(_, pod)| pod.node.as_deref() == Some("n2")).collect();
    for (of_n2, Seen { pod, address, attachment }) in seen {
        let pod = pod.filter(|_| !there.is_empty()).map(|index| there[index.index(there.len())]);
        let (key, uid) = attachment.pod.unwrap_or_else(|| (Key::new("x", "a"), None));
        let (key, uid) = pod.map_or((key, uid), |(key, pod)| (key.clone(), pod.uid));
        let address = address.map_or_else(|any| any, |index| *index.get(&ADDRESSES)).parse().unwrap();
        let node = if of_n2 { "n2" } else { "n3" };
        heard.entry(node.into()).or_default().insert(address, (key, uid.unwrap_or(Uid(1))));
    }
    heard
}

fn key(names: &'static [&'static str]) -> impl Strategy<Value = Key> {
    (name(&["x", "y", "z"]), name(names)).prop_map(|(namespace, name)| Key { namespace, name })
}

/// Pods beside the cluster's resolver, most of them its own, on the pod network or on that of their node.
fn resolving() -> impl Strategy<Value = BTreeMap<Key, Pod>> {
    let labelled = (pod(), prop::bool::weighted(0.7), prop::bool::weighted(0.2));
    let labelled = labelled.prop_map(|(pod, is_its, host_network)| {
        let app = if is_its { resolver::SERVICE } else { "other" };
        Pod { labels: Labels::from_iter([("k8s-app", app)]), host_network, ..pod }
    });
    collection::btree_map(name(&PODS).prop_map(|name| Key::new(resolver::NAMESPACE, name)), labelled, 0..3)
}

fn slice() -> impl Strategy<Value = Slice> {
    let address = select(&ADDRESSES).prop_map(|address| address.parse().unwrap());
    let addresses = collection::btree_map(address, option::of(name(&PODS)), 0..4);
    let number = || select(&[53, 80, 443, 5000][..]);
    let udp = number().prop_map(|number| (Protocol::Udp, number));
    let port = prop_oneof![1 => udp, 1 => (protocol(), number())];
    (addresses, collection::btree_set(port, 0..4)).prop_map(|(addresses, ports)| Slice { addresses, ports })
}

/// The slices of the resolver; clusters without are as good as those with.
fn slices() -> impl Strategy<Value = BTreeMap<Key, Slice>> {
    let key = name(&["one", "two"]).prop_map(|name| Key::new(resolver::NAMESPACE, name));
    prop_oneof![2 => Just(BTreeMap::new()), 1 => collection::btree_map(key, slice(), 1..3)]
}

/// A policy that comes, changes or goes.
pub(crate) fn policy_event() -> impl Strategy<Value = Event> {
    (key(&POLICIES), option::weighted(0.7, policy())).prop_map(|(key, policy)| Event::Policy(key, policy))
}

/// A whole cluster of two nodes, as `n1` sees it; pods may claim one address twice, and namespaces may be missing.
pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let own_baseline = option::weighted(0.2, select(&["off", "deny-ingress", "deny-all"]));
    let own_mode = option::weighted(0.2, select(&["enforce", "audit", "neither"]));
    let own_binding = option::weighted(0.2, select(&["off", "on"]));
    let namespace = (labels(), own_baseline, own_mode, own_binding);
    let namespaces = collection::vec(namespace, 3);
    let namespaces = (namespaces, option::weighted(0.3, 0usize..3)).prop_map(|(namespaces, unknown)| {
        let named = ["x", "y", "z"].map(Name::from).into_iter().zip(namespaces).enumerate();
        let known = named.filter(|(number, _)| Some(*number) != unknown);
        known.map(|(_, namespace)| namespace).collect::<BTreeMap<_, _>>()
    });
    let baseline =
        prop_oneof![8 => Just(Baseline::Off), 1 => Just(Baseline::DenyIngress), 1 => Just(Baseline::DenyAll)];
    (
        namespaces,
        prop::bool::weighted(0.8),
        collection::btree_map(key(&PODS), pod(), 0..12),
        collection::btree_map(key(&POLICIES), policy(), 0..6),
        baseline,
        (
            prop_oneof![1 => Just(Vec::new()), 2 => collection::vec(seen(), 0..6)],
            prop_oneof![1 => Just(Vec::new()), 2 => collection::vec((prop::bool::weighted(0.9), seen()), 0..6)],
            option::weighted(0.2, select(&["10.1.0.0/28", "192.0.2.128/25", "fd00:1::2/128", "10.0.0.0/8"])),
            prop_oneof![4 => Just(Unknown::Closed), 1 => Just(Unknown::Open)],
            prop_oneof![4 => Just(Mode::Enforce), 1 => Just(Mode::Audit)],
            (prop_oneof![1 => Just(BTreeMap::new()), 1 => resolving()], slices()),
        ),
    )
        .prop_map(
            |(
                namespaces,
                ranges,
                mut pods,
                policies,
                baseline,
                (seen, others, range, unknown, mode, (resolving, slices)),
            )| {
                let named = resolving.keys().next().map(|key| (key.namespace.clone(), Default::default()));
                pods.extend(resolving);
                let cluster = Cluster {
                    namespaces: namespaces
                        .into_iter()
                        .chain(named)
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
                    attachments: attached(seen, &pods),
                    neighbours: heard(others, &pods),
                    pods: with_addresses_of_their_own(pods),
                    policies,
                    baseline,
                    mode,
                    here: Some("n1".into()),
                    ranges: range.into_iter().map(|range| range.parse().unwrap()).collect(),
                    unknown,
                    around: Box::default(),
                    resolver: Default::default(),
                };
                with_slices(cluster, slices)
            },
        )
}

fn with_slices(mut cluster: Cluster, slices: BTreeMap<Key, Slice>) -> Cluster {
    slices.into_iter().for_each(|(key, slice)| drop(cluster.apply(Event::Resolver(key, Some(slice)))));
    cluster
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
    for name in from.neighbours.keys().chain(to.neighbours.keys()).collect::<BTreeSet<_>>() {
        if from.neighbours.get(name) != to.neighbours.get(name) {
            let seen = to.neighbours.get(name).cloned().unwrap_or_default();
            of_the_node.push(Event::Neighbour(name.clone(), seen));
        }
    }
    if from.ranges != to.ranges {
        of_the_node.push(Event::Ranges(to.ranges.clone()));
    }
    let mut events = from.events_to(to.clone());
    let apart = events.len() / (of_the_node.len() + 1) + 1;
    for (number, event) in of_the_node.into_iter().enumerate() {
        events.insert((number * (apart + 1)).min(events.len()), event);
    }
    events
}

/// The same cluster from the place of a node that sees nothing on itself, and hears of nobody else.
pub(crate) fn seen_from(cluster: &Cluster, node: &str) -> Cluster {
    match cluster.here.as_deref() == Some(node) {
        true => cluster.clone(),
        false => Cluster {
            here: Some(node.into()),
            attachments: Default::default(),
            neighbours: Default::default(),
            ranges: Default::default(),
            ..cluster.clone()
        },
    }
}
