//! Integration tests: one binary, one module a subject. Tests that need root say so by their tag.

mod admission;
mod clusters;
mod datapath_changes;
mod datapath_program;
mod layers;
mod root;
mod semantics;
mod server_texts;
mod tls;
