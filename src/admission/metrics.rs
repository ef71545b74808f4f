//! What the webhook counts.
//!
//! Labels come from closed sets of words, never from a review: a client that makes up kinds makes no time series.

use super::{
    decide::{Decision, Hook},
    kind::Kind,
    review::Review,
};
use axum::http::StatusCode;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use std::time::Duration;

/// Upper bounds of the latency histogram, in seconds; the last is the longest that a review may take.
const BUCKETS: [f64; 13] = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    hook: &'static str,
    kind: &'static str,
    operation: &'static str,
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: &'static str,
    severity: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HookLabels {
    hook: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabels {
    result: &'static str,
}

/// The counters, cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    reviews: Family<ReviewLabels, Counter>,
    findings: Family<RuleLabels, Counter>,
    refused: Family<StatusLabels, Counter>,
    seconds: Family<HookLabels, Histogram, fn() -> Histogram>,
    reloads: Family<ReloadLabels, Counter>,
    /// Reviews that are being read or decided now.
    pub in_flight: Gauge,
}

impl Metrics {
    /// Counters that the registry writes out.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            reviews: Family::default(),
            findings: Family::default(),
            refused: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            reloads: Family::default(),
            in_flight: Gauge::default(),
        };
        let registry = registry.sub_registry_with_prefix("admission");
        registry.register("reviews", "Reviews answered", metrics.reviews.clone());
        registry.register("findings", "Findings in reviewed objects, by rule", metrics.findings.clone());
        registry.register("refused_requests", "Requests without an answer, by HTTP status", metrics.refused.clone());
        registry.register("review_duration_seconds", "From the first byte to the answer", metrics.seconds.clone());
        registry.register("certificate_reloads", "Changed certificates, by result", metrics.reloads.clone());
        registry.register("in_flight", "Reviews that are being decided", metrics.in_flight.clone());
        metrics
    }

    /// A review was answered.
    pub fn answered(&self, hook: Hook, review: &Review<'_>, decision: &Decision) {
        let kind = Kind::of(review).map_or("other", Kind::as_str);
        let (operation, verdict) = (review.operation.as_str(), decision.verdict.as_str());
        self.reviews.get_or_create(&ReviewLabels { hook: hook.as_str(), kind, operation, verdict }).inc();
        for ((rule, severity), count) in &decision.rules {
            self.findings.get_or_create(&RuleLabels { rule, severity: severity.as_str() }).inc_by(*count);
        }
    }

    /// A request got an HTTP status instead of an answer.
    pub fn refused(&self, status: StatusCode) {
        self.refused.get_or_create(&StatusLabels { status: status.as_u16() }).inc();
    }

    /// How long an answer took.
    pub fn took(&self, hook: Hook, time: Duration) {
        self.seconds.get_or_create(&HookLabels { hook: hook.as_str() }).observe(time.as_secs_f64());
    }

    /// A changed certificate was taken, or could not be.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "replaced" } else { "failed" };
        self.reloads.get_or_create(&ReloadLabels { result }).inc();
    }
}
