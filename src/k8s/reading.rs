//! What a source of the cluster tells whoever enforces: a directory of manifests and an API server speak in one way.
//!
//! A whole cluster, or what happened since; how current that is; and why nothing is heard. Nothing that a source says takes
//! back what it said before: what stands, stands until there is something newer.

use crate::policy::cluster::{Cluster, Event};
use std::time::Instant;

/// One thing that a source tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// The cluster as it is now, whatever was told before.
    Whole(Box<Cluster>),
    /// What happened to objects since. The first reading is never this one.
    Events(Vec<Event>),
    /// What was told is as current as of then, and the source can be asked.
    Current(Instant),
    /// What the source holds can not be taken, and why: somebody has to mend it. The old state stays.
    Refused(String),
    /// The source can not be asked now, and why. The old state stays, and it is good until there is a newer one.
    Away(String),
}
