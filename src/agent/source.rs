//! Where the cluster comes from: a directory of manifests, or an API server.
//!
//! `Source -> Reading`, by [`Source::follow`], on a thread of its own. Both speak in readings; whoever enforces
//! does not know which of them it is.

pub mod directory;

use crate::{
    k8s::{
        convert, manifests,
        reading::Reading,
        watch::{self, Access, Kind, Named},
    },
    policy::cluster::{Cluster, Event},
};
use std::{io, path::PathBuf, thread, time::Instant};

/// What the enforcing thread is told.
#[derive(Debug)]
pub enum Told {
    /// By the source of the cluster.
    Cluster(Reading),
    /// By nodes themselves: addresses on interfaces, ranges.
    Node(Vec<Event>),
}

/// Where the cluster comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A directory of manifests: each change of a file is a reading of the whole.
    Directory(PathBuf),
    /// An API server: a whole first, events then. Namespaces that are older than the object are told as such.
    Kube(Access, Option<Named>),
}

impl Source {
    /// Follows it, and hands `tell` what there is to say until `tell` says that nobody listens any more.
    ///
    /// # Errors
    /// A thread that can not be started.
    pub fn follow(self, tell: impl Fn(Reading) -> bool + Send + 'static) -> io::Result<()> {
        let started = thread::Builder::new().name("source".to_owned());
        match self {
            Source::Directory(directory) => {
                let files = [directory.clone()];
                let take = move |reading| match reading {
                    Ok(cluster) => {
                        let now = Instant::now();
                        [Reading::Whole(Box::new(cluster)), Reading::Current(now)].into_iter().all(&tell)
                    }
                    Err(why) => tell(Reading::Refused(why)),
                };
                started.spawn(move || directory::follow(&directory, || read(&files), take)).map(drop)
            }
            Source::Kube(access, installed) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                started
                    .spawn(move || runtime.block_on(watch::follow(access, &Kind::ENFORCING, installed, tell)))
                    .map(drop)
            }
        }
    }
}

/// The directory as a cluster. A policy with mistakes is in it, closed where it can not be read, and is named in the log.
fn read(files: &[PathBuf]) -> Result<Cluster, manifests::Mistakes> {
    let (cluster, findings) = manifests::read(files, &convert::Settings::default()).whole()?;
    for finding in findings {
        tracing::warn!("taken as closed: {finding}");
    }
    Ok(cluster)
}
