//! The command line: one file a subcommand, wiring only.
pub mod admission;
pub mod check;
