//! Certificates: read, served, replaced while connections go on, and made where nobody gave any.
//!
//! [`Files`] names a chain and a key on disk; [`Authorities`] sign where nobody gives any; [`Served`] holds what was last good
//! and hands it to every handshake. [`Clients`] says who may connect. Nothing here opens a socket.

mod authorities;
mod authority;
mod clients;
mod files;
pub mod self_signed;
mod served;

pub use authorities::{Authorities, Times, Unusable, trusts};
pub use clients::Clients;
pub use files::{Files, Pair, TlsError};
pub use served::Served;
