//! Raw JSON of the API -> model and findings.
//!
//! Reading never fails: every function returns a value and everything that is wrong with the object. What cannot be read
//! closes: the value then isolates more and admits less than anybody could have meant.

use crate::{finding::Finding, policy::model::NetworkPolicy};
use serde_json::Value;

/// A value, and what was wrong with the object that it was read from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Converted<T> {
    /// The value, defaults applied.
    pub value: T,
    /// What is wrong with the object, in the order of its fields.
    pub findings: Vec<Finding>,
}

/// Reads a NetworkPolicy. Findings say what a kube-apiserver refuses; the policy is fail closed where there are some.
pub fn network_policy(_object: &Value) -> Converted<NetworkPolicy> {
    Converted::default()
}
