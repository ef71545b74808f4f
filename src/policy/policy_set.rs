//! The policies that isolate a pod in one direction, as its node sees them: peers as terms, port names as numbers.
//!
//! `pod, policy -> Member`, by [`member`], and members are a [`PolicySet`], by their numbers: so that one policy more or less
//! is one number more or less. Two pods that the same policies isolate, and on which port names mean the same, have equal sets.

use super::{
    counted::Counted,
    identity::{Class, Term},
    ids::Ids,
    mode::Mode,
    model::{Direction, Key, Name, NetworkPolicy, Pod, PortMatch, PortSpec, Protocol, Rule},
    numbers::Numbers,
    table::{PortPrefix, RuleRef},
};
use smallvec::{Array, SmallVec};
use std::collections::BTreeMap;

/// The term that everybody has.
pub(super) const ANYBODY: u32 = 0;

/// One set of NetworkPolicies in one direction, as the numbers of what each of them says there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PolicySet {
    pub(super) direction: Direction,
    /// Those that are enforced, those in audit; in order of their keys.
    of_mode: [Vec<u32>; 2],
}

/// What a policy says in a direction, with what its port names mean where the direction settles it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Member {
    pub(super) policy: Key,
    pub(super) direction: Direction,
    pub(super) clauses: Vec<Clause>,
}

/// A rule with its peers and ports as the node sees them, each in order and none twice: nearly always there is one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Clause {
    /// Terms of which one must hold.
    pub(super) peers: SmallVec<[u32; 2]>,
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

impl PolicySet {
    /// No policy speaks of it.
    pub(super) fn none(direction: Direction) -> Self {
        Self { direction, of_mode: [Vec::new(), Vec::new()] }
    }

    /// What a policy says from now on, or that it says nothing.
    pub(super) fn put(&mut self, policy: &Key, said: Option<(Mode, u32)>, members: &Numbers<Member>) {
        let of = |number: &u32| members.thing(*number).map(|member| &member.policy);
        for (list, mode) in self.of_mode.iter_mut().zip([Mode::Enforce, Mode::Audit]) {
            // They mostly come in order.
            let is_last = list.last().and_then(of) < Some(policy);
            let at = if is_last { list.len() } else { list.partition_point(|number| of(number) < Some(policy)) };
            let was = at..at + usize::from(list.get(at).and_then(of) == Some(policy));
            list.splice(was, said.filter(|(of_policy, _)| *of_policy == mode).map(|(_, number)| number));
        }
    }

    /// Whether those in audit count: where there are no others, because beside others they change nothing.
    pub(super) fn mode(&self) -> Mode {
        if self.of_mode[0].is_empty() { Mode::Audit } else { Mode::Enforce }
    }

    /// Those that count, in order of their keys.
    pub(super) fn members(&self) -> &[u32] {
        match self.mode() {
            Mode::Enforce => &self.of_mode[0],
            Mode::Audit => &self.of_mode[1],
        }
    }

    /// And those that do not.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.of_mode.iter().flatten().copied()
    }
}

impl Member {
    /// The rules that admit addresses of a class, on some port or other.
    pub(super) fn clauses_with(&self, class: &Class) -> impl Iterator<Item = (RuleRef, &Clause)> {
        let admitting = self.clauses.iter().enumerate().filter(|(_, clause)| clause.has_peer(class));
        admitting
            .map(|(rule, clause)| (RuleRef { policy: self.policy.clone(), direction: self.direction, rule }, clause))
    }

    /// Every term that makes a difference to it, in order and none twice.
    pub(super) fn terms(&self) -> SmallVec<[u32; 8]> {
        ordered(self.clauses.iter().flat_map(Clause::terms).collect())
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
        self.peers.iter().copied().chain(self.named().map(|(term, _)| term))
    }

    pub(super) fn has_peer(&self, class: &Class) -> bool {
        let is_peer = |term: &u32| self.peers.binary_search(term).is_ok();
        is_peer(&ANYBODY) || class.iter().any(is_peer)
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

/// The number of what a policy says of a pod in a direction; `None` = it does not speak of it.
pub(super) fn member(
    pod: &Pod,
    key: &Key,
    policy: &NetworkPolicy,
    direction: Direction,
    named: &NamedNumbers,
    ids: &mut Ids,
) -> Option<u32> {
    let rules = policy.rules(direction).filter(|_| policy.selector.matches(&pod.labels))?;
    let clauses = rules.iter().map(|rule| clause(pod, key, rule, direction, named, ids)).collect();
    Some(ids.members.of(Member { policy: key.clone(), direction, clauses }))
}

fn clause(pod: &Pod, key: &Key, rule: &Rule, direction: Direction, named: &NamedNumbers, ids: &mut Ids) -> Clause {
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
    let mut peers: SmallVec<_> = rule.peers.iter().map(term).collect();
    if peers.is_empty() {
        peers.push(ANYBODY);
    }
    let peers = ordered(peers);
    Clause { peers, ports }
}

/// In order and none twice.
fn ordered<L: Array<Item: Ord>>(mut list: SmallVec<L>) -> SmallVec<L> {
    list.sort_unstable();
    list.dedup();
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_order_of_their_keys_whenever_they_came_and_those_in_audit_count_only_alone() {
        let mut members = Numbers::from(1);
        let number = |members: &mut Numbers<Member>, policy: &Key, rules| {
            let clauses = vec![Clause { peers: SmallVec::from_slice(&[ANYBODY]), ports: None }; rules];
            members.of(Member { policy: policy.clone(), direction: Direction::Ingress, clauses })
        };
        let [a, b, c] = ["a", "b", "c"].map(|name| Key::new("shop", name));
        let [of_c, of_a, of_b, another] =
            [(&c, 1), (&a, 1), (&b, 1), (&b, 2)].map(|(key, rules)| number(&mut members, key, rules));
        let mut set = PolicySet::none(Direction::Ingress);
        for (key, number) in [(&c, of_c), (&a, of_a), (&b, of_b)] {
            set.put(key, Some((Mode::Audit, number)), &members);
        }
        assert_eq!((set.mode(), set.members()), (Mode::Audit, &[of_a, of_b, of_c][..]));
        set.put(&b, Some((Mode::Enforce, another)), &members);
        assert_eq!((set.mode(), set.members()), (Mode::Enforce, &[another][..]));
        assert_eq!(set.all().collect::<Vec<_>>(), [another, of_a, of_c]);
        set.put(&b, None, &members);
        assert_eq!((set.mode(), set.members()), (Mode::Audit, &[of_a, of_c][..]));
    }
}
