//! The cluster's resolver: whom DNS reaches, behind DNAT.
//!
//! `EndpointSlices of kube-dns, pods -> Resolver -> rules beyond the labels`. Nearly every resolver is pods that a baseline lets
//! DNS out to by their labels; then nothing is added to it, and no rollout of theirs changes a policy.

use super::{
    baseline::NAMESPACE_NAME,
    cluster::{Event, of_namespace, set},
    model::{Block, Key, Name, Peer, Pod, PortMatch, PortSpec, Protocol, Rule},
    selector::{Requirement, Selector},
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// The namespace of the resolver.
pub const NAMESPACE: &str = "kube-system";
/// The Service of the resolver.
pub const SERVICE: &str = "kube-dns";
/// What its pods are labelled with.
const LABEL: (&str, &str) = ("k8s-app", "kube-dns");
/// Its port.
const PORT: u16 = 53;
/// So many addresses are let out to beyond the labels: a resolver has a few, on the network of its nodes one for each.
const MOST: usize = 1000;

/// DNS to the pods that are labelled as the resolver's.
pub fn by_labels() -> Rule {
    Rule {
        peers: vec![Peer::Pods {
            namespaces: Some(Selector::from_iter([Requirement::equals(NAMESPACE_NAME, NAMESPACE)])),
            pods: Selector::from_iter([Requirement::equals(LABEL.0, LABEL.1)]),
        }],
        ports: [Protocol::Udp, Protocol::Tcp].map(|protocol| at(protocol, PORT)).to_vec(),
    }
}

fn at(protocol: Protocol, port: u16) -> PortMatch {
    PortMatch { protocol, port: PortSpec::Range(port, port) }
}

/// An EndpointSlice of the resolver's Service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Slice {
    /// Addresses, ready or not, and the pod of [`NAMESPACE`] that each is said to be of.
    pub addresses: BTreeMap<IpAddr, Option<Name>>,
    /// Protocols and numbers of its ports.
    pub ports: BTreeSet<(Protocol, u16)>,
}

impl Slice {
    /// The ports on which it answers DNS: those of UDP, and of TCP the same numbers. What else a resolver has (its metrics) is
    /// nobody's DNS.
    fn dns(&self) -> impl Iterator<Item = (Protocol, u16)> {
        let is_dns = |&(protocol, port): &(Protocol, u16)| match protocol {
            Protocol::Udp => true,
            Protocol::Tcp => port == PORT || self.ports.contains(&(Protocol::Udp, port)),
            Protocol::Sctp => false,
        };
        self.ports.iter().copied().filter(is_dns)
    }
}

/// What is known of the resolver.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    slices: BTreeMap<Key, Slice>,
    /// What follows from them and from the pods.
    beyond: Arc<[Rule]>,
    left_out: usize,
}

impl Resolver {
    /// The slices of its Service.
    pub fn slices(&self) -> &BTreeMap<Key, Slice> {
        &self.slices
    }

    /// DNS to where the slices lead and [`by_labels`] does not. The same again as long as nothing changes.
    pub fn beyond(&self) -> &Arc<[Rule]> {
        &self.beyond
    }

    /// How many addresses were too many.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    pub(super) fn apply(&mut self, key: Key, slice: Option<Slice>, pods: &BTreeMap<Key, Pod>) -> Option<Event> {
        let back = set(&mut self.slices, key, slice, Event::Resolver)?;
        self.follow(pods);
        Some(back)
    }

    /// Whether it makes a difference what becomes of a pod.
    pub(super) fn concerns(&self, key: &Key, pod: &Pod) -> bool {
        let of_slice = |slice: &Slice| slice.addresses.values().flatten().any(|name| *name == key.name);
        key.namespace.as_ref() == NAMESPACE && (is_labelled(pod) || self.slices.values().any(of_slice))
    }

    /// Brings what follows up to the slices and the pods.
    pub(super) fn follow(&mut self, pods: &BTreeMap<Key, Pod>) {
        let mut ports_of = self.ports_beyond(pods);
        self.left_out = ports_of.len().saturating_sub(MOST);
        let mut rules: BTreeMap<BTreeSet<(Protocol, u16)>, Vec<Peer>> = BTreeMap::new();
        while ports_of.len() > MOST {
            ports_of.pop_last();
        }
        for (address, ports) in ports_of {
            let block = Block { cidr: IpNet::from(address), except: Vec::new() };
            rules.entry(ports).or_default().push(Peer::Block(block));
        }
        let rule = |(ports, peers): (BTreeSet<_>, _)| {
            let ports = ports.into_iter().map(|(protocol, port)| at(protocol, port)).collect();
            Rule { peers, ports }
        };
        let beyond: Arc<[Rule]> = rules.into_iter().map(rule).collect();
        if beyond != self.beyond {
            self.beyond = beyond;
        }
    }

    fn ports_beyond(&self, pods: &BTreeMap<Key, Pod>) -> BTreeMap<IpAddr, BTreeSet<(Protocol, u16)>> {
        let mut beyond: BTreeMap<IpAddr, BTreeSet<(Protocol, u16)>> = BTreeMap::new();
        if self.slices.is_empty() {
            return beyond;
        }
        let labelled = of_namespace(pods, &NAMESPACE.into()).filter(|(_, pod)| is_labelled(pod));
        let labelled: BTreeSet<IpAddr> = labelled.flat_map(|(_, pod)| &pod.addresses).copied().collect();
        for slice in self.slices.values() {
            for (address, name) in &slice.addresses {
                let pod = name.as_ref().map(|name| pods.get(&Key::new(NAMESPACE, name.clone())));
                // A pod that is gone, or not there yet: the slice and the pod are told one after the other, and the address may
                // be somebody else's meanwhile.
                if pod.is_some_and(|pod| pod.is_none_or(|pod| pod.finished)) {
                    continue;
                }
                let early = pod.flatten().is_some_and(|pod| is_labelled(pod) && pod.addresses.is_empty());
                let covered = early || labelled.contains(address);
                let ports: BTreeSet<_> = slice.dns().filter(|(_, port)| !(covered && *port == PORT)).collect();
                if !ports.is_empty() {
                    beyond.entry(*address).or_default().extend(ports);
                }
            }
        }
        beyond
    }
}

/// Whether [`by_labels`] speaks of a pod of [`NAMESPACE`].
fn is_labelled(pod: &Pod) -> bool {
    pod.is_endpoint() && pod.labels.get(LABEL.0).is_some_and(|value| value.as_ref() == LABEL.1)
}

#[cfg(test)]
mod tests {
    use super::super::cluster::Cluster;
    use super::*;

    const DNS: [(Protocol, u16); 2] = [(Protocol::Udp, PORT), (Protocol::Tcp, PORT)];
    /// As kubeadm's Service has it.
    const METRICS: (Protocol, u16) = (Protocol::Tcp, 9153);

    fn key(name: &str) -> Key {
        Key::new(NAMESPACE, name)
    }

    fn pod(app: &'static str, address: Option<&str>) -> Pod {
        let addresses = address.map(|address| address.parse().unwrap()).into_iter().collect();
        Pod { labels: [(LABEL.0, app)].into_iter().collect(), addresses, ..Pod::default() }
    }

    fn slice(addresses: &[(&str, Option<&str>)], ports: &[(Protocol, u16)]) -> Event {
        let address = |(address, pod): &(&str, Option<&str>)| (address.parse().unwrap(), pod.map(Name::from));
        let slice =
            Slice { addresses: addresses.iter().map(address).collect(), ports: ports.iter().copied().collect() };
        Event::Resolver(key("s"), Some(slice))
    }

    fn apply(cluster: &mut Cluster, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| drop(cluster.apply(event)));
    }

    /// What there is beyond the labels after these events: addresses and ports.
    fn beyond(events: impl IntoIterator<Item = Event>) -> Vec<String> {
        let mut cluster = Cluster::default();
        apply(&mut cluster, events);
        said(&cluster)
    }

    fn said(cluster: &Cluster) -> Vec<String> {
        let peer = |peer: &Peer| match peer {
            Peer::Block(block) => block.cidr.to_string(),
            other => panic!("{other:?}"),
        };
        let port = |port: &PortMatch| match port.port {
            PortSpec::Range(from, _) => format!("{from}/{}", port.protocol),
            PortSpec::Named(_) => panic!("{port:?}"),
        };
        let rule =
            |rule: &Rule| -> Vec<String> { rule.peers.iter().map(peer).chain(rule.ports.iter().map(port)).collect() };
        cluster.resolver.beyond().iter().map(|one| rule(one).join(" ")).collect()
    }

    #[test]
    fn an_ordinary_resolver_has_nothing_beyond_its_labels_and_its_rollout_changes_nothing() {
        let mut cluster = Cluster::default();
        let ports = [DNS[0], DNS[1], METRICS];
        let (old, new) = (("10.0.0.1", Some("old")), ("10.0.0.2", Some("new")));
        let steps = [
            Event::Pod(key("old"), Some(pod("kube-dns", Some("10.0.0.1")))),
            slice(&[old], &ports),
            // The slice may know the address earlier than the pod is told with it, or the pod itself is.
            slice(&[old, new], &ports),
            Event::Pod(key("new"), Some(pod("kube-dns", None))),
            Event::Pod(key("new"), Some(pod("kube-dns", Some("10.0.0.2")))),
            // And later that it is gone.
            Event::Pod(key("old"), Some(Pod { finished: true, ..pod("kube-dns", Some("10.0.0.1")) })),
            Event::Pod(key("old"), None),
            slice(&[new], &ports),
        ];
        let before = cluster.resolver.beyond().clone();
        for step in steps {
            apply(&mut cluster, [step.clone()]);
            assert_eq!(said(&cluster), Vec::<String>::new(), "{step:?}");
            assert!(Arc::ptr_eq(&before, cluster.resolver.beyond()));
        }
    }

    #[test]
    fn a_resolver_on_the_network_of_its_nodes_is_let_out_to_by_their_addresses() {
        let host = Pod { host_network: true, ..pod("kube-dns", Some("192.0.2.1")) };
        let slice = slice(&[("192.0.2.1", Some("a"))], &[DNS[0], DNS[1], METRICS]);
        assert_eq!(beyond([Event::Pod(key("a"), Some(host)), slice]), ["192.0.2.1/32 53/TCP 53/UDP"]);
    }

    #[test]
    fn other_labels_and_other_ports_are_beyond_and_what_is_covered_is_not_said_twice() {
        let ports = [(Protocol::Udp, 5353), (Protocol::Tcp, 5353), DNS[0]];
        let slice =
            slice(&[("10.0.0.1", Some("a")), ("10.0.0.2", Some("b")), ("10.0.0.3", None), ("fd00::3", None)], &ports);
        let pods = [("a", "kube-dns", "10.0.0.1"), ("b", "mydns", "10.0.0.2"), ("c", "kube-dns", "10.0.0.3")];
        let pods = pods.map(|(name, app, address)| Event::Pod(key(name), Some(pod(app, Some(address)))));
        let wanted = ["10.0.0.2/32 fd00::3/128 5353/TCP 53/UDP 5353/UDP", "10.0.0.1/32 10.0.0.3/32 5353/TCP 5353/UDP"];
        assert_eq!(beyond(pods.clone().into_iter().chain([slice.clone()])), wanted);
        assert_eq!(beyond([slice].into_iter().chain(pods)), wanted, "whatever is told first");
    }

    #[test]
    fn a_slice_that_is_gone_leaves_nothing() {
        assert_eq!(
            beyond([slice(&[("192.0.2.1", None)], &DNS), Event::Resolver(key("s"), None)]),
            Vec::<String>::new()
        );
    }

    #[test]
    fn the_address_of_a_pod_that_is_gone_is_nobody_s() {
        let slice = slice(&[("10.0.0.2", Some("b"))], &DNS);
        let there = Event::Pod(key("b"), Some(pod("mydns", Some("10.0.0.2"))));
        assert_eq!(beyond([slice.clone(), there.clone()]), ["10.0.0.2/32 53/TCP 53/UDP"]);
        assert_eq!(beyond([slice, there, Event::Pod(key("b"), None)]), Vec::<String>::new());
    }

    #[test]
    fn so_many_addresses_and_no_more() {
        let addresses: Vec<String> = (0..1005u16).map(|n| format!("10.0.{}.{}", n / 256, n % 256)).collect();
        let addresses: Vec<_> = addresses.iter().map(|address| (address.as_str(), None)).collect();
        let mut cluster = Cluster::default();
        apply(&mut cluster, [slice(&addresses, &DNS)]);
        assert_eq!(cluster.resolver.beyond().iter().map(|rule| rule.peers.len()).collect::<Vec<_>>(), [MOST]);
        assert_eq!(cluster.resolver.left_out(), 5);
        apply(&mut cluster, [Event::Resolver(key("s"), None)]);
        assert_eq!(cluster.resolver.left_out(), 0);
    }
}
