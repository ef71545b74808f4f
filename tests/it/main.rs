//! Integration tests: one binary, one module a subject. Tests that need root say so by their tag.

mod admission;
mod check;
mod clusters;
mod datapath_changes;
mod datapath_program;
mod examples;
mod layers;
mod root;
mod semantics;
mod server_texts;
mod tls;
