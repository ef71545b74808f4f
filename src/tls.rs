//! Certificates: read, served, replaced while connections go on, and made where nobody gave any.
//!
//! [`Files`] names a chain and a key on disk; [`Served`] holds what was last good in them and hands it to every handshake;
//! [`self_signed`] makes a CA and a leaf. Nothing here opens a socket.

mod files;
pub mod self_signed;
mod served;

pub use files::{Files, Pair, TlsError};
pub use served::Served;
