//! The policies that isolate a pod in one direction, as its node sees them: peers as terms, port names as numbers.
//!
//! `pod, policies of its namespace -> PolicySet`, by [`policy_set`]. A set is a value: two pods that the same policies
//! isolate, and on which port names mean the same, have equal ones, and so one number.

use super::{
    counted::Counted,
    identity::{Class, Term},
    ids::Ids,
    mode::Mode,
    model::{Direction, Key, Name, NetworkPolicy, Pod, PortMatch, PortSpec, Protocol, Rule},
    table::{PortPrefix, RuleRef},
};
use smallvec::{Array, SmallVec};
use std::{borrow::Cow, collections::BTreeMap};

/// One set of NetworkPolicies in one direction, with what their port names mean where the direction settles it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PolicySet {
    pub(super) direction: Direction,
    pub(super) mode: Mode,
    pub(super) members: Vec<(Key, Vec<Clause>)>,
}

/// A rule with its peers and ports as the node sees them, each in order and none twice: nearly always there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Clause {
    /// Terms of which one must hold; `None` = anybody.
    pub(super) peers: Option<SmallVec<[u32; 2]>>,
    /// `None` = everything.
    pub(super) ports: Option<SmallVec<[PortTerm; 1]>>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum PortTerm {
    Range(Protocol, u16, u16),
    /// Numbers that the name has on some pod; each with the term that holds for the pods on which it means that.
    Named(BTreeMap<u32, (Protocol, u16)>),
}

/// Every number that a port name has on some pod of the cluster: for the egress rules that use names.
pub(super) type NamedNumbers = BTreeMap<(Name, Protocol), Counted<u16>>;

/// The policies of a namespace.
pub(super) type Policies<'a> = Vec<(Key, Cow<'a, NetworkPolicy>, Mode)>;

impl PolicySet {
    /// The rules that admit addresses of a class, on some port or other.
    pub(super) fn clauses_with(&self, class: &Class) -> impl Iterator<Item = (RuleRef, &Clause)> {
        self.members.iter().flat_map(move |(policy, clauses)| {
            let admitting = clauses.iter().enumerate().filter(|(_, clause)| clause.has_peer(class));
            admitting.map(move |(rule, clause)| {
                (RuleRef { policy: policy.clone(), direction: self.direction, rule }, clause)
            })
        })
    }

    /// Every term that makes a difference to one of them, in order and none twice.
    pub(super) fn terms(&self) -> SmallVec<[u32; 8]> {
        ordered(self.members.iter().flat_map(|(_, clauses)| clauses).flat_map(Clause::terms).collect())
    }
}

impl Clause {
    pub(super) fn named(&self) -> impl Iterator<Item = (u32, (Protocol, u16))> {
        self.ports.iter().flatten().flat_map(|port| match port {
            PortTerm::Named(numbers) => numbers.iter().map(|(term, port)| (*term, *port)).collect(),
            PortTerm::Range(..) => Vec::new(),
        })
    }

    pub(super) fn terms(&self) -> impl Iterator<Item = u32> {
        self.peers.iter().flatten().copied().chain(self.named().map(|(term, _)| term))
    }

    pub(super) fn has_peer(&self, class: &Class) -> bool {
        self.peers.as_ref().is_none_or(|peers| class.iter().any(|term| peers.binary_search(term).is_ok()))
    }

    /// The ports that it admits with addresses of a class.
    pub(super) fn prefixes(&self, class: &Class) -> Vec<PortPrefix> {
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

/// The policies that isolate a pod in a direction; those in audit where there are no others, because beside others they
/// change nothing. `None` = no policy speaks of it.
pub(super) fn policy_set(
    pod: &Pod,
    policies: &Policies<'_>,
    direction: Direction,
    named: &NamedNumbers,
    ids: &mut Ids,
) -> Option<PolicySet> {
    let selects = |policy: &NetworkPolicy| policy.selector.matches(&pod.labels);
    let selecting: Vec<_> = policies.iter().filter(|(_, policy, _)| selects(policy)).collect();
    [Mode::Enforce, Mode::Audit].into_iter().find_map(|mode| {
        let members: Vec<_> = selecting
            .iter()
            .filter(|(_, _, of_policy)| *of_policy == mode)
            .filter_map(|(key, policy, _)| {
                let rules = policy.rules(direction)?;
                Some((key.clone(), rules.iter().map(|rule| clause(pod, key, rule, direction, named, ids)).collect()))
            })
            .collect();
        (!members.is_empty()).then_some(PolicySet { direction, mode, members })
    })
}

pub(super) fn clause(
    pod: &Pod,
    key: &Key,
    rule: &Rule,
    direction: Direction,
    named: &NamedNumbers,
    ids: &mut Ids,
) -> Clause {
    let mut port = |PortMatch { protocol, port }: &PortMatch| match (port, direction) {
        (PortSpec::Range(low, high), _) => vec![PortTerm::Range(*protocol, *low, *high)],
        // The destination is the pod itself,
        (PortSpec::Named(name), Direction::Ingress) => {
            pod.named_ports(name, *protocol).map(|number| PortTerm::Range(*protocol, number, number)).collect()
        }
        // or whoever is asked: then what the name means there is part of the identity.
        (PortSpec::Named(name), Direction::Egress) => {
            let numbers = named.get(&(name.clone(), *protocol)).into_iter().flat_map(Counted::iter);
            let term =
                |number: &u16| (ids.terms.of(Term::Port(name.clone(), *protocol, *number)), (*protocol, *number));
            vec![PortTerm::Named(numbers.map(term).collect())]
        }
    };
    let ports = (!rule.ports.is_empty()).then(|| ordered(rule.ports.iter().flat_map(&mut port).collect()));
    let term = |peer| ids.terms.of(Term::of_peer(&key.namespace, peer));
    let peers = (!rule.peers.is_empty()).then(|| ordered(rule.peers.iter().map(term).collect()));
    Clause { peers, ports }
}

/// In order and none twice.
fn ordered<L: Array<Item: Ord>>(mut list: SmallVec<L>) -> SmallVec<L> {
    list.sort_unstable();
    list.dedup();
    list
}
