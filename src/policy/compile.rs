//! A cluster becomes the table of one node.
//!
//! `local pods -> policies that isolate them -> their peers (Terms) -> identities of all addresses -> admissions`. Only
//! what isolates a pod of this node is compiled, and only what its peers tell apart is an identity. Entries depend on
//! nothing but the contents behind their ids, so an entry is never redefined: see [`super::ids`].

use super::{
    cluster::Cluster,
    identity::{self, Class, Term, Terms},
    ids::Numbers,
    model::{Direction, Key, Name, NetworkPolicy, Pod, PortMatch, PortSpec, Protocol, Rule},
    table::{
        Address, Admission, FIRST_ID, IdentityId, Label, Meaning, PolicyId, PortPrefix, PortSetId, RuleId, RuleRef,
        Table,
    },
};
use ipnet::IpNet;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// One set of NetworkPolicies in one direction, with what their port names mean where the direction settles it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct PolicySet {
    direction: Direction,
    members: Vec<(Key, Vec<Clause>)>,
}

/// A rule with its peers and ports as the node sees them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Clause {
    /// Terms of which one must hold; `None` = anybody.
    peers: Option<BTreeSet<u32>>,
    /// `None` = everything.
    ports: Option<BTreeSet<PortTerm>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum PortTerm {
    Range(Protocol, u16, u16),
    /// Numbers that the name has on some pod; each with the term that holds for the pods on which it means that.
    Named(BTreeMap<u32, (Protocol, u16)>),
}

/// What has a place in the counters: policies that isolate, and rules that admit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Judge {
    Policies(Arc<PolicySet>),
    Rules(Vec<RuleRef>),
}

/// The numbers of everything that a table names. One for the life of an agent.
#[derive(Debug, Clone)]
pub struct Ids {
    terms: Numbers<Term>,
    identities: Numbers<Class>,
    judges: Numbers<Judge>,
    port_sets: Numbers<Vec<(PortPrefix, RuleId)>>,
}

impl Default for Ids {
    fn default() -> Self {
        Self::beside(&Table::default())
    }
}

impl Ids {
    /// Numbers that meet none of those in a table whose contents are not known: the one that an earlier agent left.
    pub fn beside(table: &Table) -> Self {
        let mut ids = Self {
            terms: Numbers::from(1),
            identities: Numbers::from(1),
            judges: Numbers::from(FIRST_ID),
            port_sets: Numbers::from(1),
        };
        let used = Used::of(table);
        used.identities.into_iter().for_each(|number| ids.identities.reserve(number));
        used.judges.into_iter().for_each(|number| ids.judges.reserve(number));
        used.port_sets.into_iter().for_each(|number| ids.port_sets.reserve(number));
        ids
    }

    /// Takes back the numbers that a table does not use. To be called when the kernel has that table and no other.
    pub fn retain(&mut self, table: &Table) {
        let used = Used::of(table);
        self.identities.retain(&used.identities);
        self.judges.retain(&used.judges);
        self.port_sets.retain(&used.port_sets);
        let mut terms: BTreeSet<u32> = self.identities.known().flat_map(|(class, _)| class.iter().copied()).collect();
        for (judge, _) in self.judges.known() {
            if let Judge::Policies(set) = judge {
                terms.extend(set.clauses().flat_map(|(_, clause)| clause.terms()));
            }
        }
        self.terms.retain(&terms);
    }
}

/// The numbers in a table.
#[derive(Default)]
struct Used {
    identities: BTreeSet<u32>,
    judges: BTreeSet<u32>,
    port_sets: BTreeSet<u32>,
}

impl Used {
    fn of(table: &Table) -> Self {
        let mut used = Self::default();
        let meanings = table.addresses.values().map(|address| &address.meaning).chain(table.networks.values());
        for meaning in meanings {
            used.identities.insert(meaning.identity.0);
            used.judges.extend([meaning.ingress.0, meaning.egress.0]);
        }
        for ((policy, identity), admission) in &table.admissions {
            used.judges.insert(policy.0);
            used.identities.insert(identity.0);
            used.port_sets.insert(admission.ports.0);
            used.judges.extend(admission.any.map(|rule| rule.0));
        }
        for ((set, _), rule) in &table.ports {
            used.port_sets.insert(set.0);
            used.judges.insert(rule.0);
        }
        used
    }
}

impl PolicySet {
    fn clauses(&self) -> impl Iterator<Item = (RuleRef, &Clause)> {
        self.members.iter().flat_map(move |(policy, clauses)| {
            clauses.iter().enumerate().map(move |(rule, clause)| {
                (RuleRef { policy: policy.clone(), direction: self.direction, rule }, clause)
            })
        })
    }
}

impl Clause {
    fn named(&self) -> impl Iterator<Item = (u32, (Protocol, u16))> {
        self.ports.iter().flatten().flat_map(|port| match port {
            PortTerm::Named(numbers) => numbers.iter().map(|(term, port)| (*term, *port)).collect(),
            PortTerm::Range(..) => Vec::new(),
        })
    }

    fn terms(&self) -> impl Iterator<Item = u32> {
        self.peers.iter().flatten().copied().chain(self.named().map(|(term, _)| term))
    }

    fn has_peer(&self, class: &Class) -> bool {
        self.peers.as_ref().is_none_or(|peers| class.iter().any(|term| peers.contains(term)))
    }

    /// The ports that it admits with addresses of a class.
    fn prefixes(&self, class: &Class) -> Vec<PortPrefix> {
        let mut prefixes = Vec::new();
        for port in self.ports.iter().flatten() {
            match port {
                PortTerm::Range(protocol, low, high) => {
                    prefixes.extend(PortPrefix::covering(protocol.number(), *low, *high));
                }
                PortTerm::Named(numbers) => {
                    let here = numbers.iter().filter(|(term, _)| class.contains(term));
                    prefixes.extend(here.flat_map(|(_, (p, port))| PortPrefix::covering(p.number(), *port, *port)));
                }
            }
        }
        prefixes
    }
}

/// What the kernel of `node` must be told about this cluster.
pub fn compile(cluster: &Cluster, node: &str, ids: &mut Ids) -> Table {
    let mut table = Table::default();
    let named = numbers_of_names(cluster);
    let mut sets: BTreeMap<PolicyId, Arc<PolicySet>> = BTreeMap::new();
    let mut isolation: BTreeMap<&Key, (PolicyId, PolicyId)> = BTreeMap::new();
    let mut of_namespace: Option<(&Name, Policies<'_>)> = None;
    for (key, pod) in identity::endpoints(cluster).filter(|(_, pod)| pod.node.as_deref() == Some(node)) {
        if of_namespace.as_ref().is_none_or(|(name, _)| **name != key.namespace) {
            of_namespace = Some((&key.namespace, cluster.policies_in(&key.namespace).collect()));
        }
        let policies = of_namespace.as_ref().map(|(_, policies)| policies.as_slice()).unwrap_or_default();
        let mut isolate = |direction| match policy_set(pod, policies, direction, &named, ids) {
            Some(set) => {
                let set = Arc::new(set);
                let id = PolicyId(ids.judges.of(Judge::Policies(set.clone())));
                table
                    .labels
                    .insert(id.0, Label::Policies(direction, set.members.iter().map(|m| m.0.clone()).collect()));
                sets.insert(id, set);
                id
            }
            None => PolicyId(0),
        };
        isolation.insert(key, (isolate(Direction::Ingress), isolate(Direction::Egress)));
    }

    let in_use: BTreeSet<u32> =
        sets.values().flat_map(|set| set.clauses().flat_map(|(_, c)| c.terms()).collect::<Vec<_>>()).collect();
    let classes = {
        let terms = Terms::new(ids.terms.known().filter(|(_, number)| in_use.contains(number)));
        classify(cluster, node, &terms)
    };
    let mut identities: BTreeMap<IdentityId, Class> = BTreeMap::new();
    let mut identify = |mut class: Class| {
        class.sort_unstable();
        class.dedup();
        if class.is_empty() {
            return IdentityId(0);
        }
        let id = IdentityId(ids.identities.of(class.clone()));
        identities.insert(id, class);
        id
    };
    for (prefix, (class, closed)) in classes.networks {
        table.networks.insert(prefix, Meaning { identity: identify(class), closed, ..Meaning::default() });
    }
    for (address, (key, class)) in classes.addresses {
        let meaning = match key {
            None => Meaning { identity: identify(class), closed: true, ..Meaning::default() },
            Some(key) => {
                let (ingress, egress) = isolation.get(key).copied().unwrap_or_default();
                Meaning {
                    identity: identify(class),
                    ingress,
                    egress,
                    local: isolation.contains_key(key),
                    closed: false,
                }
            }
        };
        table.addresses.insert(address, Address { meaning, ifindex: 0 });
    }
    admit(&mut table, &sets, &identities, ids);
    table
}

/// The policies of a namespace.
type Policies<'a> = Vec<(Key, Cow<'a, NetworkPolicy>)>;

/// Every number that a port name has on some pod of the cluster, for the egress rules that use names.
type NamedNumbers<'a> = BTreeMap<(&'a Name, Protocol), BTreeSet<u16>>;

fn numbers_of_names(cluster: &Cluster) -> NamedNumbers<'_> {
    let mut numbers = NamedNumbers::new();
    for port in identity::endpoints(cluster).flat_map(|(_, pod)| &pod.ports) {
        numbers.entry((&port.name, port.protocol)).or_default().insert(port.number);
    }
    numbers
}

/// The policies that isolate a pod in a direction; `None` = it is not isolated.
fn policy_set(
    pod: &Pod,
    policies: &[(Key, Cow<'_, NetworkPolicy>)],
    direction: Direction,
    named: &NamedNumbers<'_>,
    ids: &mut Ids,
) -> Option<PolicySet> {
    let selecting = policies.iter().filter(|(_, policy)| policy.selector.matches(&pod.labels));
    let members: Vec<_> = selecting
        .filter_map(|(key, policy)| {
            let rules = policy.rules(direction)?;
            Some((key.clone(), rules.iter().map(|rule| clause(pod, key, rule, direction, named, ids)).collect()))
        })
        .collect();
    (!members.is_empty()).then_some(PolicySet { direction, members })
}

fn clause(pod: &Pod, key: &Key, rule: &Rule, direction: Direction, named: &NamedNumbers<'_>, ids: &mut Ids) -> Clause {
    let mut port = |PortMatch { protocol, port }: &PortMatch| match (port, direction) {
        (PortSpec::Range(low, high), _) => vec![PortTerm::Range(*protocol, *low, *high)],
        // The destination is the pod itself,
        (PortSpec::Named(name), Direction::Ingress) => {
            pod.named_ports(name, *protocol).map(|number| PortTerm::Range(*protocol, number, number)).collect()
        }
        // or whoever is asked: then what the name means there is part of the identity.
        (PortSpec::Named(name), Direction::Egress) => {
            let numbers = named.get(&(name, *protocol)).into_iter().flatten();
            let term =
                |number: &u16| (ids.terms.of(Term::Port(name.clone(), *protocol, *number)), (*protocol, *number));
            vec![PortTerm::Named(numbers.map(term).collect())]
        }
    };
    let ports = (!rule.ports.is_empty()).then(|| rule.ports.iter().flat_map(&mut port).collect());
    let term = |peer| ids.terms.of(Term::of_peer(&key.namespace, peer));
    let peers = (!rule.peers.is_empty()).then(|| rule.peers.iter().map(term).collect());
    Clause { peers, ports }
}

/// Networks and addresses with their classes, before those have numbers.
struct Classes<'a> {
    networks: BTreeMap<IpNet, (Class, bool)>,
    /// No pod: two of them claim it.
    addresses: BTreeMap<IpAddr, (Option<&'a Key>, Class)>,
}

fn classify<'a>(cluster: &'a Cluster, node: &str, terms: &Terms<'_>) -> Classes<'a> {
    let ranges: Vec<IpNet> =
        cluster.nodes.get(node).map(|n| n.pod_ranges.iter().map(IpNet::trunc).collect()).unwrap_or_default();
    let mut prefixes = terms.prefixes();
    prefixes.extend(&ranges);
    let networks: BTreeMap<_, _> = prefixes
        .into_iter()
        .map(|prefix| (prefix, (terms.of_network(&prefix), ranges.iter().any(|range| range.contains(&prefix)))))
        .collect();
    let blocks_of = |address: IpAddr| {
        let mut at = Some(IpNet::from(address));
        while let Some(prefix) = at {
            if let Some((class, _)) = networks.get(&prefix) {
                return class.as_slice();
            }
            at = prefix.supernet();
        }
        &[]
    };

    let of_nodes: BTreeSet<&IpAddr> = cluster.nodes.values().flat_map(|node| &node.addresses).collect();
    let mut claims: BTreeMap<IpAddr, Vec<(&Key, &Pod, Class)>> = BTreeMap::new();
    let mut selecting: Option<(&Name, identity::PodTerms)> = None;
    for (key, pod) in identity::endpoints(cluster) {
        if selecting.as_ref().is_none_or(|(name, _)| **name != key.namespace) {
            selecting = Some((&key.namespace, terms.in_namespace(cluster, &key.namespace)));
        }
        let class = selecting.as_ref().map(|(_, of_namespace)| terms.of_pod(of_namespace, pod)).unwrap_or_default();
        for address in pod.addresses.iter().filter(|address| !of_nodes.contains(address)) {
            let class = class.iter().chain(blocks_of(*address)).copied().collect();
            claims.entry(*address).or_default().push((key, pod, class));
        }
    }
    let mut addresses = BTreeMap::new();
    for (address, mut claims) in claims {
        match (claims.pop(), claims.is_empty()) {
            (Some((key, _, class)), true) => {
                addresses.insert(address, (Some(key), class));
            }
            // Two pods claim it, so it is nobody's: closed where one of them is, an address like any other elsewhere.
            (last, _) => {
                if claims.iter().chain(&last).any(|(_, pod, _)| pod.node.as_deref() == Some(node)) {
                    addresses.insert(address, (None, blocks_of(address).to_vec()));
                }
            }
        }
    }
    Classes { networks, addresses }
}

/// Fills in what each policy admits from, or to, each identity.
fn admit(
    table: &mut Table,
    sets: &BTreeMap<PolicyId, Arc<PolicySet>>,
    identities: &BTreeMap<IdentityId, Class>,
    ids: &mut Ids,
) {
    let mut by_term: BTreeMap<u32, Vec<IdentityId>> = BTreeMap::new();
    for (id, class) in identities {
        class.iter().for_each(|term| by_term.entry(*term).or_default().push(*id));
    }
    let nobody = Class::new();
    for (policy, set) in sets {
        let told_apart = set.clauses().flat_map(|(_, clause)| clause.terms().collect::<Vec<_>>());
        let mut concerned: BTreeSet<IdentityId> =
            told_apart.filter_map(|term| by_term.get(&term)).flatten().copied().collect();
        concerned.insert(IdentityId(0));
        for identity in concerned {
            let class = identities.get(&identity).unwrap_or(&nobody);
            if let Some(admission) = admission(table, set, class, ids) {
                table.admissions.insert((*policy, identity), admission);
            }
        }
    }
}

fn admission(table: &mut Table, set: &PolicySet, class: &Class, ids: &mut Ids) -> Option<Admission> {
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
    let mut number = |rules: Vec<RuleRef>| {
        let id = ids.judges.of(Judge::Rules(rules.clone()));
        table.labels.insert(id, Label::Rules(rules));
        RuleId(id)
    };
    if !any.is_empty() {
        return Some(Admission { ports: PortSetId(0), any: Some(number(any)) });
    }
    if ports.is_empty() {
        return None;
    }
    let contents: Vec<_> =
        ports.into_iter().map(|(prefix, rules)| (prefix, number(rules.into_iter().collect()))).collect();
    let set = PortSetId(ids.port_sets.of(contents.clone()));
    table.ports.extend(contents.into_iter().map(|(prefix, rule)| ((set, prefix), rule)));
    Some(Admission { ports: set, any: None })
}
