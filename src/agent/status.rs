//! What an agent says of itself: what it has read, what the kernel has, and why it is not ready.
//!
//! Fed by the source and by the enforcing thread; read by `/readyz` and `/status`. A generation here counts states of the
//! cluster as they were read.

use crate::{node::sight::Sight, policy::mode::Mode};
use serde::Serialize;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long a state may wait to get into the kernel before the agent is not ready.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What an agent says of itself, shared by its threads.
#[derive(Debug, Default)]
pub struct Status(Mutex<Facts>);

#[derive(Debug, Default)]
struct Facts {
    mode: Mode,
    received: u64,
    enforced: u64,
    waiting_since: Option<Instant>,
    current: Option<Instant>,
    refused: Option<String>,
    away: Option<String>,
    kernel: Option<String>,
    node: Vec<String>,
    failures: u64,
    pods: usize,
    policies: usize,
    attachments: usize,
    unused: usize,
    mistaken: u64,
    remarks: Vec<String>,
}

/// `/status`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// States of the cluster that were read.
    pub received: u64,
    /// The last of them that is in the kernel.
    pub enforced: u64,
    /// What becomes of packets that no rule admits, where neither policy nor namespace says it.
    pub mode: &'static str,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why it does not.
    pub reasons: Vec<String>,
    /// Milliseconds since the source was heard of last, by each of its parts: a list, an event, a bookmark; a directory
    /// that was read without a mistake.
    pub age_ms: Option<u64>,
    /// Why the source can not be asked now. What was read of it stays in force, and the agent stays ready.
    pub away: Option<String>,
    /// Pods that are known.
    pub pods: usize,
    /// NetworkPolicies that are known.
    pub policies: usize,
    /// Changes that the kernel did not take; each counts once, however often it is tried.
    pub refused_changes: u64,
    /// Addresses that this node sees on its interfaces.
    pub attachments: usize,
    /// Files of the CNI result cache that can not be used.
    pub unused_results: usize,
    /// What other nodes say of their pods and can not be taken; each counts once.
    pub neighbour_mistakes: u64,
    /// What it does without, and how it goes on.
    pub remarks: Vec<String>,
}

impl Status {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        // A thread that panicked left whole values behind: every change below is a plain assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode of policies that say nothing else.
    pub fn mode(&self, mode: Mode) {
        self.facts().mode = mode;
    }

    /// There is something new to enforce; returns its generation.
    pub fn read(&self) -> u64 {
        let mut facts = self.facts();
        facts.received += 1;
        facts.waiting_since.get_or_insert_with(Instant::now);
        facts.received
    }

    /// What the source holds was taken as a whole.
    pub fn taken(&self) {
        self.facts().refused = None;
    }

    /// What was read is as current as of then, and the source can be asked.
    pub fn current(&self, at: Instant) {
        let mut facts = self.facts();
        facts.current = Some(at);
        facts.away = None;
    }

    /// What the source holds can not be taken, and why; what was read before stays.
    pub fn refused(&self, why: String) {
        self.facts().refused = Some(why);
    }

    /// The source can not be asked, and why; what was read before stays and is good.
    pub fn away(&self, why: String) {
        self.facts().away = Some(why);
    }

    /// What was read is in the kernel: so many pods and NetworkPolicies.
    pub fn enforced(&self, generation: u64, pods: usize, policies: usize) {
        let mut facts = self.facts();
        facts.enforced = generation;
        facts.kernel = None;
        (facts.pods, facts.policies) = (pods, policies);
        if facts.received == generation {
            facts.waiting_since = None;
        }
    }

    /// The kernel did not take it, and why; what it had before stays.
    pub fn kernel_failed(&self, why: String) {
        let mut facts = self.facts();
        facts.failures += u64::from(facts.kernel.as_ref() != Some(&why));
        facts.kernel = Some(why);
    }

    /// What the node itself lacks for enforcement, each in one line.
    pub fn node(&self, lacks: Vec<String>) {
        self.facts().node = lacks;
    }

    /// What the kernel refuses, and what the node lacks.
    pub fn troubles(&self) -> Vec<String> {
        let facts = self.facts();
        facts.kernel.iter().chain(&facts.node).cloned().collect()
    }

    /// What this node sees on itself.
    pub fn sees(&self, sight: &Sight) {
        let mut facts = self.facts();
        (facts.attachments, facts.unused) = (sight.attachments.len(), sight.unused);
        facts.remarks.clone_from(&sight.remarks);
    }

    /// So much more of what other nodes say can not be taken.
    pub fn mistaken(&self, more: usize) {
        self.facts().mistaken += more as u64;
    }

    /// Everything at once.
    pub fn report(&self) -> Report {
        let facts = self.facts();
        let mut reasons: Vec<String> = facts.refused.iter().chain(&facts.kernel).chain(&facts.node).cloned().collect();
        if facts.enforced == 0 {
            // A source that can not be asked is a reason until there is something to stand by.
            reasons.extend(facts.away.clone());
        }
        if facts.enforced == 0 && reasons.is_empty() {
            reasons.push("the first state of the cluster is not in the kernel yet".to_owned());
        }
        if let Some(since) = facts.waiting_since.filter(|since| since.elapsed() > PATIENCE) {
            reasons
                .push(format!("a state has been waiting for {} s to get into the kernel", since.elapsed().as_secs()));
        }
        Report {
            received: facts.received,
            enforced: facts.enforced,
            mode: facts.mode.as_str(),
            ready: reasons.is_empty(),
            reasons,
            // Below 2^64 ms for 584 million years.
            age_ms: facts.current.map(|at| at.elapsed().as_millis() as u64),
            away: facts.away.clone(),
            pods: facts.pods,
            policies: facts.policies,
            refused_changes: facts.failures,
            attachments: facts.attachments,
            unused_results: facts.unused,
            neighbour_mistakes: facts.mistaken,
            remarks: facts.remarks.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_ready_once_the_first_state_is_in_the_kernel() {
        let status = Status::default();
        assert!(!status.report().ready);
        let first = status.read();
        assert!(!status.report().ready);
        status.enforced(first, 1, 1);
        assert!(status.report().ready);
    }

    #[test]
    fn a_mistake_makes_it_unready_with_the_reason_and_the_next_success_ready_again() {
        let status = Status::default();
        status.enforced(status.read(), 1, 1);
        status.refused("web.yaml:3:1: no".to_owned());
        assert_eq!(status.report().reasons, ["web.yaml:3:1: no"]);
        status.taken();
        assert!(status.report().ready);
        status.kernel_failed("full".to_owned());
        assert!(!status.report().ready);
        status.enforced(status.read(), 1, 1);
        assert!(status.report().ready);
        status.node(vec!["no br_netfilter".to_owned()]);
        assert_eq!(status.report().reasons, ["no br_netfilter"]);
    }

    #[test]
    fn a_source_that_is_away_is_a_reason_before_the_first_state_and_a_remark_after_it() {
        let status = Status::default();
        status.away("refused".to_owned());
        assert_eq!(status.report().reasons, ["refused"]);
        status.current(Instant::now());
        status.enforced(status.read(), 1, 1);
        status.away("refused".to_owned());
        let report = status.report();
        assert_eq!((report.ready, report.away.as_deref()), (true, Some("refused")));
        assert!(report.age_ms.is_some());
        status.current(Instant::now());
        assert_eq!(status.report().away, None);
    }

    #[test]
    fn an_older_state_in_the_kernel_does_not_hide_that_a_newer_one_waits() {
        let status = Status::default();
        let first = status.read();
        status.read();
        status.enforced(first, 1, 1);
        assert!(status.facts().waiting_since.is_some());
    }
}
