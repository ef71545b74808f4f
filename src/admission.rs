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
mod kind;
mod message;
pub mod metrics;
pub mod ops;
mod patch;
pub mod review;
pub mod router;
pub mod server;
pub mod trial;
pub mod view;

pub use decide::{Decision, Hook, Manners, Service, Verdict};
pub use view::View;

use crate::{
    catalogue::{Catalogue, Subject},
    finding::Finding,
};
use serde_json::Value;

/// All that is wrong with a NetworkPolicy by itself.
pub fn catalogue(object: &Value) -> Vec<Finding> {
    let subject = Subject { object, old: None, namespace: "default", is_written: false, is_policy: true, view: None };
    Catalogue::default().judge(&subject).unwrap_or_default()
}
