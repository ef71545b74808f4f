//! One kind, followed for good: listed, then watched from there, and listed again only when nothing else helps.
//!
//! `Access -> Told -> channel`, by [`run`]. Whatever goes wrong is told and tried again; nothing ends a follower.

use super::{
    access::Access,
    backoff::{Backoff, between},
    error::Error,
    list,
    resource::Kind,
    stream::Stream,
};
use crate::{k8s::convert::Settings, policy::cluster::Event};
use kube::Client;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;

/// How long a watch lasts before it is opened again, so that load moves between API servers.
const LASTING: [Duration; 2] = [Duration::from_secs(300), Duration::from_secs(600)];
/// A watch that lasted as long as this works.
const WORKS: Duration = Duration::from_secs(10);
/// After so many failures in a row the version may be what is wrong.
const ENOUGH: u32 = 5;

/// What is told of a kind.
#[derive(Debug)]
pub(super) enum Told {
    /// These are all.
    Listed(Vec<Event>),
    /// This happened to one.
    Happened(Event),
    /// Nothing that is not known.
    Current,
    /// It can not be asked.
    Lost(Error),
}

struct Follower {
    kind: Kind,
    access: Access,
    settings: Settings,
    teller: Sender<(Kind, Told)>,
    backoff: Backoff,
    /// The last question had no answer.
    silence: bool,
    client: Option<Client>,
    /// Where a watch goes on; without one, everything is listed.
    version: Option<String>,
}

/// Follows a kind, until it is dropped.
pub(super) async fn run(kind: Kind, access: Access, settings: Settings, teller: Sender<(Kind, Told)>) {
    let backoff = Backoff::default();
    let mut follower =
        Follower { kind, access, settings, teller, backoff, silence: false, client: None, version: None };
    loop {
        if let Err(error) = follower.round().await {
            follower.failed(error).await;
        }
    }
}

impl Follower {
    async fn tell(&self, told: Told) {
        // Whoever does not listen any more drops the followers, too.
        let _ = self.teller.send((self.kind, told)).await;
    }

    /// Lists if it has to, and watches until the watch ends in order.
    async fn round(&mut self) -> Result<(), Error> {
        let client = self.access.keep(&mut self.client).await?;
        let version = match &self.version {
            Some(version) => version.clone(),
            None => {
                let listed = list::list(&client, self.kind, &self.settings).await?;
                self.tell(Told::Listed(listed.events)).await;
                self.version.insert(listed.version).clone()
            }
        };
        let mut stream =
            Stream::open(&client, self.kind, &self.settings, &version, between(LASTING[0], LASTING[1])).await?;
        let opened = Instant::now();
        self.tell(Told::Current).await;
        while let Some(line) = stream.next().await? {
            self.backoff.works();
            self.tell(line.event.map_or(Told::Current, Told::Happened)).await;
            self.version = line.version.or(self.version.take());
        }
        if opened.elapsed() < WORKS {
            // In order, but so soon that it would be asked without end.
            tokio::time::sleep(self.backoff.failed(None)).await;
        } else {
            self.backoff.works();
        }
        Ok(())
    }

    /// Tells what went wrong, forgets what may be the cause, and waits.
    async fn failed(&mut self, error: Error) {
        // A server that is back says no for a moment, until it has read its roles: it is not to wait as one that is away.
        if std::mem::replace(&mut self.silence, error.is_silence()) && !error.is_silence() {
            self.backoff.works();
        }
        let wait = self.backoff.failed(error.pause());
        // Of a server that answers, the version may be what it does not like.
        let stuck = self.backoff.failures() >= ENOUGH && !error.is_about_access();
        if error.gone() || stuck {
            self.version = None;
        }
        if error.is_about_access() {
            self.client = None;
        }
        match error.gone() {
            true => tracing::info!("{} are listed again: {error}", self.kind.resource()),
            false => self.tell(Told::Lost(error)).await,
        }
        tokio::time::sleep(wait).await;
    }
}
