//! Ringfence: NetworkPolicy that is true.
pub mod datapath;
pub mod finding;
pub mod policy;
