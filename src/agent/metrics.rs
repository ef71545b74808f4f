//! What Prometheus sees of an agent.
//!
//! A registry is made at each scrape from what is known then. Series by policy are as many as [`super::accounts`] has: what
//! does not fit there is summed under the policy `other`.

use super::{
    accounts::{Account, Accounts, Decided},
    status::Report,
};
use crate::{
    datapath::{Count, Reason},
    telemetry,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

/// Upper bounds of the histogram of changes, in seconds: a grace period takes some milliseconds, a whole large cluster
/// some hundred.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// What the enforcing thread measures.
#[derive(Debug)]
pub struct Measured {
    counted: Mutex<Counted>,
    changes: Histogram,
}

/// Packets and bytes as they were counted last, and what comes with them.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    sums: BTreeMap<Account, Count>,
    unreported: u64,
    generation: u64,
}

impl Default for Measured {
    fn default() -> Self {
        Self { counted: Mutex::default(), changes: Histogram::new(BUCKETS) }
    }
}

impl Measured {
    /// What was counted, and the generation that is in force.
    pub fn count(&self, accounts: &Accounts, generation: u64) {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        counted.sums.clone_from(accounts.sums());
        (counted.unreported, counted.generation) = (accounts.unreported(), generation);
    }

    /// A change got into the kernel: how long from what was read to what is enforced.
    pub fn change(&self, took: Duration) {
        self.changes.observe(took.as_secs_f64());
    }

    fn counted(&self) -> Counted {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ByReason {
    reason: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, EncodeLabelSet)]
struct ByPolicy {
    policy: String,
    direction: &'static str,
    verdict: &'static str,
}

/// All metrics of an agent; `reported` is how many flows it has told of.
pub fn registry(report: &Report, measured: &Measured, reported: u64) -> Registry {
    let Counted { sums, unreported, generation } = measured.counted();
    let mut registry = telemetry::registry();
    let gauge = |value: u64| {
        let gauge = Gauge::<i64>::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        gauge
    };
    registry.register("ready", "1 if the agent enforces what it read last", gauge(report.ready.into()));
    registry.register("states_received", "States of the cluster that were read", gauge(report.received));
    registry.register("states_enforced", "The last of them that is in the kernel", gauge(report.enforced));
    if let Some(age) = report.age_ms {
        let seconds = Gauge::<f64, AtomicU64>::default();
        seconds.set(age as f64 / 1000.0);
        registry.register("state_age_seconds", "Since the source of the cluster was heard of last", seconds);
    }
    registry.register("pods", "Pods that are known", gauge(report.pods as u64));
    registry.register("policies", "NetworkPolicies that are known", gauge(report.policies as u64));

    registry.register("generation", "Generation of the state that packets see in the kernel", gauge(generation));
    let help = "From a change that was read to the kernel that has it, the wait for packets under way included";
    registry.register("change_duration_seconds", help, measured.changes.clone());
    let counter = |value: u64| {
        let counter = Counter::<u64>::default();
        counter.inc_by(value);
        counter
    };
    registry.register("flows_reported", "Decisions of the kernel that were told as flows", counter(reported));
    let help = "Decisions that were counted but not told: too many in a second for one policy, or for the agent";
    registry.register("flows_unreported", help, counter(unreported));

    let help = "Changes that the kernel did not take: the state before them is in force";
    registry.register("changes_refused", help, counter(report.refused_changes));
    let help = "Addresses that this node sees on its interfaces, by the CNI result cache or by the kernel";
    registry.register("attachments", help, gauge(report.attachments as u64));
    let help = "Files of the CNI result cache that can not be used";
    registry.register("cni_results_unused", help, gauge(report.unused_results as u64));
    let help =
        "Addresses and lines of other nodes that were not taken: of no pod, unreadable, outside of the node's ranges";
    registry.register("neighbour_mistakes", help, counter(report.neighbour_mistakes));

    let reasons = [Family::<ByReason, Counter>::default(), Family::default()];
    let policies = [Family::<ByPolicy, Counter>::default(), Family::default()];
    for (account, count) in &sums {
        let values = [count.packets, count.bytes];
        match account {
            Account::Reason(id) => {
                let Some((reason, verdict)) = reason(*id) else { continue };
                for (family, value) in reasons.iter().zip(values) {
                    family.get_or_create(&ByReason { reason, verdict }).inc_by(value);
                }
            }
            Account::Policy(policy, direction, decided) => {
                let policy = policy.as_ref().map_or_else(|| "other".to_owned(), ToString::to_string);
                let verdict = match decided {
                    Decided::Allowed => "allow",
                    Decided::Denied => "deny",
                    Decided::Audited => "audit",
                };
                let series = ByPolicy { policy, direction: direction.as_str(), verdict };
                for (family, value) in policies.iter().zip(values) {
                    family.get_or_create(&series).inc_by(value);
                }
            }
        }
    }
    let [packets, bytes] = reasons;
    registry.register("packets", "Packets that no policy was asked about, by reason", packets);
    registry.register("bytes", "Their bytes", bytes);
    let [packets, bytes] = policies;
    registry.register("policy_packets", "Packets that a policy admitted, or isolated from and did not admit", packets);
    registry.register("policy_bytes", "Their bytes", bytes);
    registry
}

/// What a reason of the kernel is called, and what became of the packet. None for policies: they have series of their own.
fn reason(id: u32) -> Option<(&'static str, &'static str)> {
    let reason = Reason::ALL.into_iter().find(|reason| reason.id() == id)?;
    let verdict = match reason {
        Reason::Policy => return None,
        Reason::Malformed | Reason::Fragment | Reason::Closed | Reason::Redirect => "deny",
        Reason::Spoofed | Reason::Astray | Reason::Tagged => "deny",
        Reason::Node | Reason::Neighbour | Reason::Open | Reason::Itself => "allow",
    };
    Some((reason.as_str(), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        model::{Direction, Key},
        table::{Label, RuleRef},
    };

    fn text(measured: &Measured) -> String {
        let report = super::super::status::Status::default().report();
        telemetry::exposition(&registry(&report, measured, 12)).unwrap()
    }

    #[test]
    fn each_policy_that_isolates_or_admits_has_its_series_and_all_that_are_too_many_one() {
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        let rule = RuleRef { policy: a.clone(), direction: Direction::Ingress, rule: 0 };
        let labels = [Label::Policies(Direction::Ingress, vec![a, b]), Label::Rules(vec![rule])];
        let count = |packets| Count { packets, bytes: packets * 60, unreported: 1 };
        let mut accounts = Accounts::default();
        let counters = BTreeMap::from([(3, count(7)), (16, count(3)), (17, count(5))]);
        let label = |id: u32| labels.get((id as usize).checked_sub(16)?);
        accounts.add(&counters, label);
        let measured = Measured::default();
        measured.count(&accounts, 9);
        measured.change(Duration::from_millis(2));
        let text = text(&measured);
        for line in [
            r#"ringfence_policy_packets_total{policy="shop/a",direction="ingress",verdict="deny"} 3"#,
            r#"ringfence_policy_packets_total{policy="shop/b",direction="ingress",verdict="deny"} 3"#,
            r#"ringfence_policy_packets_total{policy="shop/a",direction="ingress",verdict="allow"} 5"#,
            r#"ringfence_policy_bytes_total{policy="shop/a",direction="ingress",verdict="allow"} 300"#,
            r#"ringfence_packets_total{reason="closed",verdict="deny"} 7"#,
            "ringfence_flows_reported_total 12",
            "ringfence_flows_unreported_total 3",
            "ringfence_generation 9",
            r#"ringfence_change_duration_seconds_bucket{le="0.0025"} 1"#,
            "ringfence_ready 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        let mut measured = Measured::default();
        let other = Account::Policy(None, Direction::Egress, Decided::Denied);
        measured.counted.get_mut().unwrap().sums.insert(other, count(10));
        let other = r#"ringfence_policy_packets_total{policy="other",direction="egress",verdict="deny"} 10"#;
        assert!(self::text(&measured).contains(other));
    }

    /// The dashboard asks for nothing that nobody measures. What the webhook counts is tested there.
    #[test]
    fn the_dashboard_asks_for_metrics_that_there_are() {
        let mut measured = Measured::default();
        let status = super::super::status::Status::default();
        status.current(std::time::Instant::now());
        let sums = &mut measured.counted.get_mut().unwrap().sums;
        sums.insert(Account::Policy(None, Direction::Egress, Decided::Denied), Count::default());
        sums.insert(Account::Reason(Reason::Closed.id()), Count::default());
        let here = telemetry::exposition(&registry(&status.report(), &measured, 0)).unwrap();
        let dashboard = include_str!("../../charts/ringfence/files/dashboard.json");
        let names = dashboard.split("ringfence_").skip(1).map(|rest| {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_').unwrap_or(rest.len());
            format!("ringfence_{}", &rest[..end])
        });
        let mine: Vec<String> = names.filter(|name| !name.starts_with("ringfence_admission_")).collect();
        assert!(mine.len() > 10, "{mine:?}");
        for name in mine {
            assert!(here.lines().any(|line| line.split(['{', ' ']).next() == Some(&name)), "{name} is not in\n{here}");
        }
    }
}
