//! The cluster as one node follows it: event in, changes for the kernel out.
//!
//! `apply(events) -> Vec<Change>`, against the table that the kernel is known to have; [`State::confirm`] says that it has
//! the new one now. Until then the next changes still lead from the old one, so a change that the kernel refused is made
//! good by the one after it. [`super::compile::compile`] is what the table always equals.

use super::{
    change::{Before, Change, steps},
    cluster::{Cluster, Event},
    compile::{Compiled, Ids},
    decide::Endpoint,
    model::Name,
    table::{Label, Table},
};
use std::{collections::BTreeMap, net::IpAddr};

/// After so many changes, of which each may leave a number unused, those that are are taken back.
const SWEEP: usize = 1000;
/// So many events at once are a whole cluster, or much of one.
const MANY: usize = 10_000;

/// What a node knows, what it wants, and in what its kernel differs from that.
#[derive(Debug)]
pub struct State {
    cluster: Cluster,
    ids: Ids,
    compiled: Compiled,
    /// What the kernel has where it has not what is wanted.
    pending: Before,
    /// How many numbers may be without a user.
    unused: usize,
}

impl State {
    /// The state of a node whose kernel has `pinned`: what an earlier agent left there, or nothing.
    pub fn new(node: Name, mut empty: Cluster, pinned: Table) -> Self {
        empty.here = Some(node.clone());
        let mut ids = Ids::beside(&pinned);
        let compiled = Compiled::of(&empty, &node, &mut ids);
        let pending = Before::between(&pinned, &compiled.table);
        Self { cluster: empty, ids, compiled, pending, unused: 0 }
    }

    /// Takes events in, and says what the kernel must be told: nothing if it would not notice.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Change> {
        let mut taken = 0;
        for event in events {
            taken += 1;
            if let Some(back) = self.cluster.apply(event) {
                self.compiled.touch(&self.cluster, &back);
            }
        }
        if taken > MANY {
            self.cluster.pack();
        }
        self.compiled.settle(&self.cluster, &mut self.ids, &mut self.pending);
        steps(&self.pending, &self.compiled.table)
    }

    /// The kernel has what [`State::apply`] asked for last. Returns the ids that nothing uses any more, and what they stood for.
    pub fn confirm(&mut self) -> BTreeMap<u32, Label> {
        let before = std::mem::take(&mut self.pending);
        self.unused += 1 + before.labels.len();
        if self.unused > SWEEP {
            self.unused = 0;
            self.ids.retain(&self.compiled.table);
        }
        let used = |id: &u32| self.compiled.table.labels.contains_key(id);
        before.labels.into_iter().filter_map(|(id, label)| Some((id, label?))).filter(|(id, _)| !used(id)).collect()
    }

    /// The kernel was asked, and has this: after a change that failed on its way. Labels that are known stay known.
    pub fn found(&mut self, table: Table) {
        let labels = std::mem::take(&mut self.pending.labels);
        self.pending = Before { labels, ..Before::between(&table, &self.compiled.table) };
    }

    /// Whose an address is, as this node knows it: no search through all pods, as [`super::decide::endpoint`] makes it.
    pub fn endpoint(&self, address: IpAddr) -> Endpoint {
        match self.compiled.pod_at(&self.cluster, address) {
            Some(pod) => Endpoint::Pod(pod, Some(address)),
            None => match self.cluster.node_at(address) {
                Some(name) => Endpoint::Node(name.clone(), Some(address)),
                None => Endpoint::Address(address),
            },
        }
    }

    /// The cluster as it is known.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What the kernel is to have, and has once [`State::confirm`] was called.
    pub fn table(&self) -> &Table {
        &self.compiled.table
    }

    /// The numbers of everything, for whoever compiles beside this state.
    pub fn ids(&self) -> &Ids {
        &self.ids
    }

    /// What an id stands for, also one that is about to go.
    pub fn label(&self, id: u32) -> Option<&Label> {
        let going = || self.pending.labels.get(&id).and_then(Option::as_ref);
        self.compiled.table.labels.get(&id).or_else(going)
    }
}
