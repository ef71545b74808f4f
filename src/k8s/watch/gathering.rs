//! Kinds that come in one by one, and the one cluster that they are.
//!
//! `Told -> Gathering -> Reading`. It is fed and never fetches. Nothing is said before all four kinds are there by which packets
//! are judged: half a cluster would be enforced as if the other half did not exist. The other kinds come when they come, and
//! while they can not be asked everything goes on without them. What changes nothing is not passed on.

use super::{follower::Told, known::Known, resource::Kind, shared::Shared};
use crate::{
    k8s::reading::Reading,
    policy::cluster::{Cluster, Event},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// What is known.
#[derive(Debug)]
pub(super) struct Gathering {
    /// Until it is handed over.
    cluster: Option<Cluster>,
    known: BTreeMap<Kind, Known>,
    shared: Shared,
    /// What has not been passed on yet.
    events: Vec<Event>,
    /// Of the kinds that are waited for those that are there, and when each was current.
    current: BTreeMap<Kind, Instant>,
    /// Of the same those that can not be asked, and why.
    lost: BTreeMap<Kind, String>,
    /// What was said last of others.
    without: BTreeMap<Kind, String>,
    /// What was said last about those.
    said: Option<String>,
}

impl Default for Gathering {
    fn default() -> Self {
        Self {
            cluster: Some(Cluster::default()),
            known: BTreeMap::new(),
            shared: Shared::default(),
            events: Vec::new(),
            current: BTreeMap::new(),
            lost: BTreeMap::new(),
            without: BTreeMap::new(),
            said: None,
        }
    }
}

impl Gathering {
    /// Takes in what was told of a kind.
    pub(super) fn hear(&mut self, kind: Kind, told: Told, now: Instant) {
        match told {
            Told::Listed(objects) => {
                for event in self.known.entry(kind).or_default().listed(kind, objects) {
                    self.changed(event);
                }
                if Kind::JUDGING.contains(&kind) {
                    self.current.insert(kind, now);
                }
                self.there(kind);
            }
            Told::Happened(event) => {
                if let Some(event) = self.known.entry(kind).or_default().happened(event) {
                    self.changed(event);
                }
                self.still(kind, now);
            }
            Told::Current => self.still(kind, now),
            Told::Lost(error) => self.lose(kind, error.to_string()),
        }
    }

    fn changed(&mut self, event: Event) {
        let event = self.shared.event(event);
        match &mut self.cluster {
            Some(cluster) => drop(cluster.apply(event)),
            None => self.events.push(event),
        }
    }

    fn still(&mut self, kind: Kind, now: Instant) {
        // Only a list makes a kind known.
        self.current.entry(kind).and_modify(|at| *at = now);
        self.there(kind);
    }

    fn there(&mut self, kind: Kind) {
        self.lost.remove(&kind);
        self.without.remove(&kind);
    }

    fn lose(&mut self, kind: Kind, why: String) {
        if Kind::JUDGING.contains(&kind) {
            self.lost.insert(kind, why);
        } else if self.without.get(&kind) != Some(&why) {
            tracing::warn!("{} are as they were heard of last, if ever: {why}", kind.resource());
            self.without.insert(kind, why);
        }
    }

    /// What there is to say now.
    pub(super) fn readings(&mut self) -> Vec<Reading> {
        let mut readings = Vec::new();
        if Kind::JUDGING.iter().all(|kind| self.current.contains_key(kind))
            && let Some(mut cluster) = self.cluster.take()
        {
            cluster.pack();
            readings.push(Reading::Whole(Box::new(cluster)));
        }
        if !self.events.is_empty() {
            readings.push(Reading::Events(std::mem::take(&mut self.events)));
        }
        // All four often fail for one reason.
        let reasons: BTreeSet<&str> = self.lost.values().map(String::as_str).collect();
        let reason = reasons.first().map(|first| match reasons.len() {
            1 => (*first).to_owned(),
            n => format!("{first} (and {} more)", n - 1),
        });
        match (&reason, self.current.values().min()) {
            (Some(reason), _) if self.said.as_ref() != Some(reason) => readings.push(Reading::Away(reason.clone())),
            // As current as the kind that was heard of longest ago.
            (None, Some(oldest)) if self.cluster.is_none() => readings.push(Reading::Current(*oldest)),
            _ => {}
        }
        self.said = reason;
        readings
    }

    /// What is known so far, if it has not been handed over.
    pub(super) fn cluster(self) -> Cluster {
        self.cluster.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::error::Error, *};
    use crate::policy::model::{Key, Namespace, Pod};
    use std::time::Duration;

    fn pod(name: &str) -> Event {
        Event::Pod(Key::new("shop", name), Some(Pod::default()))
    }

    fn whole(now: Instant) -> Gathering {
        let mut gathering = Gathering::default();
        for kind in Kind::JUDGING {
            let events = if kind == Kind::Pod { vec![pod("a"), pod("b")] } else { vec![] };
            gathering.hear(kind, Told::Listed(events), now);
        }
        gathering
    }

    #[test]
    fn nothing_is_said_before_all_four_kinds_are_there() {
        let now = Instant::now();
        let mut gathering = Gathering::default();
        for kind in [Kind::Namespace, Kind::Node, Kind::Pod] {
            gathering.hear(kind, Told::Listed(vec![]), now);
            gathering.hear(kind, Told::Current, now);
            assert_eq!(gathering.readings(), []);
        }
        gathering.hear(Kind::Pod, Told::Happened(pod("a")), now);
        gathering.hear(Kind::NetworkPolicy, Told::Current, now);
        assert_eq!(gathering.readings(), []);
        gathering.hear(Kind::NetworkPolicy, Told::Listed(vec![]), now);
        let mut cluster = Cluster::default();
        cluster.apply(pod("a"));
        assert_eq!(gathering.readings(), [Reading::Whole(cluster.into()), Reading::Current(now)]);
    }

    #[test]
    fn what_a_new_list_lacks_is_gone_and_what_changes_nothing_is_not_passed_on() {
        let now = Instant::now();
        let mut gathering = whole(now);
        gathering.hear(Kind::Namespace, Told::Happened(Event::Namespace("x".into(), Some(Namespace::default()))), now);
        gathering.readings();
        gathering.hear(Kind::Pod, Told::Happened(pod("a")), now);
        assert_eq!(gathering.readings(), [Reading::Current(now)]);
        gathering.hear(Kind::Pod, Told::Listed(vec![pod("b"), pod("c")]), now);
        let gone = Event::Pod(Key::new("shop", "a"), None);
        assert_eq!(gathering.readings(), [Reading::Events(vec![gone, pod("c")]), Reading::Current(now)]);
    }

    #[test]
    fn a_loss_is_said_once_and_the_state_is_as_old_as_its_oldest_part() {
        let begun = Instant::now();
        let mut gathering = whole(begun);
        gathering.readings();
        let lost = || Told::Lost(Error::Unreachable("refused".to_owned()));
        gathering.hear(Kind::Pod, lost(), begun);
        let said = gathering.readings();
        assert!(matches!(&said[..], [Reading::Away(why)] if why.contains("refused")), "{said:?}");
        gathering.hear(Kind::Node, lost(), begun);
        assert_eq!(gathering.readings(), []);
        let later = begun + Duration::from_secs(5);
        for kind in [Kind::Namespace, Kind::Node, Kind::NetworkPolicy] {
            gathering.hear(kind, Told::Current, later);
            assert_eq!(gathering.readings(), [], "pods are still lost");
        }
        gathering.hear(Kind::Pod, Told::Current, later + Duration::from_secs(1));
        assert_eq!(gathering.readings(), [Reading::Current(later)]);
    }
}
