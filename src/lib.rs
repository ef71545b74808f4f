//! Ringfence: NetworkPolicy that is true.
pub mod admission;
pub mod check;
pub mod cli;
pub mod finding;
pub mod k8s;
pub mod lint;
pub mod policy;
pub mod report;
pub mod telemetry;
pub mod tls;
