//! The agent of one node.
pub mod source;
pub mod status;
