//! The one integration binary: what a user of the library, of the command or of a socket can see.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod admission;
mod check;
mod examples;
mod server_texts;
mod tls;
