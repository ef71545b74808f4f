//! The cluster at one instant: what there is to compile.
//!
//! [`Cluster`] holds every object by its key and answers which policies isolate a pod and whose an address is. Sources
//! fill it (a directory of manifests, an API server); nothing in here fetches.

use super::{
    baseline::{self, Baseline},
    mode::{self, Mode},
    model::{Direction, Key, Name, Namespace, NetworkPolicy, Node, Pod, Rule, Uid},
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
    /// Ranges that the node sees itself giving pods addresses from, besides those that its Node says.
    pub ranges: BTreeSet<IpNet>,
    /// What becomes of addresses of the node's pod ranges and interfaces that are no pod that is known.
    pub unknown: Unknown,
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

/// Makes a map anew, its nodes full.
pub(super) fn pack<K: Ord, V>(map: &mut BTreeMap<K, V>) {
    *map = std::mem::take(map).into_iter().collect();
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
    /// All ranges that the node sees itself giving pods addresses from.
    Ranges(BTreeSet<IpNet>),
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

    /// Takes an event in. Says whether anything changed.
    pub fn apply(&mut self, event: Event) -> bool {
        fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> bool {
            match value {
                Some(value) if map.get(&key) == Some(&value) => false,
                Some(value) => {
                    map.insert(key, value);
                    true
                }
                None => map.remove(&key).is_some(),
            }
        }
        match event {
            Event::Namespace(name, value) => set(&mut self.namespaces, name, value),
            Event::Node(name, value) => set(&mut self.nodes, name, value),
            Event::Pod(key, value) => set(&mut self.pods, key, value),
            Event::Policy(key, value) => set(&mut self.policies, key, value),
            Event::Attachment(address, value) => set(&mut self.attachments, address, value),
            Event::Ranges(ranges) => std::mem::replace(&mut self.ranges, ranges.clone()) != ranges,
            Event::Around(fact) => self.around.apply(fact).is_some(),
        }
    }

    /// The events that turn the objects of this cluster into those of another one. What the node sees on itself comes from
    /// elsewhere and stays, as do the settings, which belong to the process.
    pub fn events_to(&self, other: &Cluster) -> Vec<Event> {
        fn diff<K: Ord + Clone, V: PartialEq + Clone>(
            old: &BTreeMap<K, V>,
            new: &BTreeMap<K, V>,
            event: impl Fn(K, Option<V>) -> Event,
            out: &mut Vec<Event>,
        ) {
            out.extend(old.keys().filter(|key| !new.contains_key(key)).map(|key| event(key.clone(), None)));
            let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            out.extend(changed.map(|(key, value)| event(key.clone(), Some(value.clone()))));
        }
        let mut events = Vec::new();
        diff(&self.namespaces, &other.namespaces, Event::Namespace, &mut events);
        diff(&self.nodes, &other.nodes, Event::Node, &mut events);
        diff(&self.policies, &other.policies, Event::Policy, &mut events);
        diff(&self.pods, &other.pods, Event::Pod, &mut events);
        let Surroundings { services, workloads, callers } = &*self.around;
        let around = &other.around;
        diff(services, &around.services, |key, of| Event::Around(Fact::Service(key, of)), &mut events);
        diff(workloads, &around.workloads, |key, of| Event::Around(Fact::Workload(key, of)), &mut events);
        diff(callers, &around.callers, |name, of| Event::Around(Fact::Caller(name, of)), &mut events);
        events
    }

    /// Every policy of a namespace with its key and mode, the baseline among them.
    pub fn policies_in(&self, namespace: &Name) -> impl Iterator<Item = (Key, Cow<'_, NetworkPolicy>, Mode)> {
        let first = Key::new(namespace.clone(), "");
        let of_namespace = self.policies.range(first..).take_while({
            let namespace = namespace.clone();
            move |(key, _)| key.namespace == namespace
        });
        let baseline = self.baseline_of(namespace).policy().map(|policy| {
            let key = Key::new(namespace.clone(), baseline::POLICY_NAME);
            (key, Cow::Owned(policy))
        });
        // The projection of a baseline says what the baseline says; what somebody wrote into it opens nothing.
        let projected = baseline.is_some();
        of_namespace
            .filter(move |(key, _)| !(projected && key.name.as_ref() == baseline::POLICY_NAME))
            .map(|(key, policy)| (key.clone(), Cow::Borrowed(policy)))
            .chain(baseline)
            .map(|(key, policy)| {
                let mode = mode::of_policy(&policy, self.namespaces.get(&key.namespace), self.mode);
                (key, policy, mode)
            })
    }

    /// The policies that isolate a pod in a direction, or would do if they were not in audit, with their rules.
    pub fn isolating<'a>(
        &'a self,
        key: &'a Key,
        pod: &'a Pod,
        direction: Direction,
    ) -> impl Iterator<Item = (Key, Vec<Rule>, Mode)> + 'a {
        self.policies_in(&key.namespace)
            .filter(|(_, policy, _)| pod.is_endpoint() && policy.selector.matches(&pod.labels))
            .filter_map(move |(key, policy, mode)| Some((key, policy.rules(direction)?.to_vec(), mode)))
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
    /// Where the node that asks sees the address on an interface of its own, what it sees there settles it.
    pub fn pods_at(&self, address: IpAddr) -> Vec<(&Key, &Pod)> {
        if self.node_at(address).is_some() {
            return Vec::new();
        }
        let endpoints = self.pods.iter().filter(|(_, pod)| pod.is_endpoint());
        let claims = endpoints.filter(|(_, pod)| pod.addresses.contains(&address));
        match self.attachments.get(&address).map(|attachment| &attachment.pod) {
            None => claims.collect(),
            Some(None) => claims.filter(|(_, pod)| self.is_here(pod)).collect(),
            Some(Some((key, uid))) => self.attached(key, *uid).into_iter().collect(),
        }
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
