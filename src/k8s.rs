//! Kubernetes objects as JSON and YAML, and what they come to in the model.
//!
//! `text -> yaml::Object (a JSON value that knows its places) -> convert -> model + findings`; a directory of such texts as
//! a cluster: `manifests`; an API server as a cluster: `watch`. Nothing in here judges what a server lets in; that is the
//! catalogue's.
pub mod convert;
pub mod files;
pub mod manifests;
pub mod neighbours;
pub mod reading;
pub mod watch;
pub mod written;
pub mod yaml;
