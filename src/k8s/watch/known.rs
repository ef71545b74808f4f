//! What was passed on of one kind: of each object its key, and a fingerprint instead of the object.
//!
//! Enough to say what a list lacks and what changes nothing, without a second cluster in memory. A fingerprint is 64 bits
//! under a key that only this process has, so nobody can make two objects of one.

use super::resource::Kind;
use crate::policy::{
    cluster::Event,
    model::{Key, Name},
    service::Fact,
};
use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
};

/// The objects of a kind.
#[derive(Debug, Default)]
pub(super) struct Known {
    objects: BTreeMap<Key, u64>,
    random: RandomState,
}

impl Known {
    /// Takes in what happened to one object; returns it if it changes anything.
    pub(super) fn happened(&mut self, event: Event) -> Option<Event> {
        let (key, now) = self.print(&event)?;
        let before = match now {
            Some(now) => self.objects.insert(key, now),
            None => self.objects.remove(&key),
        };
        (before != now).then_some(event)
    }

    /// Takes in all objects that there are; returns what is gone, and then what is new or changed.
    pub(super) fn listed(&mut self, kind: Kind, all: Vec<Event>) -> Vec<Event> {
        let mut gone = std::mem::take(&mut self.objects);
        let mut prints = Vec::with_capacity(all.len());
        let mut changed = Vec::new();
        for event in all {
            let Some((key, Some(now))) = self.print(&event) else { continue };
            if gone.remove(&key) != Some(now) {
                changed.push(event);
            }
            prints.push((key, now));
        }
        self.objects = prints.into_iter().collect();
        gone.into_keys().map(|key| kind.gone(key)).chain(changed).collect()
    }

    /// The key of an object and, if it is there, its fingerprint. None for what is no object of an API server.
    fn print(&self, event: &Event) -> Option<(Key, Option<u64>)> {
        let nowhere = |name: &Name| Key { namespace: Name::default(), name: name.clone() };
        match event {
            Event::Namespace(name, object) => Some((nowhere(name), object.as_ref().map(|it| self.random.hash_one(it)))),
            Event::Node(name, object) => Some((nowhere(name), object.as_ref().map(|it| self.random.hash_one(it)))),
            Event::Pod(key, object) => Some((key.clone(), object.as_ref().map(|it| self.random.hash_one(it)))),
            Event::Policy(key, object) => Some((key.clone(), object.as_ref().map(|it| self.random.hash_one(it)))),
            Event::Resolver(key, object) => Some((key.clone(), object.as_ref().map(|it| self.random.hash_one(it)))),
            Event::Around(Fact::Service(key, object)) => {
                Some((key.clone(), object.as_ref().map(|it| self.random.hash_one(it))))
            }
            Event::Around(Fact::Caller(name, object)) => {
                Some((nowhere(name), object.as_ref().map(|it| self.random.hash_one(it))))
            }
            Event::Around(Fact::Workload(..)) | Event::Attachment(..) | Event::Neighbour(..) | Event::Ranges(_) => None,
        }
    }
}
