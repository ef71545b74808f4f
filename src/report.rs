//! Values -> text and JSON, for people and for programs.
//!
//! Nothing in here decides anything; one file for each thing that is shown.
pub mod findings;
