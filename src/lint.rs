//! The catalogue: what a kube-apiserver lets in and should not be written.
//!
//! `object, policy -> findings`, one rule or a small family a file, with one entry: [`network_policy`]. What the server
//! itself refuses is found where the object is read (`k8s::convert`); both lists together are what is wrong with an
//! object. Whoever judges an object calls the one and then the other.

mod contradiction;
mod ignored;

use crate::{finding::Finding, policy::model::NetworkPolicy};
use serde_json::Value;

/// What is wrong with a NetworkPolicy that the server accepts: its raw JSON, and the value that was read from it.
pub fn network_policy(object: &Value, policy: &NetworkPolicy) -> Vec<Finding> {
    let mut findings = ignored::rules(object, policy);
    findings.extend(contradiction::rules(object));
    findings
}
