//! Ringfence: NetworkPolicy that is true.
pub mod agent;
pub mod finding;
pub mod policy;
