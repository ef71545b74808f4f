//! Kubernetes objects as JSON and YAML, and what they come to in the model.
pub mod convert;
