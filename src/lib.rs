//! Ringfence: NetworkPolicy that is true.
pub mod finding;
pub mod policy;
pub mod telemetry;
pub mod tls;
