//! A cluster becomes the table of one node.
//!
//! `local pods -> policies that isolate them -> their peers (Terms) -> identities of all addresses -> admissions`. Only
//! what isolates a pod of this node is compiled, and only what its peers tell apart is an identity. Entries depend on
//! nothing but the contents behind their ids, so an entry is never redefined: see [`super::ids`].

pub use super::ids::Ids;
use super::{
    change::Before,
    cluster::{Attachment, Cluster, Sightings, Unknown, pack},
    identity::{Class, PodTerms, Terms, endpoints},
    ids::Judge,
    mode::Mode,
    model::{Direction, Key, Name, NamedPort, Pod},
    policy_set::{NamedNumbers, Policies, PolicySet, policy_set},
    table::{Address, Admission, IdentityId, Label, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, RuleRef, Table},
};
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

/// What the kernel of `node` must be told about this cluster.
pub fn compile(cluster: &Cluster, node: &str, ids: &mut Ids) -> Table {
    Compiled::of(cluster, node, ids).table
}

/// A table, and what it was made from: so that the event of one pod or address touches what is its own.
#[derive(Debug, Default)]
pub struct Compiled {
    /// The table.
    pub table: Table,
    node: Name,
    named: NamedNumbers,
    /// Policies in use, and by how many pods of this node.
    sets: BTreeMap<PolicyId, (Arc<PolicySet>, usize)>,
    /// Ingress and egress policy of each pod of this node.
    isolation: BTreeMap<Key, [PolicyId; 2]>,
    terms: Terms,
    /// Prefixes with the blocks that hold them.
    blocks: BTreeMap<IpNet, Class>,
    of_nodes: BTreeSet<IpAddr>,
    claims: BTreeMap<IpAddr, Vec<Key>>,
    /// What this node sees on its own interfaces, and the addresses among it that are known to be a pod's.
    attachments: BTreeMap<IpAddr, Attachment>,
    attached: BTreeMap<Key, BTreeSet<IpAddr>>,
    /// The addresses of each interface.
    bound: BTreeMap<u32, BTreeSet<IpAddr>>,
    /// Identities in use, and by how many addresses and prefixes.
    identities: BTreeMap<IdentityId, (Class, usize)>,
    /// Port sets in use, and by how many admissions.
    port_sets: BTreeMap<PortSetId, usize>,
    /// Rules in use, and by how many admissions and entries of port sets.
    rules: BTreeMap<RuleId, usize>,
}

/// Whose an address is.
#[derive(Debug, PartialEq, Eq)]
enum Owner {
    Pod(Key),
    /// No pod that is known, so nothing passes.
    Closed,
    /// No pod that is known, and it is told apart from others by its interface only.
    Unknown,
    /// An address like any other.
    Nobody,
}

impl Owner {
    fn key(&self) -> Option<&Key> {
        match self {
            Owner::Pod(key) => Some(key),
            Owner::Closed | Owner::Unknown | Owner::Nobody => None,
        }
    }
}

impl Compiled {
    /// Compiles everything.
    pub fn of(cluster: &Cluster, node: &str, ids: &mut Ids) -> Self {
        let mut this = Self { node: node.into(), ..Self::default() };
        let mut before = Before::default();
        for (_, pod) in endpoints(cluster) {
            this.name_ports(pod, 1);
        }
        let mut of_namespace: Option<(&Name, Policies<'_>)> = None;
        for (key, pod) in endpoints(cluster).filter(|(_, pod)| pod.node.as_deref() == Some(node)) {
            if of_namespace.as_ref().is_none_or(|(name, _)| **name != key.namespace) {
                of_namespace = Some((&key.namespace, cluster.policies_in(&key.namespace).collect()));
            }
            let none = Policies::new();
            let policies = of_namespace.as_ref().map_or(&none, |(_, policies)| policies);
            for set in this.sets_of(pod, policies, ids).into_iter().flatten() {
                let id = PolicyId::new(ids.judges.of(Judge::Policies(set.clone())), set.mode);
                this.sets.entry(id).or_insert((set, 0));
            }
            this.isolate(key, pod, policies, ids);
        }
        let in_use: BTreeSet<u32> = this
            .sets
            .values()
            .flat_map(|(set, _)| set.clauses().flat_map(|(_, c)| c.terms()).collect::<Vec<_>>())
            .collect();
        this.terms = Terms::new(ids.terms.known().filter(|(_, number)| in_use.contains(number)));
        for id in this.sets.keys().copied().collect::<Vec<_>>() {
            this.admit(id, IdentityId(0), &Class::new(), ids, &mut before);
        }

        let ranges = this.ranges(cluster);
        let mut prefixes = this.terms.prefixes();
        prefixes.extend(&ranges);
        for prefix in prefixes {
            let class = this.terms.of_network(&prefix);
            let identity = this.take_identity(class.clone(), ids, &mut before);
            let closed = ranges.iter().any(|range| range.contains(&prefix));
            this.blocks.insert(prefix, class);
            this.table.networks.insert(prefix, Meaning { identity, closed, ..Meaning::default() });
        }

        this.of_nodes = cluster.nodes.values().flat_map(|node| &node.addresses).copied().collect();
        if cluster.here.as_deref() == Some(node) {
            for (address, attachment) in &cluster.attachments {
                this.attach(*address, Some(attachment.clone()));
            }
        }
        let mut selecting: Option<(&Name, PodTerms<'_>)> = None;
        let mut classes: HashMap<&Key, Class> = HashMap::new();
        for (key, pod) in endpoints(cluster) {
            if selecting.as_ref().is_none_or(|(name, _)| **name != key.namespace) {
                selecting = Some((&key.namespace, this.terms.in_namespace(cluster, &key.namespace)));
            }
            let of_namespace = selecting.as_ref().map(|(_, of_namespace)| of_namespace);
            classes.insert(key, of_namespace.map(|terms| this.terms.of_pod(terms, pod)).unwrap_or_default());
            for address in &pod.addresses {
                this.claims.entry(*address).or_insert_with(|| Vec::with_capacity(1)).push(key.clone());
            }
        }
        drop(selecting);
        let elsewhere = cluster.neighbours.values().flat_map(Sightings::keys);
        let addresses: BTreeSet<IpAddr> =
            this.claims.keys().chain(this.attachments.keys()).chain(elsewhere).copied().collect();
        for address in addresses {
            let owner = this.owner(cluster, address);
            let class = owner.key().and_then(|key| classes.get(key).cloned()).unwrap_or_default();
            this.settle(cluster, address, &owner, class, ids, &mut before);
        }
        pack(&mut this.claims);
        pack(&mut this.table.addresses);
        this
    }

    /// The ranges in which an address that is no known pod is closed here.
    fn ranges(&self, cluster: &Cluster) -> Vec<IpNet> {
        if cluster.unknown == Unknown::Open {
            return Vec::new();
        }
        let seen = cluster.ranges.iter().filter(|_| cluster.here.as_ref() == Some(&self.node));
        let told = cluster.nodes.get(&self.node).into_iter().flat_map(|node| &node.pod_ranges);
        told.chain(seen).map(IpNet::trunc).collect()
    }

    /// Takes the event of one pod in: `old` is what it was, `cluster` has what it is. Writes what changed into `before`.
    /// False, and nothing is done, when more is touched than its own: policies that nobody else is isolated by, or what
    /// port names mean.
    pub fn pod(&mut self, cluster: &Cluster, key: &Key, old: Option<&Pod>, ids: &mut Ids, before: &mut Before) -> bool {
        let old = old.filter(|pod| pod.is_endpoint());
        let new = cluster.pods.get(key).filter(|pod| pod.is_endpoint());
        if !self.keeps_names(old, new) || !self.keeps_policies(cluster, key, new, ids) {
            return false;
        }
        old.into_iter().for_each(|pod| self.name_ports(pod, -1));
        new.into_iter().for_each(|pod| self.name_ports(pod, 1));
        self.isolation.remove(key).into_iter().flatten().for_each(|id| self.leave(id));
        if let Some(pod) = new.filter(|pod| pod.node.as_ref() == Some(&self.node)) {
            let policies: Policies<'_> = cluster.policies_in(&key.namespace).collect();
            self.isolate(key, pod, &policies, ids);
        }
        let addresses = |pod: Option<&Pod>| pod.map(|pod| pod.addresses.clone()).unwrap_or_default();
        let (left, taken) = (addresses(old), addresses(new));
        let seen = self.attached.get(key).into_iter().flatten().copied();
        let nodes = old.into_iter().chain(new).filter_map(|pod| cluster.neighbours.get(pod.node.as_ref()?));
        let elsewhere = nodes.flatten().filter(|(_, (pod, _))| pod == key).map(|(address, _)| *address);
        let own = left.iter().chain(&taken).copied();
        for address in own.chain(seen).chain(elsewhere).collect::<BTreeSet<_>>() {
            let claims = self.claims.entry(address).or_default();
            claims.retain(|other| other != key);
            if taken.contains(&address) {
                claims.push(key.clone());
            }
            if claims.is_empty() {
                self.claims.remove(&address);
            }
            self.settle_again(cluster, address, ids, before);
        }
        true
    }

    /// Whether this node has pods of a namespace.
    pub fn has_pods_in(&self, namespace: &Name) -> bool {
        let mut from_there = self.isolation.range(Key::new(namespace.clone(), "")..);
        from_there.next().is_some_and(|(key, _)| key.namespace == *namespace)
    }

    /// Takes in what this node sees of an address on its interfaces, or another one on its own.
    pub fn address(&mut self, cluster: &Cluster, address: IpAddr, ids: &mut Ids, before: &mut Before) {
        self.attach(address, cluster.attachments.get(&address).cloned());
        self.settle_again(cluster, address, ids, before);
    }

    fn attach(&mut self, address: IpAddr, attachment: Option<Attachment>) {
        let pod_of = |attachment: &Attachment| attachment.pod.as_ref().map(|(key, _)| key.clone());
        if let Some(pod) = attachment.as_ref().and_then(pod_of) {
            self.attached.entry(pod).or_default().insert(address);
        }
        let old = match attachment {
            Some(attachment) => self.attachments.insert(address, attachment),
            None => self.attachments.remove(&address),
        };
        let left = old.as_ref().and_then(pod_of);
        if let Some(pod) = left.filter(|pod| self.attachments.get(&address).and_then(pod_of).as_ref() != Some(pod))
            && let Some(addresses) = self.attached.get_mut(&pod)
        {
            addresses.remove(&address);
            if addresses.is_empty() {
                self.attached.remove(&pod);
            }
        }
    }

    /// Whether names mean the same numbers before and after.
    fn keeps_names(&self, old: Option<&Pod>, new: Option<&Pod>) -> bool {
        fn ports(pod: Option<&Pod>) -> &[NamedPort] {
            pod.map(|pod| pod.ports.as_slice()).unwrap_or_default()
        }
        let (old, new) = (ports(old), ports(new));
        let users = |port: &NamedPort| {
            let numbers = self.named.get(&(port.name.clone(), port.protocol));
            numbers.and_then(|numbers| numbers.get(&port.number)).copied().unwrap_or(0)
        };
        let of = |ports: &[NamedPort], port: &NamedPort| ports.iter().filter(|other| *other == port).count();
        new.iter().all(|port| users(port) > 0)
            && old.iter().all(|port| users(port) > of(old, port) || new.contains(port))
    }

    /// Whether the policies that isolate pods of this node are the same ones before and after.
    fn keeps_policies(&self, cluster: &Cluster, key: &Key, new: Option<&Pod>, ids: &mut Ids) -> bool {
        let old = self.isolation.get(key).copied().unwrap_or_default();
        let new = match new.filter(|pod| pod.node.as_ref() == Some(&self.node)) {
            None => [PolicyId(0); 2],
            Some(pod) => {
                let policies: Policies<'_> = cluster.policies_in(&key.namespace).collect();
                let mut ids_of = [PolicyId(0); 2];
                for (id, set) in ids_of.iter_mut().zip(self.sets_of(pod, &policies, ids)) {
                    let Some(set) = set else { continue };
                    let mode = set.mode;
                    let known = ids.judges.known_number(&Judge::Policies(set)).map(|known| PolicyId::new(known, mode));
                    match known.filter(|known| self.sets.contains_key(known)) {
                        Some(known) => *id = known,
                        None => return false,
                    }
                }
                ids_of
            }
        };
        let stays =
            |id: &PolicyId| *id == PolicyId(0) || new.contains(id) || self.sets.get(id).is_some_and(|(_, n)| *n > 1);
        old.iter().all(stays)
    }

    fn name_ports(&mut self, pod: &Pod, by: isize) {
        for port in &pod.ports {
            let numbers = self.named.entry((port.name.clone(), port.protocol)).or_default();
            let users = numbers.entry(port.number).or_default();
            *users = users.saturating_add_signed(by);
            if *users == 0 {
                numbers.remove(&port.number);
            }
        }
    }

    /// The policies that isolate a pod: for ingress, for egress.
    fn sets_of(&self, pod: &Pod, policies: &Policies<'_>, ids: &mut Ids) -> [Option<Arc<PolicySet>>; 2] {
        Direction::BOTH.map(|direction| policy_set(pod, policies, direction, &self.named, ids).map(Arc::new))
    }

    /// Notes which policies isolate a pod of this node. They are in `sets`.
    fn isolate(&mut self, key: &Key, pod: &Pod, policies: &Policies<'_>, ids: &mut Ids) {
        let isolation = self.sets_of(pod, policies, ids).map(|set| {
            let Some(set) = set else { return PolicyId(0) };
            let id = PolicyId::new(ids.judges.of(Judge::Policies(set.clone())), set.mode);
            let members = set.members.iter().map(|(policy, _)| policy.clone()).collect();
            self.table.labels.entry(id.number()).or_insert_with(|| match set.mode {
                Mode::Enforce => Label::Policies(set.direction, members),
                Mode::Audit => Label::Audited(set.direction, members),
            });
            self.sets.entry(id).or_insert((set, 0)).1 += 1;
            id
        });
        self.isolation.insert(key.clone(), isolation);
    }

    fn leave(&mut self, id: PolicyId) {
        if let Some((_, pods)) = self.sets.get_mut(&id) {
            *pods -= 1;
        }
    }

    /// The pod that an address is, as this node knows it.
    pub(super) fn pod_at(&self, cluster: &Cluster, address: IpAddr) -> Option<Key> {
        self.owner(cluster, address).key().cloned()
    }

    /// Whose an address is, as this node knows it.
    fn owner(&self, cluster: &Cluster, address: IpAddr) -> Owner {
        // A node's address is no pod's.
        if self.of_nodes.contains(&address) {
            return Owner::Nobody;
        }
        let is_local = |key: &&Key| cluster.pods.get(*key).is_some_and(|pod| pod.node.as_ref() == Some(&self.node));
        let claims = self.claims.get(&address).map(Vec::as_slice).unwrap_or_default();
        let attachment = self.attachments.get(&address);
        let owners: Vec<&Key> = match attachment.map(|attachment| &attachment.pod) {
            None if claims.is_empty() => cluster.seen_elsewhere(address).map(|(key, _)| key).collect(),
            None => claims.iter().collect(),
            Some(None) => claims.iter().filter(is_local).collect(),
            Some(Some((key, uid))) => cluster.attached(key, *uid).map(|(key, _)| key).into_iter().collect(),
        };
        match owners[..] {
            [key] => Owner::Pod(key.clone()),
            // Two pods claim it, so it is nobody's: closed where one of them is, an address like any other elsewhere.
            [_, _, ..] if owners.iter().any(is_local) => Owner::Closed,
            [] if attachment.is_some() && cluster.unknown == Unknown::Closed => Owner::Closed,
            [] if attachment.is_some() => Owner::Unknown,
            _ => Owner::Nobody,
        }
    }

    fn settle_again(&mut self, cluster: &Cluster, address: IpAddr, ids: &mut Ids, before: &mut Before) {
        let owner = self.owner(cluster, address);
        let class = owner.key().and_then(|key| {
            let pod = cluster.pods.get(key)?;
            Some(self.terms.of_pod(&self.terms.in_namespace(cluster, &key.namespace), pod))
        });
        self.settle(cluster, address, &owner, class.unwrap_or_default(), ids, before);
    }

    /// Brings the entry of an address up to whose it is.
    fn settle(
        &mut self,
        cluster: &Cluster,
        address: IpAddr,
        owner: &Owner,
        mut class: Class,
        ids: &mut Ids,
        before: &mut Before,
    ) {
        let attachment = self.attachments.get(&address);
        let isolation = owner.key().and_then(|key| self.isolation.get(key)).copied();
        let local = isolation.is_some() || attachment.is_some();
        let pod = owner.key().or(attachment.and_then(|attachment| attachment.pod.as_ref()).map(|(key, _)| key));
        let bound = pod.is_none_or(|key| cluster.is_bound(&key.namespace));
        let ifindex = attachment.filter(|_| bound).map_or(0, |attachment| attachment.ifindex);
        let new = if *owner == Owner::Nobody {
            None
        } else {
            let [ingress, egress] = isolation.unwrap_or_default();
            class.extend_from_slice(self.blocks_of(address));
            let identity = self.take_identity(class, ids, before);
            Some(Address {
                meaning: Meaning { identity, ingress, egress, local, closed: *owner == Owner::Closed },
                ifindex,
            })
        };
        let old = match new {
            Some(new) => self.table.addresses.insert(address, new),
            None => self.table.addresses.remove(&address),
        };
        if old != new {
            before.addresses.entry(address).or_insert(old);
            self.bind(address, old, new, before);
        }
        if let Some(old) = old {
            self.leave_identity(old.meaning.identity, before);
        }
    }

    /// Brings the interfaces of an address up to what is behind them.
    fn bind(&mut self, address: IpAddr, old: Option<Address>, new: Option<Address>, before: &mut Before) {
        let [old, new] = [old, new].map(|at| at.map_or(0, |at| at.ifindex));
        if old != new
            && let Some(bound) = self.bound.get_mut(&old)
        {
            bound.remove(&address);
        }
        if new != 0 {
            self.bound.entry(new).or_default().insert(address);
        }
        for ifindex in [old, new] {
            let Some(bound) = self.bound.get(&ifindex) else { continue };
            let mut there = bound.iter().filter_map(|address| self.table.addresses.get(address)).map(|at| at.meaning);
            let first = there.next().map(|first| Meaning { identity: IdentityId(0), ..first });
            // An interface of two pods that differ is for neither.
            let same =
                first.is_some_and(|first| there.all(|other| Meaning { identity: IdentityId(0), ..other } == first));
            let behind = first.map(|first| if same { first } else { Meaning { closed: true, ..first } });
            let was = match behind {
                Some(behind) => self.table.interfaces.insert(ifindex, behind),
                None => self.table.interfaces.remove(&ifindex),
            };
            if behind.is_none() {
                self.bound.remove(&ifindex);
            }
            if was != behind {
                before.interfaces.entry(ifindex).or_insert(was);
            }
        }
    }

    fn blocks_of(&self, address: IpAddr) -> &[u32] {
        let mut at = Some(IpNet::from(address));
        while let Some(prefix) = at {
            if let Some(class) = self.blocks.get(&prefix) {
                return class;
            }
            at = prefix.supernet();
        }
        &[]
    }

    /// One more address or prefix of this class. The first one brings what policies admit with it.
    fn take_identity(&mut self, mut class: Class, ids: &mut Ids, before: &mut Before) -> IdentityId {
        class.sort_unstable();
        class.dedup();
        if class.is_empty() {
            return IdentityId(0);
        }
        let id = IdentityId(ids.identities.of(class.clone()));
        if let Some((_, users)) = self.identities.get_mut(&id) {
            *users += 1;
            return id;
        }
        self.identities.insert(id, (class.clone(), 1));
        let concerned = |set: &PolicySet| {
            set.clauses().any(|(_, clause)| clause.terms().any(|term| class.binary_search(&term).is_ok()))
        };
        let policies: Vec<PolicyId> =
            self.sets.iter().filter(|(_, (set, _))| concerned(set)).map(|(id, _)| *id).collect();
        for policy in policies {
            self.admit(policy, id, &class, ids, before);
        }
        id
    }

    /// One address or prefix less. With the last one go the entries that were for it alone.
    fn leave_identity(&mut self, id: IdentityId, before: &mut Before) {
        let Some((_, users)) = self.identities.get_mut(&id) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        self.identities.remove(&id);
        for policy in self.sets.keys() {
            let Some(admission) = self.table.admissions.remove(&(*policy, id)) else { continue };
            before.admissions.entry((*policy, id)).or_insert(Some(admission));
            let rules = admission.any.into_iter().collect::<Vec<_>>();
            let mut unused = rules;
            if let Some(users) = self.port_sets.get_mut(&admission.ports) {
                *users -= 1;
                if *users == 0 {
                    self.port_sets.remove(&admission.ports);
                    let entries: Vec<_> =
                        self.table.ports.range(entries_of(admission.ports)).map(|(k, r)| (*k, *r)).collect();
                    for (key, rule) in entries {
                        self.table.ports.remove(&key);
                        before.ports.entry(key).or_insert(Some(rule));
                        unused.push(rule);
                    }
                }
            }
            for rule in unused {
                if let Some(users) = self.rules.get_mut(&rule) {
                    *users -= 1;
                    if *users == 0 {
                        self.rules.remove(&rule);
                        let label = self.table.labels.remove(&rule.0);
                        before.labels.entry(rule.0).or_insert(label);
                    }
                }
            }
        }
    }

    /// Fills in what a policy admits from, or to, an identity.
    fn admit(&mut self, policy: PolicyId, identity: IdentityId, class: &Class, ids: &mut Ids, before: &mut Before) {
        let Some(set) = self.sets.get(&policy).map(|(set, _)| set.clone()) else { return };
        let mut any = Vec::new();
        let mut ports: BTreeMap<PortPrefix, BTreeSet<RuleRef>> = BTreeMap::new();
        for (rule, clause) in set.clauses().filter(|(_, clause)| clause.has_peer(class)) {
            if clause.ports.is_none() {
                any.push(rule);
                continue;
            }
            for prefix in clause.prefixes(class) {
                ports.entry(prefix).or_default().insert(rule.clone());
            }
        }
        let admission = if !any.is_empty() {
            Admission { ports: PortSetId(0), any: Some(self.take_rule(any, ids, before)) }
        } else if !ports.is_empty() {
            Admission { ports: self.take_port_set(ports, ids, before), any: None }
        } else {
            return;
        };
        self.table.admissions.insert((policy, identity), admission);
        before.admissions.entry((policy, identity)).or_insert(None);
    }

    fn take_rule(&mut self, rules: Vec<RuleRef>, ids: &mut Ids, before: &mut Before) -> RuleId {
        let id = RuleId(ids.judges.of(Judge::Rules(rules.clone())));
        *self.rules.entry(id).or_default() += 1;
        if self.table.labels.insert(id.0, Label::Rules(rules)).is_none() {
            before.labels.entry(id.0).or_insert(None);
        }
        id
    }

    fn take_port_set(
        &mut self,
        ports: BTreeMap<PortPrefix, BTreeSet<RuleRef>>,
        ids: &mut Ids,
        before: &mut Before,
    ) -> PortSetId {
        let ports: Vec<(PortPrefix, Vec<RuleRef>)> =
            ports.into_iter().map(|(prefix, rules)| (prefix, rules.into_iter().collect())).collect();
        let mut number = |rules: &Vec<RuleRef>| RuleId(ids.judges.of(Judge::Rules(rules.clone())));
        let contents = ports.iter().map(|(prefix, rules)| (*prefix, number(rules))).collect();
        let set = PortSetId(ids.port_sets.of(contents));
        let users = self.port_sets.entry(set).or_default();
        *users += 1;
        if *users == 1 {
            for (prefix, rules) in ports {
                let rule = self.take_rule(rules, ids, before);
                self.table.ports.insert((set, prefix), rule);
                before.ports.entry((set, prefix)).or_insert(None);
            }
        }
        set
    }
}

/// The keys of a port set's entries.
fn entries_of(set: PortSetId) -> std::ops::RangeInclusive<(PortSetId, PortPrefix)> {
    let at = |protocol, port, bits| (set, PortPrefix { protocol, port, bits });
    at(0, 0, 0)..=at(u8::MAX, u16::MAX, u8::MAX)
}
