//! The catalogue: what a kube-apiserver lets in and should not be written.
//!
//! `object -> findings`, a small family of rules a file: [`network_policy`], [`pod::rules`], [`namespace::rules`]. Each rule
//! is a [`Rule`] value beside the function that finds it. What the server itself refuses is found where the object is read
//! (`k8s::convert`). Rules that need the cluster take a [`View`] of it, and are silent without.

mod blocks;
mod contradiction;
mod dns;
mod ends;
mod ignored;
mod listening;
mod meaning;
pub mod namespace;
mod open;
mod peers;
pub mod pod;
mod ports;
mod redundant;
mod relabel;
mod selectors;
mod selects;
mod types;
mod view;

pub use relabel::{LEAVES_FENCE, namespace_relabelled, relabelled};
pub use view::View;

use meaning::Meaning;

use crate::{
    finding::{FieldPath, Finding, rule::Rule},
    policy::model::{Direction, Key, NetworkPolicy},
};
use serde_json::Value;

/// The most findings about one object: more would help nobody, and only cost whoever reads them.
const MAX_FINDINGS: usize = 100;

/// A NetworkPolicy that is judged.
#[derive(Debug, Clone, Copy)]
pub struct Policy<'a> {
    /// Its namespace and name.
    pub key: &'a Key,
    /// As it would be stored.
    pub object: &'a Value,
    /// As its author wrote it, where that is known: a server writes defaults out and drops empty lists before it asks.
    pub written: Option<&'a Value>,
    /// What it means, if all of it can be read.
    pub value: Option<&'a NetworkPolicy>,
    /// The cluster around it.
    pub view: Option<View<'a>>,
}

/// Every rule of this catalogue.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        ignored::RULES,
        contradiction::RULES,
        types::RULES,
        peers::RULES,
        open::RULES,
        blocks::RULES,
        ports::RULES,
        redundant::RULES,
        dns::RULES,
        selectors::RULES,
        selects::RULES,
        listening::RULES,
        ends::RULES,
        pod::RULES,
        relabel::RULES,
        namespace::RULES,
    ]
    .into_iter()
    .flatten()
}

/// What is wrong with a NetworkPolicy that the server accepts.
pub fn network_policy(policy: &Policy<'_>) -> Vec<Finding> {
    let mut findings = ignored::rules(policy);
    findings.extend(contradiction::rules(policy.object));
    findings.extend(types::rules(policy));
    findings.extend(open::written(policy));
    if let Some(meaning) = Meaning::of(policy) {
        for family in [
            open::rules,
            peers::rules,
            blocks::rules,
            ports::rules,
            redundant::rules,
            dns::rules,
            selectors::rules,
            selects::rules,
            listening::rules,
            ends::rules,
        ] {
            findings.extend(family(&meaning));
            findings.truncate(MAX_FINDINGS);
        }
    }
    findings
}

/// Where a rule or a peer stands. It becomes a path only where something is found: all rules of the catalogue look at every
/// place, and hardly any speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    direction: Direction,
    rule: usize,
    peer: Option<usize>,
}

impl Place {
    fn path(self) -> FieldPath {
        let rule = spec().field(self.direction.as_str()).index(self.rule);
        match self.peer {
            Some(peer) => rule.field(view::list(self.direction)).index(peer),
            None => rule,
        }
    }

    fn field(self, name: &'static str) -> FieldPath {
        self.path().field(name)
    }

    /// The place of a peer of the rule that stands here.
    fn of_peer(self, at: usize) -> Self {
        Place { peer: Some(at), ..self }
    }
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn spec() -> FieldPath {
    FieldPath::root().field("spec")
}
