//! A live cluster: Namespaces, Nodes, Pods and NetworkPolicies of an API server, listed and watched.
//!
//! `API server -> follower (one a kind) -> gathering -> Reading`, by [`follow`]; [`once`] lists and is done. The cluster is
//! the one that the same objects make as manifests. Objects are cut down as they are read.

mod access;
mod backoff;
pub mod daemonset;
mod error;
mod follower;
mod gathering;
mod list;
pub mod named;
mod request;
mod resource;
mod stream;
mod trim;

pub use access::Access;
pub use daemonset::{DaemonSet, Standing};
pub use error::{Error, OLDEST_MINOR};
pub use named::{Named, Told};
pub use resource::Kind;

use super::reading::Reading;
use crate::policy::cluster::Cluster;
use gathering::Gathering;
use std::time::Instant;
use tokio::{sync::mpsc, task::JoinSet};

/// What waits between the connections and whoever takes it; then the connections wait.
const WAITING: usize = 1024;

/// Follows a cluster, and hands `take` what there is to say until `take` says that nobody listens any more. First comes the
/// whole cluster, when all of it is known; then events, when they come. Errors are told, and tried again.
pub async fn follow(access: Access, mut take: impl FnMut(Reading) -> bool) {
    let (teller, mut told) = mpsc::channel(WAITING);
    let mut followers = JoinSet::new();
    for kind in Kind::ALL {
        followers.spawn(follower::run(kind, access.clone(), teller.clone()));
    }
    drop(teller);
    let mut gathering = Gathering::default();
    while let Some((kind, first)) = told.recv().await {
        gathering.hear(kind, first, Instant::now());
        // What has come with it goes with it.
        for _ in 0..WAITING {
            let Ok((kind, next)) = told.try_recv() else { break };
            gathering.hear(kind, next, Instant::now());
        }
        if !gathering.readings().into_iter().all(&mut take) {
            return;
        }
    }
}

/// The cluster as it is now.
///
/// # Errors
/// Why it can not be listed, and what to do.
pub async fn once(access: &Access) -> Result<Cluster, Error> {
    let client = access.connect().await?;
    let mut gathering = Gathering::default();
    for kind in Kind::ALL {
        let listed = list::list(&client, kind).await?;
        gathering.hear(kind, follower::Told::Listed(listed.events), Instant::now());
    }
    Ok(gathering.cluster())
}
