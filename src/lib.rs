//! Ringfence: NetworkPolicy that is true.
pub mod datapath;
pub mod finding;
pub mod node;
pub mod policy;
