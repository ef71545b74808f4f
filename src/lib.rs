//! Ringfence: NetworkPolicy that is true.
//!
//! Data flows one way. At the door: `raw JSON -> k8s::convert -> findings -> admission (a review) or check (a terminal)`.
//! In the kernel: `k8s::manifests -> policy::Cluster -> compile -> Table -> changes -> datapath`, run by `agent`. Modules
//! are listed from the ground up; each may use those above it, and those of one group do not know each other.

pub mod finding;
pub mod telemetry;
pub mod policy;
pub mod k8s;
pub mod lint;
pub mod report;
pub mod datapath;
pub mod node;
pub mod tls;
pub mod check;
pub mod admission;
pub mod agent;
pub mod demo;
pub mod cli;
