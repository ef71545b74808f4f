//! The flows that were reported last, a bounded number of them, for readers that follow.
//!
//! A reader says which number it has and gets what came after it, or waits for that. Whoever is too slow is told how many
//! it missed. Accepted connections are reported only while somebody has asked for them lately.

use crate::report::flows::{Flow, Flows};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// How many flows are kept: some seconds of the most that the kernel reports.
pub const KEPT: usize = 4096;

/// The flows that were reported last.
#[derive(Debug)]
pub struct Recent {
    ring: Mutex<Ring>,
    /// Tells this agent's numbers from those of the one before it.
    agent: u64,
    /// The number of the last flow.
    last: watch::Sender<u64>,
    /// Until when accepted connections are asked for.
    accepted: Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct Ring {
    flows: VecDeque<Flow>,
    last: u64,
}

impl Default for Recent {
    fn default() -> Self {
        let begun = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        Self { ring: Mutex::default(), agent: begun, last: watch::Sender::new(0), accepted: Mutex::default() }
    }
}

impl Recent {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        // A thread that panicked left a whole ring behind: pushing is the only change.
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps flows, and numbers them.
    pub fn keep(&self, flows: impl IntoIterator<Item = Flow>) {
        let mut ring = self.ring();
        for mut flow in flows {
            ring.last += 1;
            flow.number = ring.last;
            if ring.flows.len() == KEPT {
                ring.flows.pop_front();
            }
            ring.flows.push_back(flow);
        }
        let last = ring.last;
        drop(ring);
        self.last.send_if_modified(|told| std::mem::replace(told, last) != last);
    }

    /// What comes after the flow that a reader had last; all that is kept if he has none, or another agent's.
    pub fn after(&self, had: Option<Had>) -> Flows {
        let had = self.number(had);
        let number = had.unwrap_or(0);
        let ring = self.ring();
        let first = ring.flows.front().map_or(ring.last + 1, |flow| flow.number);
        // Both count up by one, so the place in the ring is a difference.
        let skip = usize::try_from((number + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        let lost = had.map_or(0, |number| first.saturating_sub(number + 1));
        Flows { agent: self.agent, lost, flows: ring.flows.iter().skip(skip).cloned().collect() }
    }

    /// Done when there is something after the flow that a reader had last.
    pub async fn news(&self, had: Option<Had>) {
        let number = self.number(had).unwrap_or(0);
        // An error would mean that nobody keeps flows any more, and then nobody waits.
        let _ = self.last.subscribe().wait_for(|last| *last > number).await;
    }

    /// How many flows there were so far.
    pub fn told(&self) -> u64 {
        *self.last.borrow()
    }

    fn number(&self, had: Option<Had>) -> Option<u64> {
        had.filter(|had| had.agent == self.agent).map(|had| had.number)
    }

    /// Somebody wants to see accepted connections, too, for this long.
    pub fn want_accepted(&self, lasting: Duration) {
        let until = Instant::now() + lasting;
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        *accepted = (*accepted).max(Some(until));
    }

    /// Whether somebody wants to see accepted connections now.
    pub fn accepted_wanted(&self) -> bool {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| Instant::now() < until)
    }
}

/// The flow that a reader had last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Had {
    /// Whose flow it was ([`Flows::agent`]).
    pub agent: u64,
    /// Its number.
    pub number: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::flows::End;

    fn flow() -> Flow {
        let end = || End { address: [10, 0, 0, 1].into(), port: 1, owner: None };
        Flow {
            number: 0,
            time_ms: 0,
            verdict: "deny".to_owned(),
            direction: None,
            source: end(),
            destination: end(),
            protocol: "TCP".to_owned(),
            reply: false,
            reason: String::new(),
            isolated_by: vec![],
            allowed_by: vec![],
        }
    }

    fn keep(recent: &Recent, flows: usize) {
        (0..flows).for_each(|_| recent.keep([flow()]));
    }

    fn numbers(flows: &Flows) -> (u64, Vec<u64>) {
        (flows.lost, flows.flows.iter().map(|flow| flow.number).collect())
    }

    #[test]
    fn a_reader_that_catches_up_gets_everything_once() {
        let recent = Recent::default();
        assert_eq!(numbers(&recent.after(None)), (0, vec![]));
        keep(&recent, 3);
        let had = |number| Some(Had { agent: recent.agent, number });
        assert_eq!(numbers(&recent.after(None)), (0, vec![1, 2, 3]));
        assert_eq!(numbers(&recent.after(had(2))), (0, vec![3]));
        assert_eq!(numbers(&recent.after(had(3))), (0, vec![]));
        assert_eq!(numbers(&recent.after(had(u64::MAX - 1))), (0, vec![]));
    }

    #[test]
    fn a_reader_that_is_too_slow_is_told_how_many_it_missed() {
        let recent = Recent::default();
        keep(&recent, KEPT + 5);
        for (number, lost) in [(2, 3), (0, 5)] {
            let answer = recent.after(Some(Had { agent: recent.agent, number }));
            assert_eq!((answer.lost, answer.flows.len(), answer.flows[0].number), (lost, KEPT, 6));
        }
        assert_eq!(recent.after(None).lost, 0, "who has just come missed nothing");
    }

    #[test]
    fn numbers_of_another_agent_mean_nothing() {
        let recent = Recent::default();
        keep(&recent, 2);
        let answer = recent.after(Some(Had { agent: recent.agent + 1, number: 700 }));
        assert_eq!(numbers(&answer), (0, vec![1, 2]));
    }

    #[test]
    fn a_reader_that_waits_is_woken_by_the_next_flow() {
        let recent = std::sync::Arc::new(Recent::default());
        keep(&recent, 1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let had = Some(Had { agent: recent.agent, number: 1 });
            assert!(tokio::time::timeout(Duration::from_millis(20), recent.news(had)).await.is_err());
            let other = recent.clone();
            std::thread::spawn(move || keep(&other, 1));
            tokio::time::timeout(Duration::from_secs(10), recent.news(had)).await.unwrap();
        });
    }

    #[test]
    fn accepted_connections_are_wanted_for_as_long_as_somebody_said() {
        let recent = Recent::default();
        assert!(!recent.accepted_wanted());
        recent.want_accepted(Duration::from_secs(60));
        recent.want_accepted(Duration::ZERO);
        assert!(recent.accepted_wanted(), "one who leaves does not end what another one wants");
    }
}
