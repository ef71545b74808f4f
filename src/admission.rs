//! The door: an AdmissionReview comes in, an AdmissionReview goes out.
//!
//! ```text
//! bytes ──review──▶ Review ──decide──▶ Decision {Answer, verdict, rules} ──answer──▶ bytes
//!           └─▶ Malformed: an HTTP status          └─ findings, messages, patch
//! ```
//! [`Service::decide`] is pure; [`router::router`] puts HTTP around it and [`server::Server`] sockets around that. A denial
//! is data. What goes wrong here is an HTTP 500, so that the webhook's `failurePolicy` decides and not our mistake.

pub mod answer;
pub mod decide;
mod message;
pub mod metrics;
pub mod ops;
mod patch;
pub mod review;
pub mod router;
pub mod server;
pub mod view;

pub use decide::{Decision, Findings, Hook, Service, Verdict};
pub use view::View;

use crate::{finding::Finding, k8s, lint};
use serde_json::Value;

/// All that is wrong with a NetworkPolicy, by the one catalogue of rules: what an API server refuses, then what it lets in
/// and should not be written.
pub fn catalogue(object: &Value) -> Vec<Finding> {
    let k8s::convert::Converted { value, mut findings } = k8s::convert::network_policy(object);
    findings.extend(lint::network_policy(object, &value));
    findings
}
