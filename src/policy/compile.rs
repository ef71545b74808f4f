//! A cluster becomes the table of one node, and the table follows it.
//!
//! `event -> what it touches: local pods -> policies that isolate them -> terms of their peers -> prefixes, addresses ->
//! identities -> admissions`. Only what isolates a pod of this node is compiled, and only what its peers tell apart is an
//! identity. Entries depend on nothing but the contents behind their ids, so an entry is never redefined: see [`super::ids`].
//!
//! A compile from scratch is the same thing, everything touched.

mod admissions;
mod isolation;
mod owner;

pub use super::ids::Ids;
use super::{
    baseline::Baseline,
    change::Before,
    cluster::{Attachment, Cluster, Event, Sightings, of_namespace, pack},
    counted::Counted,
    identity::{Class, PodTerms, Term, Terms, cuts, endpoints, having},
    model::{Key, Name, Pod, Rule},
    policy_set::{NamedNumbers, PolicySet},
    prefix::{longest, within},
    table::{IdentityId, Meaning, PolicyId, PortSetId, RuleId, Table},
};
use ipnet::IpNet;
use owner::Claims;
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// What the kernel of `node` must be told about this cluster.
pub fn compile(cluster: &Cluster, node: &str, ids: &mut Ids) -> Table {
    Compiled::of(cluster, node, ids).table
}

/// A table, and what it was made from: so that an event touches what is its own.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The table.
    pub table: Table,
    node: Name,
    touched: Touched,
    named: NamedNumbers,
    /// Policies in use, and by how many pods of this node.
    sets: BTreeMap<PolicyId, (Arc<PolicySet>, usize)>,
    /// Ingress and egress policy of each pod of this node.
    isolation: BTreeMap<Key, [PolicyId; 2]>,
    /// What policies in use say, by its number, and the sets that it is in.
    members: BTreeMap<u32, SmallVec<[PolicyId; 2]>>,
    /// Terms in use, and what asks for them.
    in_use: BTreeMap<u32, BTreeSet<u32>>,
    terms: Terms,
    /// Prefixes with the blocks that hold them.
    blocks: BTreeMap<IpNet, Class>,
    /// The ranges in which an address that is no known pod is closed here.
    ranges: BTreeSet<IpNet>,
    /// What baselines say of the resolver.
    resolver: Arc<[Rule]>,
    of_nodes: Counted<IpAddr>,
    claims: BTreeMap<IpAddr, Claims>,
    /// What this node sees on its own interfaces, and the addresses among it that are known to be a pod's.
    attachments: BTreeMap<IpAddr, Attachment>,
    attached: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// The addresses of each interface.
    bound: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Identities in use, and by how many addresses and prefixes.
    identities: BTreeMap<IdentityId, (Class, usize)>,
    /// And by their terms.
    holders: BTreeMap<u32, BTreeSet<IdentityId>>,
    /// Port sets in use by admissions.
    port_sets: Counted<PortSetId>,
    /// Rules in use by admissions and entries of port sets.
    rules: Counted<RuleId>,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Touched {
    /// Pods of this node, for the policies that isolate them.
    pods: BTreeMap<Key, Again>,
    /// What came into use or went out of it.
    terms: BTreeMap<u32, Arc<Term>>,
    prefixes: BTreeSet<IpNet>,
    addresses: BTreeSet<IpAddr>,
}

/// Which policies a pod has to be asked about again.
#[derive(Debug)]
enum Again {
    /// All of its namespace.
    All,
    /// These.
    Only(BTreeSet<Key>),
}

impl Touched {
    fn pods(&mut self, keys: impl Iterator<Item = Key>) {
        self.pods.extend(keys.map(|key| (key, Again::All)));
    }

    fn policy(&mut self, pod: Key, policy: &Key) {
        match self.pods.entry(pod).or_insert_with(|| Again::Only(BTreeSet::new())) {
            Again::All => {}
            Again::Only(policies) => drop(policies.insert(policy.clone())),
        }
    }
}

impl Compiled {
    /// Compiles everything.
    pub fn of(cluster: &Cluster, node: &str, ids: &mut Ids) -> Self {
        let mut this = Self { node: node.into(), ..Self::default() };
        this.touch_resolver(cluster);
        for name in cluster.nodes.keys() {
            this.touch(cluster, &Event::Node(name.clone(), None));
        }
        for name in cluster.neighbours.keys() {
            this.touch(cluster, &Event::Neighbour(name.clone(), Sightings::new()));
        }
        if cluster.here.as_deref() == Some(node) {
            this.touch(cluster, &Event::Ranges(BTreeSet::new()));
            for address in cluster.attachments.keys() {
                this.touch(cluster, &Event::Attachment(*address, None));
            }
        }
        for (key, pod) in endpoints(cluster) {
            this.touch_pod(cluster, key, None, Some(pod));
        }
        this.settle(cluster, ids, &mut Before::default());
        pack(&mut this.claims);
        pack(&mut this.table.addresses);
        this
    }

    /// Notes what an event touches: `back` is what would take it back, `cluster` has what is now.
    pub fn touch(&mut self, cluster: &Cluster, back: &Event) {
        match back {
            Event::Pod(key, old) => self.touch_pod(cluster, key, old.as_ref(), cluster.pods.get(key)),
            Event::Policy(key, old) => {
                let policies = || old.iter().chain(cluster.policies.get(key));
                let selects = |pod: &Pod| policies().any(|policy| policy.selector.matches(&pod.labels));
                let here = of_namespace(&self.isolation, &key.namespace).map(|(key, _)| key);
                for pod in here.filter(|key| cluster.pods.get(*key).is_some_and(selects)) {
                    self.touched.policy(pod.clone(), key);
                }
            }
            Event::Namespace(name, _) => {
                self.touched.pods(of_namespace(&self.isolation, name).map(|(key, _)| key.clone()));
                for (key, pod) in cluster.pods_in(name) {
                    self.touch_addresses(cluster, key, pod);
                }
                // Of pods, too, that the API does not know.
                self.touched.addresses.extend(of_namespace(&self.attached, name).flat_map(|(_, addresses)| addresses));
            }
            Event::Node(name, old) => {
                for address in cluster.nodes.get(name).iter().flat_map(|node| &node.addresses) {
                    self.of_nodes.take(*address);
                    self.touched.addresses.insert(*address);
                }
                for address in old.iter().flat_map(|node| &node.addresses) {
                    self.of_nodes.leave(address);
                    self.touched.addresses.insert(*address);
                }
                // Of its ranges it is believed.
                self.touched.addresses.extend(cluster.neighbours.get(name).into_iter().flat_map(Sightings::keys));
                if *name == self.node {
                    self.touch_ranges(cluster);
                }
            }
            Event::Neighbour(name, old) => {
                self.touched.addresses.extend(old.keys());
                self.touched.addresses.extend(cluster.neighbours.get(name).into_iter().flat_map(Sightings::keys));
            }
            Event::Ranges(_) => self.touch_ranges(cluster),
            // What follows from it is seen to below.
            Event::Resolver(..) => {}
            // No packet sees it.
            Event::Around(_) => {}
            Event::Attachment(address, _) => {
                self.attach(*address, cluster.attachments.get(address).cloned());
                self.touched.addresses.insert(*address);
            }
        }
        self.touch_resolver(cluster);
    }

    /// Pods may have brought it about, too.
    fn touch_resolver(&mut self, cluster: &Cluster) {
        if self.resolver == *cluster.resolver.beyond() {
            return;
        }
        self.resolver = cluster.resolver.beyond().clone();
        let fenced = self.isolation.keys().filter(|key| cluster.baseline_of(&key.namespace) == Baseline::DenyAll);
        self.touched.pods(fenced.cloned());
    }

    fn touch_pod(&mut self, cluster: &Cluster, key: &Key, old: Option<&Pod>, new: Option<&Pod>) {
        let [old, new] = [old, new].map(|pod| pod.filter(|pod| pod.is_endpoint()));
        if self.name_ports(old, new) {
            self.touched.pods(self.isolation.keys().cloned());
        }
        if [old, new].into_iter().flatten().any(|pod| pod.node.as_ref() == Some(&self.node)) {
            self.touched.pods(std::iter::once(key.clone()));
        }
        self.claim(key, old, new);
        for pod in [old, new].into_iter().flatten() {
            self.touch_addresses(cluster, key, pod);
        }
    }

    fn touch_ranges(&mut self, cluster: &Cluster) {
        let ranges = self.ranges_of(cluster);
        for range in ranges.symmetric_difference(&self.ranges) {
            self.touched.prefixes.insert(*range);
            self.touched.prefixes.extend(within(&self.blocks, *range));
        }
        self.ranges = ranges;
    }

    /// Whatever a term holds for that came into use or went out of it.
    fn touch_term(&mut self, cluster: &Cluster, term: &Term) {
        if let Term::Block(block) = term {
            self.touched.prefixes.extend(cuts(block));
            self.touched.prefixes.extend(within(&self.blocks, block.cidr.trunc()));
            let (first, last) = (block.cidr.network(), block.cidr.broadcast());
            self.touched.addresses.extend(self.table.addresses.range(first..=last).map(|(address, _)| *address));
        }
        // What has no entry yet is touched by itself.
        if self.table.addresses.is_empty() {
            return;
        }
        for (key, pod) in having(cluster, term) {
            self.touch_addresses(cluster, key, pod);
        }
    }

    /// All addresses of a pod, whoever says that it has them.
    fn touch_addresses(&mut self, cluster: &Cluster, key: &Key, pod: &Pod) {
        self.touched.addresses.extend(&pod.addresses);
        self.touched.addresses.extend(self.attached.get(key).into_iter().flatten());
        self.touched.addresses.extend(cluster.sightings(key, pod));
    }

    /// Brings the table up to everything that was touched. Writes what changed into `before`.
    pub fn settle(&mut self, cluster: &Cluster, ids: &mut Ids, before: &mut Before) {
        self.isolate(cluster, ids, before);
        for (_, term) in std::mem::take(&mut self.touched.terms) {
            self.touch_term(cluster, &term);
        }
        for prefix in std::mem::take(&mut self.touched.prefixes) {
            self.settle_prefix(prefix, ids, before);
        }
        let terms = std::mem::take(&mut self.terms);
        let mut of_namespaces: HashMap<&Name, PodTerms<'_>> = HashMap::new();
        for address in std::mem::take(&mut self.touched.addresses) {
            let owner = self.owner(cluster, address);
            let class = owner.pod().map(|(key, pod)| {
                let selecting = of_namespaces.entry(&key.namespace);
                let selecting = selecting.or_insert_with(|| terms.in_namespace(cluster, &key.namespace));
                terms.of_pod(selecting, pod)
            });
            self.settle_address(cluster, address, owner, class.unwrap_or_default(), ids, before);
        }
        drop(of_namespaces);
        self.terms = terms;
    }

    /// Brings the entry of a prefix up to the blocks and ranges that begin, end and hold there.
    fn settle_prefix(&mut self, prefix: IpNet, ids: &mut Ids, before: &mut Before) {
        let is_there = self.terms.cuts_at(&prefix) || self.ranges.contains(&prefix);
        let (old, new) = if is_there {
            let class = self.terms.of_network(&prefix);
            let identity = self.take_identity(class.clone(), ids, before);
            self.blocks.insert(prefix, class);
            let closed = self.ranges.iter().any(|range| range.contains(&prefix));
            let new = Meaning { identity, closed, ..Meaning::default() };
            (self.table.networks.insert(prefix, new), Some(new))
        } else {
            self.blocks.remove(&prefix);
            (self.table.networks.remove(&prefix), None)
        };
        if old != new {
            before.networks.entry(prefix).or_insert(old);
        }
        if let Some(old) = old {
            self.leave_identity(old.identity, before);
        }
    }

    /// The blocks that hold an address.
    fn blocks_of(&self, address: IpAddr) -> &[u32] {
        longest(&self.blocks, address.into()).map(Vec::as_slice).unwrap_or_default()
    }
}
