//! The one integration binary. Tests that need root say so, see `root`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
mod attach;
mod conntrack;
mod datapath_changes;
mod datapath_program;
mod datapath_random;
mod packets;
mod root;
mod sandbox;
