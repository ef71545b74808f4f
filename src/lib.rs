//! Ringfence: NetworkPolicy that is true.
pub mod agent;
pub mod finding;
pub mod k8s;
pub mod lint;
pub mod policy;
