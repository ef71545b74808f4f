//! Integration tests: one binary, one module a subject. Tests that need root say so by their tag.

mod admission;
mod clusters;
mod layers;
mod semantics;
mod server_texts;
mod tls;
