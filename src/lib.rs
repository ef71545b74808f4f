//! Ringfence: NetworkPolicy that is true.
pub mod finding;
pub mod policy;
