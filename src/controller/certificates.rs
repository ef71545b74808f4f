//! Certificates without anybody's help: authorities in a Secret, their certificates in both webhook configurations, and in
//! memory a server certificate of this replica's own.
//!
//! ```text
//! Secret, configurations ──Told──▶ Certificates ──step(now)──▶ Served, readiness      every replica
//!                                              └─wanted(now)──▶ Write                 the one that leads
//! ```
//! The next authority signs only when both configurations have told API servers to trust it, so a rotation fails no request.
//! A Secret that is lost or makes no sense is written again from what is known, and made anew where nothing is known.

use super::Owner;
use crate::{
    k8s::watch::{Access, Error, Named, Told},
    tls::{Authorities, Pair, Served, Times, trusts},
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use kube::Client;
use serde_json::{Map, Value, json};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::{mpsc, watch};

/// A write that failed is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Time is looked at this often at least.
const LOOK: Duration = Duration::from_secs(60);

/// Which object is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    Secret,
    Mutating,
    Validating,
}

impl Which {
    const ALL: [Which; 3] = [Which::Secret, Which::Mutating, Which::Validating];

    fn kind(self) -> &'static str {
        match self {
            Which::Secret => "Secret",
            Which::Mutating => "MutatingWebhookConfiguration",
            Which::Validating => "ValidatingWebhookConfiguration",
        }
    }
}

/// An object as it was heard of last.
#[derive(Debug, Default)]
enum Heard {
    #[default]
    Nothing,
    Gone,
    Is(Value),
}

/// The objects.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) secret: Named,
    pub(super) mutating: Named,
    pub(super) validating: Named,
}

impl Places {
    fn of(&self, which: Which) -> &Named {
        match which {
            Which::Secret => &self.secret,
            Which::Mutating => &self.mutating,
            Which::Validating => &self.validating,
        }
    }
}

/// What the leader has to write.
#[derive(Debug, PartialEq)]
enum Write {
    /// These texts into the Secret; into this version of it, where there is one.
    Authorities(Box<Authorities>, Option<String>),
    /// A patch of a configuration.
    Bundle(Which, Value),
}

/// What is known.
#[derive(Debug)]
pub(super) struct Certificates {
    names: Vec<String>,
    times: Times,
    secret: Heard,
    configurations: [Heard; 2],
    /// The last good content of the Secret.
    known: Option<Authorities>,
    /// What is wrong with the Secret.
    wrong: Option<String>,
    /// What is served, and when another one has to be.
    leaf: Option<(Pair, SystemTime)>,
}

impl Certificates {
    /// For a server of these names, the first of which API servers ask for.
    pub(super) fn new(names: Vec<String>, times: Times) -> Self {
        let (secret, configurations) = Default::default();
        Self { names, times, secret, configurations, known: None, wrong: None, leaf: None }
    }

    fn place(&mut self, which: Which) -> &mut Heard {
        let [mutating, validating] = &mut self.configurations;
        match which {
            Which::Secret => &mut self.secret,
            Which::Mutating => mutating,
            Which::Validating => validating,
        }
    }

    fn hear(&mut self, which: Which, told: Told, now: SystemTime) {
        let heard = match told {
            Told::Listed(items) => items.into_iter().next().map_or(Heard::Gone, Heard::Is),
            Told::There(object) => Heard::Is(object),
            Told::Gone(_) => Heard::Gone,
            Told::Lost(error) => return tracing::warn!("the {} can not be followed: {error}", which.kind()),
        };
        *self.place(which) = heard;
        if which == Which::Secret {
            self.read(now);
        }
    }

    /// Reads the Secret. What can not be read changes nothing that is known.
    fn read(&mut self, now: SystemTime) {
        let wrong = match &self.secret {
            Heard::Nothing => return,
            Heard::Gone => Some("is not there".to_owned()),
            Heard::Is(secret) => match Authorities::from_texts(|name| text(&secret["data"][name])) {
                Ok(authorities) if self.known.as_ref() == Some(&authorities) => None,
                Ok(authorities) => match authorities.leaf(&self.names, now, &self.times) {
                    Ok(leaf) => {
                        self.leaf = Some(leaf);
                        self.known = Some(authorities);
                        None
                    }
                    Err(error) => Some(format!("can not be used: {error}")),
                },
                Err(error) => Some(format!("can not be used: {error}")),
            },
        };
        self.wrong = wrong;
    }

    /// What is to be served now; `None` before anything is known.
    fn serve(&mut self, now: SystemTime) -> Option<Pair> {
        let renewal = self.leaf.as_ref().is_some_and(|(_, until)| now >= *until);
        if renewal && let Some(known) = &self.known {
            match known.leaf(&self.names, now, &self.times) {
                Ok(leaf) => {
                    tracing::info!("the server certificate was renewed");
                    self.leaf = Some(leaf);
                }
                Err(error) => self.wrong = Some(format!("can not be used any more: {error}")),
            }
        }
        self.leaf.as_ref().map(|(pair, _)| pair.clone())
    }

    /// Why no API server would trust what is served; a configuration that is not there asks nobody.
    fn lacks(&self, now: SystemTime) -> Option<String> {
        let Some((pair, _)) = &self.leaf else {
            let why =
                self.wrong.as_ref().map_or(String::new(), |wrong| format!(": the Secret of the authorities {wrong}"));
            return Some(format!("there is no certificate to serve yet{why}"));
        };
        for (heard, which) in self.configurations.iter().zip([Which::Mutating, Which::Validating]) {
            let configuration = match heard {
                Heard::Nothing => return Some(format!("the {} is not known yet", which.kind())),
                Heard::Gone => continue,
                Heard::Is(configuration) => configuration,
            };
            for webhook in items(&configuration["webhooks"]) {
                let bundle = text(&webhook["clientConfig"]["caBundle"]).unwrap_or_default();
                if let Err(why) = trusts(&bundle, pair, &self.names[0], now) {
                    let name = webhook["name"].as_str().unwrap_or_default();
                    return Some(format!("API servers would not trust what is served to {name}: {why}"));
                }
            }
        }
        None
    }

    /// What the leader has to write now, most urgent first.
    fn wanted(&self, now: SystemTime) -> Vec<Write> {
        let version = match &self.secret {
            Heard::Nothing => return Vec::new(),
            Heard::Gone => None,
            Heard::Is(secret) => secret["metadata"]["resourceVersion"].as_str().map(str::to_owned),
        };
        let write = |authorities: Result<Authorities, _>| match authorities {
            Ok(authorities) => vec![Write::Authorities(Box::new(authorities), version.clone())],
            Err(error) => {
                tracing::error!("no authority can be made: {error}");
                Vec::new()
            }
        };
        let Some(known) = &self.known else { return write(Authorities::new(now, &self.times)) };
        if self.wrong.is_some() {
            // What is served is trusted meanwhile: it comes back as it was, unless that has run out.
            let works = |authorities: &Authorities| authorities.leaf(&self.names, now, &self.times).is_ok();
            return write(match known.rotated(now, &self.times) {
                _ if works(known) => Ok(known.clone()),
                Ok(rotated) if works(&rotated) => Ok(rotated),
                _ => Authorities::new(now, &self.times),
            });
        }
        let mut writes = Vec::new();
        let bundle = known.bundle();
        let encoded = BASE64.encode(&bundle);
        let mut is_known = true;
        for (heard, which) in self.configurations.iter().zip([Which::Mutating, Which::Validating]) {
            let configuration = match heard {
                Heard::Is(configuration) => configuration,
                Heard::Gone => continue,
                Heard::Nothing => {
                    is_known = false;
                    continue;
                }
            };
            let mut webhooks = Vec::new();
            for webhook in items(&configuration["webhooks"]) {
                let published = &webhook["clientConfig"]["caBundle"];
                is_known &= text(published).is_some_and(|published| known.is_known_by(&published));
                if *published != encoded.as_str() {
                    webhooks.push(json!({"name": webhook["name"], "clientConfig": {"caBundle": encoded}}));
                }
            }
            if !webhooks.is_empty() {
                let metadata = json!({"resourceVersion": configuration["metadata"]["resourceVersion"]});
                writes.push(Write::Bundle(which, json!({"metadata": metadata, "webhooks": webhooks})));
            }
        }
        if writes.is_empty() && is_known && known.is_due(now, &self.times) {
            return write(known.rotated(now, &self.times));
        }
        writes
    }

    /// How long nothing happens by itself.
    fn quiet(&self, now: SystemTime) -> Duration {
        let renewal = self.leaf.as_ref().map_or(LOOK, |(_, until)| until.duration_since(now).unwrap_or_default());
        renewal.min(self.times.rotation / 4).clamp(Duration::from_millis(50), LOOK)
    }

    /// Works for as long as the process lives: serves, says what is lacking, and writes when this replica leads.
    pub(super) async fn run(
        mut self,
        access: Access,
        places: Places,
        owner: Owner,
        served: Arc<Served>,
        lacks: impl Fn(Option<String>),
        mut leads: watch::Receiver<bool>,
    ) {
        let (teller, mut told) = mpsc::channel(64);
        let mut followers = tokio::task::JoinSet::new();
        for which in Which::ALL {
            let (teller, access, named) = (teller.clone(), access.clone(), places.of(which).clone());
            followers.spawn(async move {
                // What is heard of one object is little: who is slow hears the newest in the end.
                let (sender, mut receiver) = mpsc::unbounded_channel();
                let following = named.follow(access, move |told| drop(sender.send(told)));
                let passing = async {
                    while let Some(told) = receiver.recv().await {
                        let _ = teller.send((which, told)).await;
                    }
                };
                tokio::join!(following, passing);
            });
        }
        let mut failed = None;
        loop {
            let now = SystemTime::now();
            if let Some(pair) = self.serve(now)
                && served.put(pair)
            {
                tracing::info!("another server certificate is served");
            }
            lacks(self.lacks(now));
            let mut again = None;
            if *leads.borrow() {
                for write in self.wanted(now) {
                    match self.perform(&access, &places, &owner, write).await {
                        Ok(()) => failed = None,
                        Err(error) => {
                            again = Some(AGAIN);
                            let why = error.to_string();
                            // A conflict is somebody who was faster: the news of it is on its way.
                            if error.status() != Some(409) && failed.as_ref() != Some(&why) {
                                tracing::error!("certificates can not be kept: {why}");
                                failed = Some(why);
                            }
                        }
                    }
                }
            }
            let wait = again.unwrap_or_else(|| self.quiet(now));
            tokio::select! {
                news = told.recv() => match news {
                    Some((which, told)) => self.hear(which, told, SystemTime::now()),
                    None => return,
                },
                changed = leads.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(wait) => {}
            }
            while let Ok((which, told)) = told.try_recv() {
                self.hear(which, told, SystemTime::now());
            }
        }
    }

    async fn perform(&mut self, access: &Access, places: &Places, owner: &Owner, write: Write) -> Result<(), Error> {
        let client = access.connect().await?;
        match write {
            Write::Authorities(authorities, version) => {
                let what = match (&self.wrong, &self.known) {
                    (_, None) => "authorities were made",
                    (Some(wrong), Some(known)) => {
                        tracing::error!("the Secret of the authorities {wrong}");
                        if *known == *authorities { "it was written again" } else { "authorities were made anew" }
                    }
                    (None, Some(_)) => "the next authority signs from now on",
                };
                let secret = secret(&client, owner, &authorities, version).await?;
                let stored = places.secret.apply(&client, &secret).await?;
                tracing::info!("{what}");
                self.hear(Which::Secret, Told::There(stored), SystemTime::now());
            }
            Write::Bundle(which, patch) => {
                let stored = places.of(which).merge(&client, &patch).await?;
                tracing::info!("the {} trusts what is served, and what will be", which.kind());
                self.hear(which, Told::There(stored), SystemTime::now());
            }
        }
        Ok(())
    }
}

async fn secret(
    client: &Client,
    owner: &Owner,
    authorities: &Authorities,
    version: Option<String>,
) -> Result<Value, Error> {
    let mut secret = owner.object(client, "v1", "Secret").await?;
    if let Some(version) = version {
        secret["metadata"]["resourceVersion"] = version.into();
    }
    secret["data"] = encoded(authorities).into();
    Ok(secret)
}

fn encoded(authorities: &Authorities) -> Map<String, Value> {
    let texts = authorities.texts().into_iter();
    texts.map(|(name, text)| (name.to_owned(), Value::from(BASE64.encode(text)))).collect()
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Text in base64.
fn text(value: &Value) -> Option<String> {
    String::from_utf8(BASE64.decode(value.as_str()?).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "ringfence.ringfence-system.svc";

    fn certificates() -> Certificates {
        Certificates::new(vec![NAME.to_owned()], Times::default())
    }

    fn stored(authorities: &Authorities, version: &str) -> Told {
        let data: Map<_, _> = encoded(authorities);
        Told::There(json!({"metadata": {"resourceVersion": version}, "data": data}))
    }

    fn configured(bundle: &str) -> Told {
        let webhook = json!({"name": "w", "clientConfig": {"caBundle": BASE64.encode(bundle)}});
        Told::There(json!({"metadata": {"resourceVersion": "7"}, "webhooks": [webhook]}))
    }

    /// What the leader writes, and that is all.
    fn written(certificates: &Certificates, now: SystemTime) -> Authorities {
        let mut writes = certificates.wanted(now);
        assert_eq!(writes.len(), 1);
        match writes.remove(0) {
            Write::Authorities(authorities, _) => *authorities,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn authorities_are_made_then_published_and_then_it_is_ready() {
        let (mut certificates, now) = (certificates(), SystemTime::now());
        assert_eq!(certificates.wanted(now), [], "nothing was heard yet");
        certificates.hear(Which::Secret, Told::Listed(vec![]), now);
        let made = written(&certificates, now);
        certificates.hear(Which::Secret, stored(&made, "1"), now);
        assert!(certificates.serve(now).is_some());
        for which in [Which::Mutating, Which::Validating] {
            assert!(certificates.lacks(now).unwrap().contains(which.kind()), "{:?}", certificates.lacks(now));
            certificates.hear(which, configured(""), now);
            assert!(matches!(&certificates.wanted(now)[..], [Write::Bundle(w, _)] if *w == which));
            assert!(certificates.lacks(now).unwrap().contains("the caBundle is empty"));
            certificates.hear(which, configured(&made.bundle()), now);
        }
        assert_eq!((certificates.wanted(now), certificates.lacks(now)), (vec![], None));
    }

    #[test]
    fn the_next_authority_signs_only_when_both_configurations_know_it() {
        let (mut certificates, now) = (certificates(), SystemTime::now());
        let due = now + Times::default().rotation;
        let (old, foreign) = (Authorities::new(now, &Times::default()).unwrap(), "");
        certificates.hear(Which::Secret, stored(&old, "1"), now);
        certificates.hear(Which::Mutating, configured(&old.bundle()), now);
        assert_eq!(certificates.wanted(due), [], "one is not known");
        certificates.hear(Which::Validating, configured(foreign), now);
        assert!(matches!(certificates.wanted(due)[..], [Write::Bundle(Which::Validating, _)]));
        certificates.hear(Which::Validating, configured(&old.bundle()), now);
        let new = written(&certificates, due);
        assert!(!new.is_due(due, &Times::default()) && new.bundle().contains(old.bundle().trim()));
    }

    #[test]
    fn a_secret_that_is_lost_or_spoilt_is_written_as_it_was_and_meanwhile_served() {
        // Stored are milliseconds.
        let (mut certificates, now) = (certificates(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000));
        let known = Authorities::new(now, &Times::default()).unwrap();
        certificates.hear(Which::Secret, stored(&known, "1"), now);
        let before = certificates.serve(now);
        let spoilt = json!({"metadata": {"resourceVersion": "2"}, "data": {"current.crt": "eA=="}});
        for told in [Told::There(spoilt), Told::Gone(Value::Null), Told::Listed(vec![])] {
            certificates.hear(Which::Secret, told, now);
            assert_eq!(written(&certificates, now), known);
            assert_eq!(certificates.serve(now), before);
        }
        let expired = now + Times::default().authority;
        assert_ne!(written(&certificates, expired), known, "what has run out is made anew");
    }
}
