//! The semantics of NetworkPolicy.
pub mod baseline;
pub mod change;
pub mod cluster;
pub mod model;
pub mod selector;
pub mod table;
