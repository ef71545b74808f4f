//! The numbers of everything that a table names: terms, identities, policies and rules, port sets, and of what these are made of.

use super::{
    identity::{Class, Term},
    numbers::Numbers,
    policy_set::{Member, PolicySet},
    table::{FIRST_ID, PortPrefix, RuleId, RuleRef, Table},
};
use std::{collections::BTreeSet, sync::Arc};

/// What has a place in the counters: policies that isolate, and rules that admit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Judge {
    Policies(Arc<PolicySet>),
    Rules(Vec<RuleRef>),
}

/// The numbers of everything that a table names. One for the life of an agent.
#[derive(Debug, Clone)]
pub struct Ids {
    pub(super) terms: Numbers<Term>,
    pub(super) members: Numbers<Member>,
    pub(super) identities: Numbers<Class>,
    pub(super) judges: Numbers<Judge>,
    pub(super) port_sets: Numbers<Vec<(PortPrefix, RuleId)>>,
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
            members: Numbers::from(1),
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
        let sets = self.judges.known().filter_map(|(judge, _)| match judge {
            Judge::Policies(set) => Some(set),
            Judge::Rules(_) => None,
        });
        self.members.retain(&sets.flat_map(|set| set.all()).collect());
        let of_classes = self.identities.known().flat_map(|(class, _)| class.iter().copied());
        self.terms.retain(&of_classes.chain(self.members.known().flat_map(|(member, _)| member.terms())).collect());
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
        let meanings = table.addresses.values().map(|address| &address.meaning);
        let meanings = meanings.chain(table.interfaces.values()).chain(table.networks.values());
        for meaning in meanings {
            used.identities.insert(meaning.identity.0);
            used.judges.extend([meaning.ingress.number(), meaning.egress.number()]);
        }
        for ((policy, identity), admission) in &table.admissions {
            used.judges.insert(policy.number());
            used.identities.insert(identity.0);
            used.port_sets.insert(admission.ports.0);
            used.judges.extend(admission.any.map(|rule| rule.0));
        }
        for ((set, _), rule) in &table.ports {
            used.port_sets.insert(set.0);
            used.judges.insert(rule.0);
        }
        // Policies without rules, of pods without addresses.
        used.judges.extend(table.labels.keys());
        used
    }
}
