//! Ringfence: NetworkPolicy that is true.
pub mod check;
pub mod cli;
pub mod finding;
pub mod k8s;
pub mod lint;
pub mod policy;
pub mod report;
