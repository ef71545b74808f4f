//! Ringfence: NetworkPolicy that is true.
pub mod datapath;
pub mod demo;
pub mod finding;
pub mod node;
pub mod policy;
