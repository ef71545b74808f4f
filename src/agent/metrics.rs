//! What Prometheus sees of an agent.
//!
//! A registry is made at each scrape from what is known then. Series by policy are bounded: what does not fit is summed
//! under the policy `other`.

use super::{accounts::Account, status::Report};
use crate::{
    datapath::{Count, Reason},
    policy::table::Label,
    telemetry,
};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError, atomic::AtomicU64},
};

/// How many policies have series of their own.
pub const POLICIES: usize = 2_000;

/// Packets and bytes as they were counted last.
#[derive(Debug, Default)]
pub struct Counted(Mutex<BTreeMap<Account, Count>>);

impl Counted {
    /// What the enforcing thread counted.
    pub fn set(&self, sums: &BTreeMap<Account, Count>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone_from(sums);
    }

    /// A copy of it.
    pub fn get(&self) -> BTreeMap<Account, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// All metrics of an agent.
pub fn registry(report: &Report, sums: &BTreeMap<Account, Count>) -> Registry {
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

    let reasons = [Family::<ByReason, Counter>::default(), Family::default()];
    let policies = [Family::<ByPolicy, Counter>::default(), Family::default()];
    let named = named(sums);
    for (account, count) in sums {
        let values = [count.packets, count.bytes];
        match account {
            Account::Reason(id) => {
                let Some((reason, verdict)) = reason(*id) else { continue };
                for (family, value) in reasons.iter().zip(values) {
                    family.get_or_create(&ByReason { reason, verdict }).inc_by(value);
                }
            }
            Account::Label(label) => {
                for mut series in series(label) {
                    if !named.contains(&series.policy) {
                        series.policy = "other".to_owned();
                    }
                    for (family, value) in policies.iter().zip(values) {
                        family.get_or_create(&series).inc_by(value);
                    }
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

/// The policies that have series of their own: the first by name.
fn named(sums: &BTreeMap<Account, Count>) -> BTreeSet<String> {
    let labels = sums.keys().filter_map(|account| match account {
        Account::Label(label) => Some(label),
        Account::Reason(_) => None,
    });
    labels.flat_map(series).map(|series| series.policy).collect::<BTreeSet<_>>().into_iter().take(POLICIES).collect()
}

/// A packet that several policies isolate from, or admit, counts for each of them.
fn series(label: &Label) -> Vec<ByPolicy> {
    match label {
        Label::Policies(direction, policies) => policies
            .iter()
            .map(|policy| ByPolicy { policy: policy.to_string(), direction: direction.as_str(), verdict: "deny" })
            .collect(),
        Label::Audited(direction, policies) => policies
            .iter()
            .map(|policy| ByPolicy { policy: policy.to_string(), direction: direction.as_str(), verdict: "audit" })
            .collect(),
        Label::Rules(rules) => rules
            .iter()
            .map(|rule| (rule.policy.to_string(), rule.direction.as_str()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|(policy, direction)| ByPolicy { policy, direction, verdict: "allow" })
            .collect(),
    }
}

/// What a reason of the kernel is called, and what became of the packet. None for policies: they have series of their own.
fn reason(id: u32) -> Option<(&'static str, &'static str)> {
    match Reason::ALL.into_iter().find(|reason| reason.id() == id)? {
        Reason::Policy => None,
        Reason::Malformed => Some(("malformed", "deny")),
        Reason::Fragment => Some(("fragment", "deny")),
        Reason::Closed => Some(("closed", "deny")),
        Reason::Redirect => Some(("redirect", "deny")),
        Reason::Node => Some(("node", "allow")),
        Reason::Neighbour => Some(("neighbour", "allow")),
        Reason::Open => Some(("open", "allow")),
        Reason::Itself => Some(("self", "allow")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{
        model::{Direction, Key},
        table::RuleRef,
    };

    fn text(sums: &BTreeMap<Account, Count>) -> String {
        let report = super::super::status::Status::default().report();
        telemetry::exposition(&registry(&report, sums)).unwrap()
    }

    #[test]
    fn each_policy_that_isolates_or_admits_has_its_series() {
        let (a, b) = (Key::new("shop", "a"), Key::new("shop", "b"));
        let denied = Label::Policies(Direction::Ingress, vec![a.clone(), b]);
        let rule = |rule| RuleRef { policy: a.clone(), direction: Direction::Ingress, rule };
        let admitted = Label::Rules(vec![rule(0), rule(1)]);
        let count = |packets| Count { packets, bytes: packets * 60 };
        let text = text(&BTreeMap::from([
            (Account::Label(denied), count(3)),
            (Account::Label(admitted), count(5)),
            (Account::Reason(3), count(7)),
        ]));
        for line in [
            r#"ringfence_policy_packets_total{policy="shop/a",direction="ingress",verdict="deny"} 3"#,
            r#"ringfence_policy_packets_total{policy="shop/b",direction="ingress",verdict="deny"} 3"#,
            r#"ringfence_policy_packets_total{policy="shop/a",direction="ingress",verdict="allow"} 5"#,
            r#"ringfence_policy_bytes_total{policy="shop/a",direction="ingress",verdict="allow"} 300"#,
            r#"ringfence_packets_total{reason="closed",verdict="deny"} 7"#,
            "ringfence_ready 0",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn series_by_policy_are_bounded() {
        let label = |n: usize| Label::Policies(Direction::Egress, vec![Key::new("shop", format!("policy-{n:05}"))]);
        let sums = (0..POLICIES + 10).map(|n| (Account::Label(label(n)), Count { packets: 1, bytes: 1 })).collect();
        let text = text(&sums);
        assert_eq!(text.matches("ringfence_policy_packets_total{").count(), POLICIES + 1);
        assert!(
            text.contains(r#"ringfence_policy_packets_total{policy="other",direction="egress",verdict="deny"} 10"#)
        );
    }
}
