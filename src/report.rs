//! Values as people and machines read them: findings, matrices, decisions, flows.
//!
//! `value -> text | JSON`, pure. Text is aligned and calm, and has colours only where it is told so; JSON is stable.

pub mod explain;
pub mod findings;
pub mod flows;
pub mod matrix;
pub mod rules;
