//! The cluster as one node follows it: event in, changes for the kernel out.
//!
//! `apply(events) -> Vec<Change>`, against the table that the kernel is known to have; [`State::confirm`] says that it has
//! the new one now. Until then the next changes still lead from the old one, so a change that the kernel refused is made
//! good by the one after it. The event of a pod or of an address touches its own entries; what changes policies, or what they
//! tell apart, is compiled anew. [`super::compile::compile`] is what the table always equals.

use super::{
    change::{Before, Change, steps},
    cluster::{Cluster, Event},
    compile::{Compiled, Ids},
    decide::Endpoint,
    model::{Key, Name, Pod},
    table::{Label, Table},
};
use std::net::IpAddr;

/// After so many changes numbers that nothing uses any more are looked for.
const SWEEP: usize = 1000;
/// So many events at once are a whole cluster, or much of one.
const MANY: usize = 10_000;

/// What a node knows, what it wants, and in what its kernel differs from that.
#[derive(Debug)]
pub struct State {
    node: Name,
    cluster: Cluster,
    ids: Ids,
    compiled: Compiled,
    /// What the kernel has where it has not what is wanted.
    pending: Before,
    confirmed: usize,
}

/// What an event can change.
enum Touched {
    /// A pod, and what it was.
    Pod(Key, Option<Pod>),
    /// Some addresses.
    Addresses(Vec<IpAddr>),
    /// The policies of a namespace.
    Policies(Name),
    /// More than is worth following.
    Much,
    /// Nothing that a packet sees.
    Nothing,
}

impl State {
    /// The state of a node whose kernel has `pinned`: what an earlier agent left there, or nothing.
    pub fn new(node: Name, mut empty: Cluster, pinned: Table) -> Self {
        empty.here = Some(node.clone());
        let mut ids = Ids::beside(&pinned);
        let compiled = Compiled::of(&empty, &node, &mut ids);
        let pending = Before::between(&pinned, &compiled.table);
        Self { node, cluster: empty, ids, compiled, pending, confirmed: 0 }
    }

    /// Takes events in, and says what the kernel must be told: nothing if it would not notice.
    pub fn apply(&mut self, events: impl IntoIterator<Item = Event>) -> Vec<Change> {
        let (mut anew, mut taken) = (false, 0);
        for event in events {
            taken += 1;
            let touched = match &event {
                Event::Pod(key, _) => Touched::Pod(key.clone(), self.cluster.pods.get(key).filter(|_| !anew).cloned()),
                Event::Attachment(address, _) => Touched::Addresses(vec![*address]),
                Event::Neighbour(name, seen) => {
                    let known = self.cluster.neighbours.get(name);
                    Touched::Addresses(known.into_iter().flatten().chain(seen).map(|(address, _)| *address).collect())
                }
                Event::Policy(key, _) => Touched::Policies(key.namespace.clone()),
                Event::Namespace(..) | Event::Node(..) | Event::Ranges(_) => Touched::Much,
                Event::Around(_) => Touched::Nothing,
            };
            if !self.cluster.apply(event) || anew {
                continue;
            }
            let Self { cluster, compiled, ids, pending, .. } = self;
            match touched {
                Touched::Pod(key, old) => anew = !compiled.pod(cluster, &key, old.as_ref(), ids, pending),
                Touched::Addresses(addresses) => {
                    addresses.into_iter().for_each(|address| compiled.address(cluster, address, ids, pending));
                }
                // Elsewhere they isolate nobody that is judged here.
                Touched::Policies(namespace) => anew = compiled.has_pods_in(&namespace),
                Touched::Much => anew = true,
                Touched::Nothing => {}
            }
        }
        if taken > MANY {
            self.cluster.pack();
        }
        if anew {
            let compiled = Compiled::of(&self.cluster, &self.node, &mut self.ids);
            self.pending.then(Before::between(&self.compiled.table, &compiled.table));
            self.compiled = compiled;
            self.confirmed = SWEEP;
        }
        steps(&self.pending, &self.compiled.table)
    }

    /// The kernel has what [`State::apply`] asked for last. Returns the ids that nothing uses any more.
    pub fn confirm(&mut self) -> Vec<u32> {
        let before = std::mem::take(&mut self.pending);
        self.confirmed += 1;
        if self.confirmed > SWEEP {
            self.confirmed = 0;
            self.ids.retain(&self.compiled.table);
        }
        let used = |id: &u32| self.compiled.table.labels.contains_key(id);
        before.labels.into_iter().filter_map(|(id, label)| label.map(|_| id)).filter(|id| !used(id)).collect()
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
