//! The cluster as one node follows it: event in, changes for the kernel out.
//!
//! `apply(events) -> Vec<Change>`, against the table that the kernel is known to have; [`State::confirm`] says that it has
//! the new one now. Until then the next changes still lead from the old one, so a change that the kernel refused is made
//! good by the one after it. [`super::compile`] is what the state must equal.

use super::{
    change::{Change, changes},
    cluster::{Cluster, Event},
    compile::{Ids, compile},
    model::Name,
    table::Table,
};

/// What a node knows, what it wants, and what its kernel has.
#[derive(Debug)]
pub struct State {
    node: Name,
    cluster: Cluster,
    ids: Ids,
    wanted: Table,
    enforced: Table,
}

impl State {
    /// The state of a node whose kernel has `pinned`: what an earlier agent left there, or nothing.
    pub fn new(node: Name, empty: Cluster, pinned: Table) -> Self {
        Self { node, cluster: empty, ids: Ids::beside(&pinned), wanted: Table::default(), enforced: pinned }
    }

    /// Takes events in, and says what the kernel must be told: nothing if it would not notice.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Change> {
        for event in events {
            self.cluster.apply(event);
        }
        self.wanted = compile(&self.cluster, &self.node, &mut self.ids);
        changes(&self.enforced, &self.wanted)
    }

    /// The kernel has what [`State::apply`] asked for last.
    pub fn confirm(&mut self) {
        self.enforced.clone_from(&self.wanted);
        self.ids.retain(&self.enforced);
    }

    /// The kernel was asked, and has this: after a change that failed on its way. Labels that are known stay known.
    pub fn found(&mut self, table: Table) {
        let labels = self.enforced.labels.iter().chain(&self.wanted.labels);
        let labels = labels.map(|(id, label)| (*id, label.clone())).collect();
        self.enforced = Table { labels, ..table };
    }

    /// The cluster as it is known.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What the kernel has.
    pub fn enforced(&self) -> &Table {
        &self.enforced
    }
}
