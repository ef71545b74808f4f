//! What an agent says of itself: what it has read, what the kernel has, and why it is not ready.
//!
//! Fed by the source and by the enforcing thread; read by `/readyz` and `/status`. A generation here counts states of the
//! cluster as they were read.

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
    received: u64,
    enforced: u64,
    waiting_since: Option<Instant>,
    read_at: Option<Instant>,
    source: Option<String>,
    kernel: Option<String>,
    node: Option<String>,
    pods: usize,
    policies: usize,
}

/// `/status`, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// States of the cluster that were read.
    pub received: u64,
    /// The last of them that is in the kernel.
    pub enforced: u64,
    /// What becomes of packets that no rule admits.
    pub mode: &'static str,
    /// Whether `/readyz` answers 200.
    pub ready: bool,
    /// Why it does not.
    pub reasons: Vec<String>,
    /// Milliseconds since the source was read last without a mistake.
    pub age_ms: Option<u64>,
    /// Pods that are known.
    pub pods: usize,
    /// NetworkPolicies that are known.
    pub policies: usize,
}

impl Status {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        // A thread that panicked left whole values behind: every change below is a plain assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The source was read; returns the generation of what was read.
    pub fn read(&self, pods: usize, policies: usize) -> u64 {
        let mut facts = self.facts();
        facts.received += 1;
        facts.source = None;
        facts.read_at = Some(Instant::now());
        facts.waiting_since.get_or_insert_with(Instant::now);
        (facts.pods, facts.policies) = (pods, policies);
        facts.received
    }

    /// The source could not be read, and why; what was read before stays.
    pub fn source_failed(&self, why: String) {
        self.facts().source = Some(why);
    }

    /// What was read is in the kernel.
    pub fn enforced(&self, generation: u64) {
        let mut facts = self.facts();
        facts.enforced = generation;
        facts.kernel = None;
        if facts.received == generation {
            facts.waiting_since = None;
        }
    }

    /// The kernel did not take it, and why; what it had before stays.
    pub fn kernel_failed(&self, why: String) {
        self.facts().kernel = Some(why);
    }

    /// What the node itself lacks for enforcement, or nothing.
    pub fn node(&self, lacks: Option<String>) {
        self.facts().node = lacks;
    }

    /// Everything at once.
    pub fn report(&self) -> Report {
        let facts = self.facts();
        let mut reasons: Vec<String> =
            [&facts.source, &facts.kernel, &facts.node].into_iter().flatten().cloned().collect();
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
            mode: "enforce",
            ready: reasons.is_empty(),
            reasons,
            // Below 2^64 ms for 584 million years.
            age_ms: facts.read_at.map(|at| at.elapsed().as_millis() as u64),
            pods: facts.pods,
            policies: facts.policies,
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
        let first = status.read(1, 1);
        assert!(!status.report().ready);
        status.enforced(first);
        assert!(status.report().ready);
    }

    #[test]
    fn a_mistake_makes_it_unready_with_the_reason_and_the_next_success_ready_again() {
        let status = Status::default();
        status.enforced(status.read(1, 1));
        status.source_failed("web.yaml:3:1: no".to_owned());
        assert_eq!(status.report().reasons, ["web.yaml:3:1: no"]);
        status.enforced(status.read(1, 1));
        assert!(status.report().ready);
        status.kernel_failed("full".to_owned());
        assert!(!status.report().ready);
        status.enforced(status.read(1, 1));
        assert!(status.report().ready);
        status.node(Some("no br_netfilter".to_owned()));
        assert_eq!(status.report().reasons, ["no br_netfilter"]);
    }

    #[test]
    fn an_older_state_in_the_kernel_does_not_hide_that_a_newer_one_waits() {
        let status = Status::default();
        let first = status.read(1, 1);
        status.read(1, 1);
        status.enforced(first);
        assert!(status.facts().waiting_since.is_some());
    }
}
