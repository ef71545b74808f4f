//! Ringfence on one machine, without a cluster.
pub mod lab;
