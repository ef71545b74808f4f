//! Ringfence: NetworkPolicy that is true.
//!
//! Data flows one way. At the door: `raw JSON -> catalogue -> findings -> admission (a review) or check (a terminal)`.
//! In the kernel: `k8s::manifests -> policy::Cluster -> compile -> Table -> changes -> datapath`, run by `agent`. Modules
//! are listed from the ground up; each may use those above it, and those of one group do not know each other.

pub mod admission;
pub mod agent;
pub mod catalogue;
pub mod check;
pub mod cli;
pub mod controller;
pub mod datapath;
pub mod demo;
pub mod finding;
pub mod k8s;
pub mod lint;
pub mod node;
pub mod policy;
pub mod report;
pub mod telemetry;
pub mod tls;
