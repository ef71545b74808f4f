//! The one integration binary: what a user of the library, of the command or of a socket can see.
mod admission;
mod server_texts;
mod tls;
