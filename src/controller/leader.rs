//! Who of several replicas writes: the one that holds a Lease.
//!
//! `Lease -> bool`, by [`Candidate::run`]. A holder that has not renewed for as long as it promised is replaced; how long that
//! is, is measured here and not read from its clock. Two leaders for a moment do no harm: what they write says the same, and
//! where it matters names the version that it was made from.

use super::Owner;
use crate::k8s::watch::{Access, Error, Named};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::Client;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long a leader may be silent.
const PROMISE: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long stops before another one begins.
const GIVES_UP: Duration = Duration::from_secs(10);
/// How often the Lease is renewed, and looked at.
const EVERY: Duration = Duration::from_secs(3);

/// One replica, for one duty.
#[derive(Debug)]
pub(super) struct Candidate {
    /// What the leader writes, for people.
    pub(super) duty: &'static str,
    /// Its name, which no other replica has.
    pub(super) identity: String,
    /// The Lease.
    pub(super) lease: Named,
    /// Whom it belongs to.
    pub(super) owner: Owner,
}

/// What is known of the Lease.
#[derive(Debug, Default)]
struct Seen {
    /// Its version, and since when it is the same.
    version: Option<(String, Instant)>,
}

/// What to do about a Lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It is ours, or free: write it.
    Take,
    /// Somebody else holds it.
    Wait,
}

impl Candidate {
    /// Tells whether this replica leads, until `stop` says true; then leaves the place to another one.
    pub(super) async fn run(self, access: Access, leads: watch::Sender<bool>, mut stop: watch::Receiver<bool>) {
        let duty = self.duty;
        let mut seen = Seen::default();
        let mut renewed: Option<Instant> = None;
        let (mut complaint, mut client) = (None, None);
        loop {
            match self.round(&access, &mut client, &mut seen).await {
                Ok(leading) => {
                    renewed = leading.then(Instant::now);
                    complaint = None;
                }
                Err(error) => {
                    client = None;
                    renewed = renewed.filter(|at| at.elapsed() < GIVES_UP);
                    let why = error.to_string();
                    if complaint.as_ref() != Some(&why) {
                        tracing::warn!("who leads in {duty} can not be settled: {why}");
                        complaint = Some(why);
                    }
                }
            }
            let leading = renewed.is_some();
            let changed = leads.send_if_modified(|now| std::mem::replace(now, leading) != leading);
            if changed {
                tracing::info!("{} replica leads in {duty}", if leading { "this" } else { "another" });
            }
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        if leads.send_replace(false)
            && let Err(error) = self.leave(&access, &mut client).await
        {
            tracing::warn!("{} can not be given back: {error}", self.lease);
        }
    }

    /// Looks at the Lease and writes it if it may; says whether it is ours.
    async fn round(&self, access: &Access, client: &mut Option<Client>, seen: &mut Seen) -> Result<bool, Error> {
        let client = access.keep(client).await?;
        let Some(lease) = self.lease.get(&client).await? else {
            let lease = self.written(&client, &Value::Null).await?;
            self.lease.apply(&client, &lease).await?;
            return Ok(true);
        };
        if seen.step(&lease, &self.identity, Instant::now()) == Step::Wait {
            return Ok(false);
        }
        let ours = self.written(&client, &lease).await?;
        match self.lease.replace(&client, &ours).await {
            Ok(_) => Ok(true),
            // Somebody was faster.
            Err(error) if error.status() == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn leave(&self, access: &Access, client: &mut Option<Client>) -> Result<(), Error> {
        let client = access.keep(client).await?;
        let Some(mut lease) = self.lease.get(&client).await? else { return Ok(()) };
        if lease["spec"]["holderIdentity"] != self.identity.as_str() {
            return Ok(());
        }
        lease["spec"]["holderIdentity"] = "".into();
        self.lease.replace(&client, &lease).await.map(drop)
    }

    /// The Lease as this replica holds it.
    async fn written(&self, client: &Client, found: &Value) -> Result<Value, Error> {
        let now = json!(MicroTime(Timestamp::now()));
        let mut lease = found.clone();
        if lease.is_null() {
            lease = self.owner.object(client, "coordination.k8s.io/v1", "Lease").await?;
        }
        let spec = &mut lease["spec"];
        if spec["holderIdentity"] != self.identity.as_str() {
            spec["holderIdentity"] = self.identity.as_str().into();
            spec["acquireTime"] = now.clone();
            spec["leaseTransitions"] = (spec["leaseTransitions"].as_i64().unwrap_or(0) + 1).into();
        }
        spec["leaseDurationSeconds"] = PROMISE.as_secs().into();
        spec["renewTime"] = now;
        Ok(lease)
    }
}

impl Seen {
    fn step(&mut self, lease: &Value, identity: &str, now: Instant) -> Step {
        let version = lease["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        let since = match &self.version {
            Some((known, since)) if known == version => *since,
            _ => now,
        };
        self.version = Some((version.to_owned(), since));
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let free = holder.is_empty() || holder == identity || now.duration_since(since) >= PROMISE;
        if free { Step::Take } else { Step::Wait }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, version: &str) -> Value {
        json!({"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": holder}})
    }

    #[test]
    fn a_lease_is_taken_when_it_is_free_our_own_or_has_not_been_renewed() {
        let (mut seen, now) = (Seen::default(), Instant::now());
        assert_eq!(seen.step(&lease("", "1"), "me", now), Step::Take);
        assert_eq!(seen.step(&lease("me", "2"), "me", now), Step::Take);
        assert_eq!(seen.step(&lease("you", "3"), "me", now), Step::Wait);
        let later = now + PROMISE - Duration::from_secs(1);
        assert_eq!(seen.step(&lease("you", "3"), "me", later), Step::Wait);
        assert_eq!(seen.step(&lease("you", "4"), "me", later), Step::Wait);
        assert_eq!(seen.step(&lease("you", "4"), "me", now + PROMISE), Step::Wait, "renewed since");
        assert_eq!(seen.step(&lease("you", "4"), "me", later + PROMISE), Step::Take);
    }
}
