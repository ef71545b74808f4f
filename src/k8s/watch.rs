//! A live cluster: Namespaces, Nodes, Pods and NetworkPolicies of an API server, listed and watched, and what explains them.
//!
//! `API server -> follower (one a kind) -> gathering -> Reading`, by [`follow`]; [`once`] lists and is done. The cluster is
//! the one that the same objects make as manifests. Objects are cut down as they are read.

mod access;
mod backoff;
pub mod daemonset;
mod error;
mod follower;
mod gathering;
mod known;
mod list;
pub mod named;
mod request;
mod resource;
mod selected;
mod shared;
mod stream;
mod trim;

pub use access::Access;
pub(crate) use backoff::Backoff;
pub use daemonset::{DaemonSet, Standing};
pub use error::{Error, OLDEST_MINOR};
pub use named::{Named, is_name};
pub use resource::Kind;
pub use selected::{Selected, Told};

use super::{
    convert::{self, Settings},
    reading::Reading,
};
use crate::policy::cluster::Cluster;
use gathering::Gathering;
use std::time::Instant;
use tokio::{sync::mpsc, task::JoinSet};

/// What waits between the connections and whoever takes it; then the connections wait.
const WAITING: usize = 1024;

/// Follows a cluster, and hands `take` what there is to say until `take` says that nobody listens any more. First comes the
/// whole cluster, when all of it is known by which packets are judged; then events, when they come. Errors are told, and tried
/// again.
///
/// Namespaces that are older than the object `installed` are told as such; until that is known, nothing is told but why.
pub async fn follow(access: Access, kinds: &[Kind], installed: Option<Named>, mut take: impl FnMut(Reading) -> bool) {
    let Some(settings) = settings(&access, installed, &mut take).await else { return };
    let (teller, mut told) = mpsc::channel(WAITING);
    let mut followers = JoinSet::new();
    for kind in kinds.iter().copied() {
        followers.spawn(follower::run(kind, access.clone(), settings.clone(), teller.clone()));
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

/// How objects are read; asked for until it is known, or until nobody listens any more.
async fn settings(
    access: &Access,
    installed: Option<Named>,
    take: &mut impl FnMut(Reading) -> bool,
) -> Option<Settings> {
    let Some(installed) = installed else { return Some(Settings::default()) };
    let mut backoff = Backoff::default();
    loop {
        let asked = async { installed.get(&access.connect().await?).await };
        let (why, pause) = match asked.await {
            Ok(Some(object)) => match convert::created(&object) {
                Some(since) => return Some(Settings { since: Some(since), ..Settings::default() }),
                None => (format!("{installed} does not say when it was made"), None),
            },
            Ok(None) => (format!("there is no {installed}, which says what is older: install the chart again"), None),
            Err(error) => (error.to_string(), error.pause()),
        };
        if !take(Reading::Away(why)) {
            return None;
        }
        tokio::time::sleep(backoff.failed(pause)).await;
    }
}

/// The cluster as it is now, of these kinds.
///
/// # Errors
/// Why it can not be listed, and what to do. What explains policies is left out where one may not list it.
pub async fn once(access: &Access, kinds: &[Kind]) -> Result<Cluster, Error> {
    let client = access.connect().await?;
    let mut gathering = Gathering::default();
    for kind in kinds.iter().copied() {
        let listed = match list::list(&client, kind, &Settings::default()).await {
            Err(error @ Error::Forbidden { .. }) if !Kind::JUDGING.contains(&kind) => {
                tracing::warn!("without it: {error}");
                continue;
            }
            listed => listed?,
        };
        gathering.hear(kind, follower::Told::Listed(listed.events), Instant::now());
    }
    Ok(gathering.cluster())
}
