//! What the node sees on itself, told when it changes: addresses on its interfaces, and the ranges that they are from.
//!
//! `CNI result cache, interfaces -> Sight -> events`, by [`follow`]. A file that libcni has written and an interface that has
//! come or gone are looked at at once. Whether the source of the cluster can be asked is no matter here.

use super::{
    source::{Told, directory::watch},
    status::Status,
};
use crate::{
    node::{
        interfaces::Changes,
        sight::{Eyes, Sight},
    },
    policy::cluster::Event,
};
use ipnet::IpNet;
use notify::RecommendedWatcher;
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

/// Interfaces and routes of a busy node change all the time: what they tell is taken together for so long.
const SETTLE: Duration = Duration::from_millis(50);
/// How soon a directory that can not be watched is tried again, and the node that can not be looked at.
const RETRY: Duration = Duration::from_secs(1);
/// Nothing should be missed; whatever was is seen now.
const ANYWAY: Duration = Duration::from_secs(10);

/// Why to look.
#[derive(Debug)]
pub enum Wake {
    /// A file in the CNI result cache, an interface, an address or a route has changed.
    Changed,
    /// The Node says which ranges its pods have addresses from.
    Ranges(Vec<IpNet>),
}

struct Lookout {
    eyes: Eyes,
    ranges: Vec<IpNet>,
    known: Sight,
    /// Which directory is watched, by its inode.
    watching: Option<(u64, RecommendedWatcher)>,
    wake: Sender<Wake>,
    readings: Sender<Told>,
    status: Arc<Status>,
}

/// Tells what is seen now, and goes on on threads of its own until nobody listens any more. `alive` is dropped when it ends.
///
/// # Errors
/// A thread that can not be started.
pub fn follow(
    cache: Option<PathBuf>,
    readings: Sender<Told>,
    status: Arc<Status>,
    alive: impl Send + 'static,
) -> io::Result<Sender<Wake>> {
    let (wake, wakes) = channel();
    // Listened to first, looked at then: nothing that changes in between is missed.
    let changes = Changes::listen()?;
    let teller = wake.clone();
    let listen = move || {
        while changes.wait().is_ok() && teller.send(Wake::Changed).is_ok() {
            thread::sleep(SETTLE);
        }
    };
    thread::Builder::new().name("interfaces".to_owned()).spawn(listen)?;
    let mut lookout = Lookout {
        eyes: Eyes::new(cache),
        ranges: Vec::new(),
        known: Sight::default(),
        watching: None,
        wake: wake.clone(),
        readings,
        status,
    };
    lookout.look();
    let run = move || {
        let _alive = alive;
        lookout.run(&wakes);
    };
    thread::Builder::new().name("lookout".to_owned()).spawn(run)?;
    Ok(wake)
}

impl Lookout {
    fn run(mut self, wakes: &Receiver<Wake>) {
        loop {
            let patience = if self.is_blind() { RETRY } else { ANYWAY };
            let first = wakes.recv_timeout(patience).ok();
            for wake in first.into_iter().chain(wakes.try_iter()) {
                if let Wake::Ranges(ranges) = wake {
                    self.ranges = ranges;
                }
            }
            if !self.look() {
                return;
            }
        }
    }

    fn is_blind(&self) -> bool {
        self.eyes.directory().is_some() && self.watching.is_none()
    }

    /// Says whether anybody listens.
    fn look(&mut self) -> bool {
        self.watch();
        let sight = match self.eyes.look(&self.ranges) {
            Ok(sight) => sight,
            Err(error) => {
                let why = format!(
                    "the interfaces of this node can not be listed ({error}): pods are known when the API says them"
                );
                Sight { remarks: vec![why], ..self.known.clone() }
            }
        };
        for remark in sight.remarks.iter().filter(|remark| !self.known.remarks.contains(remark)) {
            tracing::warn!("{remark}");
        }
        self.status.sees(&sight);
        let events = events(&self.known, &sight);
        self.known = sight;
        events.is_empty() || self.readings.send(Told::Node(events)).is_ok()
    }

    /// Watches the directory of the cache, also when it is another one of the same name.
    fn watch(&mut self) {
        let Some(directory) = self.eyes.directory() else { return };
        let inode = fs::metadata(directory).ok().map(|directory| directory.ino());
        if self.watching.as_ref().map(|(inode, _)| *inode) == inode {
            return;
        }
        let teller = self.wake.clone();
        let watcher = watch(directory, move |_| drop(teller.send(Wake::Changed)));
        // Why it can not be is said by whoever reads it.
        self.watching = inode.zip(watcher.ok());
    }
}

/// From what was seen before to what is seen now.
fn events(known: &Sight, seen: &Sight) -> Vec<Event> {
    let addresses: BTreeSet<_> = known.attachments.keys().chain(seen.attachments.keys()).collect();
    let mut events: Vec<Event> = addresses
        .into_iter()
        .filter(|address| known.attachments.get(address) != seen.attachments.get(address))
        .map(|address| Event::Attachment(*address, seen.attachments.get(address).cloned()))
        .collect();
    if known.ranges != seen.ranges {
        events.push(Event::Ranges(seen.ranges.clone()));
    }
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cluster::{Attachment, Cluster};

    #[test]
    fn what_differs_leads_from_one_sight_to_the_next() {
        let attachment = |ifindex| Attachment { ifindex, pod: None };
        let sight = |addresses: &[(&str, u32)], range: &str| Sight {
            attachments: addresses.iter().map(|(a, i)| (a.parse().unwrap(), attachment(*i))).collect(),
            ranges: [range.parse().unwrap()].into(),
            ..Sight::default()
        };
        let one = sight(&[("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)], "10.0.0.0/24");
        let other = sight(&[("10.0.0.1", 1), ("10.0.0.2", 9), ("10.0.0.4", 4)], "10.0.1.0/24");
        let mut cluster = Cluster::default();
        for (from, to, count) in [(&Sight::default(), &one, 4), (&one, &other, 4), (&other, &other, 0)] {
            let events = events(from, to);
            assert_eq!(events.len(), count);
            for event in events {
                assert!(cluster.apply(event).is_some());
            }
            assert_eq!((&cluster.attachments, &cluster.ranges), (&to.attachments, &to.ranges));
        }
    }
}
