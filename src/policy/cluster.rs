//! The cluster at one instant: what there is to compile.
//!
//! [`Cluster`] holds every object by its key and answers which policies isolate a pod and whose an address is. Sources
//! fill it (a directory of manifests, an API server); nothing in here fetches.

use super::{
    baseline::{self, Baseline},
    mode::{self, Mode},
    model::{Direction, Key, Name, Namespace, NetworkPolicy, Node, Pod, Uid},
    resolver::{Resolver, Slice},
    service::{Fact, Surroundings},
};
use ipnet::IpNet;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// The label by which a namespace leaves its pods out of anti-spoofing: `off`; anything else means on.
pub const ANTI_SPOOFING: &str = "ringfence.dev/anti-spoofing";

/// Namespaces, nodes, pods and policies at one instant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cluster {
    /// By name.
    pub namespaces: BTreeMap<Name, Namespace>,
    /// By name.
    pub nodes: BTreeMap<Name, Node>,
    /// By namespace and name.
    pub pods: BTreeMap<Key, Pod>,
    /// By namespace and name.
    pub policies: BTreeMap<Key, NetworkPolicy>,
    /// What namespaces without a label of their own get.
    pub baseline: Baseline,
    /// The mode of policies that have none of their own, in namespaces that have none.
    pub mode: Mode,
    /// The node that asks; none where the cluster is looked at from outside.
    pub here: Option<Name>,
    /// What the node that asks sees on itself: which address is behind which of its interfaces.
    pub attachments: BTreeMap<IpAddr, Attachment>,
    /// What other nodes see on themselves, each by its name.
    pub neighbours: BTreeMap<Name, Sightings>,
    /// Ranges that the node sees itself giving pods addresses from, besides those that its Node says.
    pub ranges: BTreeSet<IpNet>,
    /// What becomes of addresses of the node's pod ranges and interfaces that are no pod that is known.
    pub unknown: Unknown,
    /// Where DNS goes.
    pub resolver: Resolver,
    /// What explains policies; empty where nobody asks for it, as no packet does.
    pub around: Box<Surroundings>,
}

/// What becomes of an address that is a pod's, but of none that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unknown {
    /// Nothing passes.
    #[default]
    Closed,
    /// It is an address like any other.
    Open,
}

impl std::str::FromStr for Unknown {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "closed" => Ok(Unknown::Closed),
            "open" => Ok(Unknown::Open),
            _ => Err(format!("pods that are not known can not be {text:?}: write closed or open")),
        }
    }
}

/// Where a node carries an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attachment {
    /// Index of its interface in the node's network namespace; that address and no other one comes in there.
    pub ifindex: u32,
    /// Whose it is, where that is known before the API says it.
    pub pod: Option<(Key, Option<Uid>)>,
}

/// Addresses of pods that the API does not say yet, as the node sees them that runs those pods.
pub type Sightings = BTreeMap<IpAddr, (Key, Uid)>;

/// Makes a map anew, its nodes full.
pub(super) fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
}

/// What is of one namespace.
pub fn of_namespace<'a, V>(
    map: &'a BTreeMap<Key, V>,
    namespace: &Name,
) -> impl Iterator<Item = (&'a Key, &'a V)> + use<'a, V> {
    let namespace = namespace.clone();
    map.range(Key::new(namespace.clone(), Name::default())..).take_while(move |(key, _)| key.namespace == namespace)
}

/// Something that happened to one object of the cluster: what it is now, or `None` when it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A Namespace.
    Namespace(Name, Option<Namespace>),
    /// A Node.
    Node(Name, Option<Node>),
    /// A Pod.
    Pod(Key, Option<Pod>),
    /// A NetworkPolicy.
    Policy(Key, Option<NetworkPolicy>),
    /// An address on an interface of the node that asks.
    Attachment(IpAddr, Option<Attachment>),
    /// All that another node sees on itself and the API does not say yet.
    Neighbour(Name, Sightings),
    /// All ranges that the node sees itself giving pods addresses from.
    Ranges(BTreeSet<IpNet>),
    /// An EndpointSlice of the cluster's resolver.
    Resolver(Key, Option<Slice>),
    /// What explains policies.
    Around(Fact),
}

impl Cluster {
    /// Makes room: maps that grew in order are half empty inside.
    pub fn pack(&mut self) {
        pack(&mut self.namespaces);
        pack(&mut self.pods);
        pack(&mut self.policies);
        pack(&mut self.around.services);
    }

    /// Takes an event in. Returns the one that would take it back; none if nothing changed.
    pub fn apply(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Namespace(name, value) => set(&mut self.namespaces, name, value, Event::Namespace),
            Event::Node(name, value) => set(&mut self.nodes, name, value, Event::Node),
            Event::Pod(key, value) => {
                let mut either = self.pods.get(&key).into_iter().chain(&value);
                let resolves = either.any(|pod| self.resolver.concerns(&key, pod));
                let back = set(&mut self.pods, key, value, Event::Pod);
                if resolves {
                    self.resolver.follow(&self.pods);
                }
                back
            }
            Event::Policy(key, value) => set(&mut self.policies, key, value, Event::Policy),
            Event::Attachment(address, value) => set(&mut self.attachments, address, value, Event::Attachment),
            Event::Neighbour(name, seen) => {
                let seen = Some(seen).filter(|seen| !seen.is_empty());
                set(&mut self.neighbours, name, seen, |name, seen| Event::Neighbour(name, seen.unwrap_or_default()))
            }
            Event::Ranges(ranges) if ranges == self.ranges => None,
            Event::Ranges(ranges) => Some(Event::Ranges(std::mem::replace(&mut self.ranges, ranges))),
            Event::Resolver(key, slice) => self.resolver.apply(key, slice, &self.pods),
            Event::Around(Fact::Service(key, value)) => {
                set(&mut self.around.services, key, value, |key, value| Event::Around(Fact::Service(key, value)))
            }
            Event::Around(Fact::Workload(key, value)) => {
                set(&mut self.around.workloads, key, value, |key, value| Event::Around(Fact::Workload(key, value)))
            }
            Event::Around(Fact::Caller(name, value)) => {
                set(&mut self.around.callers, name, value, |name, value| Event::Around(Fact::Caller(name, value)))
            }
        }
    }

    /// The pods of a namespace.
    pub fn pods_in<'a>(&'a self, namespace: &Name) -> impl Iterator<Item = (&'a Key, &'a Pod)> + use<'a> {
        of_namespace(&self.pods, namespace)
    }

    /// The events that turn the objects of this cluster into those of another one. What nodes see on themselves comes from
    /// elsewhere and stays, as do the settings, which belong to the process.
    pub fn events_to(&self, other: Cluster) -> Vec<Event> {
        fn diff<K: Ord + Clone, V: PartialEq>(
            old: &BTreeMap<K, V>,
            new: BTreeMap<K, V>,
            event: impl Fn(K, Option<V>) -> Event,
            out: &mut Vec<Event>,
        ) {
            out.extend(old.keys().filter(|key| !new.contains_key(key)).map(|key| event(key.clone(), None)));
            let changed = new.into_iter().filter(|(key, value)| old.get(key) != Some(value));
            out.extend(changed.map(|(key, value)| event(key, Some(value))));
        }
        let mut events = Vec::new();
        diff(&self.namespaces, other.namespaces, Event::Namespace, &mut events);
        diff(&self.nodes, other.nodes, Event::Node, &mut events);
        diff(&self.policies, other.policies, Event::Policy, &mut events);
        diff(&self.pods, other.pods, Event::Pod, &mut events);
        diff(self.resolver.slices(), other.resolver.slices().clone(), Event::Resolver, &mut events);
        let Surroundings { services, workloads, callers } = &*self.around;
        let around = *other.around;
        diff(services, around.services, |key, of| Event::Around(Fact::Service(key, of)), &mut events);
        diff(workloads, around.workloads, |key, of| Event::Around(Fact::Workload(key, of)), &mut events);
        diff(callers, around.callers, |name, of| Event::Around(Fact::Caller(name, of)), &mut events);
        events
    }

    /// The mode of a policy: what it says of itself, else what its namespace says, else the setting.
    pub fn mode_of(&self, own: Option<Mode>, namespace: &Name) -> Mode {
        own.unwrap_or_else(|| self.mode_in(self.namespaces.get(namespace)))
    }

    fn mode_in(&self, namespace: Option<&Namespace>) -> Mode {
        namespace
            .and_then(|namespace| namespace.labels.get(mode::NAME))
            .map_or(self.mode, |label| Mode::of_label(label))
    }

    /// Every policy of a namespace with its key and mode, the baseline among them, in order of their keys.
    pub fn policies_in(&self, namespace: &Name) -> impl Iterator<Item = (Key, Cow<'_, NetworkPolicy>, Mode)> {
        let (baseline, setting) = self.given_in(namespace);
        let mut baseline =
            baseline.map(|policy| (Key::new(namespace.clone(), baseline::POLICY_NAME), Cow::Owned(policy)));
        // The projection of a baseline says what the baseline says; what somebody wrote into it opens nothing.
        let projected = baseline.is_some();
        let mut own = of_namespace(&self.policies, namespace)
            .filter(move |(key, _)| !(projected && key.name.as_ref() == baseline::POLICY_NAME))
            .map(|(key, policy)| (key.clone(), Cow::Borrowed(policy)))
            .peekable();
        let next = move || {
            let first = own.next_if(|(key, _)| baseline.as_ref().is_none_or(|(baseline, _)| key < baseline));
            first.or_else(|| baseline.take())
        };
        std::iter::from_fn(next).map(move |(key, policy)| {
            let mode = policy.mode.unwrap_or(setting);
            (key, policy, mode)
        })
    }

    /// One of [`Cluster::policies_in`].
    pub fn policy(&self, key: &Key) -> Option<(Cow<'_, NetworkPolicy>, Mode)> {
        let (baseline, setting) = self.given_in(&key.namespace);
        let policy = match baseline.filter(|_| key.name.as_ref() == baseline::POLICY_NAME) {
            Some(baseline) => Cow::Owned(baseline),
            None => Cow::Borrowed(self.policies.get(key)?),
        };
        let mode = policy.mode.unwrap_or(setting);
        Some((policy, mode))
    }

    /// What a namespace has besides the policies that are written in it: its baseline, and their mode.
    fn given_in(&self, namespace: &Name) -> (Option<NetworkPolicy>, Mode) {
        let known = self.namespaces.get(namespace);
        let baseline = baseline::of_namespace(namespace, known, self.baseline);
        (baseline.policy(self.resolver.beyond()), self.mode_in(known))
    }

    /// The policies that isolate a pod in a direction, or would do if they were not in audit.
    pub fn isolating<'a>(
        &'a self,
        key: &'a Key,
        pod: &'a Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (Key, Cow<'a, NetworkPolicy>, Mode)> + 'a {
        let isolates = move |policy: &NetworkPolicy| {
            pod.is_endpoint() && policy.rules(direction).is_some() && policy.selector.matches(&pod.labels)
        };
        self.policies_in(&key.namespace).filter(move |(_, policy, _)| isolates(policy))
    }

    /// Which baseline holds in a namespace: its label, or the setting.
    pub fn baseline_of(&self, namespace: &Name) -> Baseline {
        baseline::of_namespace(namespace, self.namespaces.get(namespace), self.baseline)
    }

    /// The node that an address belongs to.
    pub fn node_at(&self, address: IpAddr) -> Option<&Name> {
        self.nodes.iter().find(|(_, node)| node.addresses.contains(&address)).map(|(name, _)| name)
    }

    /// The endpoint pods that an address may be of; more than one is a mistake of the source. A node's address is no pod's.
    /// Where the node that asks sees the address on an interface of its own, what it sees there settles it; what another node
    /// sees counts while nobody claims the address.
    pub fn pods_at(&self, address: IpAddr) -> Vec<(&Key, &Pod)> {
        if self.node_at(address).is_some() {
            return Vec::new();
        }
        let endpoints = self.pods.iter().filter(|(_, pod)| pod.is_endpoint());
        let claims = endpoints.filter(|(_, pod)| pod.addresses.contains(&address));
        match self.attachments.get(&address).map(|attachment| &attachment.pod) {
            None => {
                let claims: Vec<_> = claims.collect();
                if claims.is_empty() { self.seen_elsewhere(address).collect() } else { claims }
            }
            Some(None) => claims.filter(|(_, pod)| self.is_here(pod)).collect(),
            Some(Some((key, uid))) => self.attached(key, *uid).into_iter().collect(),
        }
    }

    /// The pods that have an address as other nodes see it. A node is believed of pods that are bound to it, and of its own
    /// ranges where it has any.
    pub fn seen_elsewhere(&self, address: IpAddr) -> impl Iterator<Item = (&Key, &Pod)> {
        let sightings = self.neighbours.iter().filter_map(move |(node, seen)| Some((node, seen.get(&address)?)));
        sightings.filter_map(move |(node, (key, uid))| {
            let (key, pod) = self.pods.get_key_value(key)?;
            let is_theirs = pod.is_endpoint() && pod.node.as_ref() == Some(node) && pod.uid == Some(*uid);
            (is_theirs && self.may_give(node, address)).then_some((key, pod))
        })
    }

    /// The addresses of a pod that its node sees and the API does not say yet.
    pub fn sightings<'a>(&'a self, key: &'a Key, pod: &Pod) -> impl Iterator<Item = IpAddr> + use<'a> {
        let of_node = pod.node.as_ref().and_then(|node| self.neighbours.get(node));
        of_node.into_iter().flatten().filter(move |(_, (seen, _))| seen == key).map(|(address, _)| *address)
    }

    /// Whether an address may be of a pod of a node, as far as its Node says.
    fn may_give(&self, node: &Name, address: IpAddr) -> bool {
        let ranges = self.nodes.get(node).map(|node| node.pod_ranges.as_slice());
        ranges.is_some_and(|ranges| ranges.is_empty() || ranges.iter().any(|range| range.contains(&address)))
    }

    /// What a node says to see and can not have: addresses outside of its ranges.
    pub fn strays<'a>(&'a self, node: &'a Name) -> impl Iterator<Item = IpAddr> + 'a {
        let seen = self.neighbours.get(node).into_iter().flat_map(Sightings::keys).copied();
        seen.filter(move |address| self.nodes.contains_key(node) && !self.may_give(node, *address))
    }

    /// What the node that asks sees on itself, of pods that the API knows without these addresses.
    pub fn untold(&self) -> Sightings {
        let attachments = self.attachments.iter().filter_map(|(address, seen)| Some((*address, seen.pod.as_ref()?)));
        let untold = attachments.filter_map(|(address, (key, uid))| {
            let (_, pod) = self.attached(key, *uid).filter(|(_, pod)| !pod.addresses.contains(&address))?;
            Some((address, (key.clone(), pod.uid?)))
        });
        untold.collect()
    }

    /// The pod that the node that asks sees on an interface: none while the API does not know it, or knows another one of
    /// its name.
    pub fn attached(&self, key: &Key, uid: Option<Uid>) -> Option<(&Key, &Pod)> {
        let known = self.pods.get_key_value(key).filter(|(_, pod)| pod.is_endpoint() && self.is_here(pod));
        known.filter(|(_, pod)| pod.uid.is_none() || uid.is_none() || pod.uid == uid)
    }

    /// Whether the pods of a namespace are bound to their interfaces. Routers are not.
    pub fn is_bound(&self, namespace: &Name) -> bool {
        let label = self.namespaces.get(namespace).and_then(|namespace| namespace.labels.get(ANTI_SPOOFING));
        label.is_none_or(|value| value.as_ref() != "off")
    }

    /// Whether a pod is one of the node that asks.
    pub fn is_here(&self, pod: &Pod) -> bool {
        pod.node.is_some() && pod.node == self.here
    }
}

/// Puts a value into a map or takes it out. Returns what would take that back; none if nothing changed.
pub(super) fn set<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    value: Option<V>,
    back: fn(K, Option<V>) -> Event,
) -> Option<Event> {
    if map.get(&key) == value.as_ref() {
        return None;
    }
    let old = match value {
        Some(value) => map.insert(key.clone(), value),
        None => map.remove(&key),
    };
    Some(back(key, old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::model::Labels;

    #[test]
    fn the_mode_of_a_policy_goes_before_that_of_its_namespace_and_that_before_the_setting() {
        let mode = |own, label: Option<&str>, setting| {
            let labels = Labels::from_iter(label.map(|label| (mode::NAME, label)));
            let mut cluster = Cluster { mode: setting, ..Cluster::default() };
            cluster.namespaces.insert("x".into(), Namespace { labels, ..Namespace::default() });
            cluster.mode_of(own, &"x".into())
        };
        for (this, word, other) in [(Mode::Audit, "audit", Mode::Enforce), (Mode::Enforce, "enforce", Mode::Audit)] {
            assert_eq!(mode(None, None, this), this);
            assert_eq!(mode(None, Some(word), other), this);
            assert_eq!(mode(Some(this), Some(other.as_str()), other), this);
        }
        assert_eq!(mode(None, Some("Audit"), Mode::Audit), Mode::Enforce, "a value that means nothing enforces");
        assert_eq!(Cluster { mode: Mode::Audit, ..Cluster::default() }.mode_of(None, &"y".into()), Mode::Audit);
    }

    #[test]
    fn a_node_tells_what_it_sees_of_pods_that_the_api_knows_without_the_address() {
        let address: IpAddr = [10, 1, 0, 1].into();
        let pod = Pod { node: Some("n1".into()), uid: Some(Uid(1)), ..Pod::default() };
        let untold = |uid, pod: Option<&Pod>| {
            let mut cluster = Cluster { here: Some("n1".into()), ..Cluster::default() };
            let seen = Attachment { ifindex: 7, pod: Some((Key::new("x", "p"), uid)) };
            cluster.apply(Event::Attachment(address, Some(seen)));
            cluster.apply(Event::Pod(Key::new("x", "p"), pod.cloned()));
            cluster.untold().len()
        };
        assert_eq!(untold(Some(Uid(1)), Some(&pod)), 1);
        assert_eq!(untold(None, Some(&pod)), 1);
        assert_eq!(untold(Some(Uid(1)), None), 0, "the API does not know it yet, or no more");
        assert_eq!(untold(Some(Uid(2)), Some(&pod)), 0, "another one of its name");
        assert_eq!(untold(Some(Uid(1)), Some(&Pod { addresses: vec![address], ..pod.clone() })), 0);
        assert_eq!(untold(Some(Uid(1)), Some(&Pod { finished: true, ..pod })), 0);
    }
}
