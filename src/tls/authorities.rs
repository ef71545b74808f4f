//! Two authorities, one of which signs while everybody gets to know the other: so no rotation fails a request.
//!
//! `since  current signs, next is known ──rotated──▶ next signs, a new one gets known; the old certificate stays trusted`.
//! Whoever trusts [`Authorities::bundle`] of before a rotation trusts what is served after it, and the other way round. They
//! are stored as named texts, [`Authorities::texts`], in one object that is written as a whole.

use super::{Pair, authority::Authority};
use rustls::{
    CertificateError, RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// For how long what is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// An authority, of which it is known before it signs, signs, and is trusted afterwards: three times `rotation` at least.
    pub authority: Duration,
    /// How long one signs.
    pub rotation: Duration,
    /// A server certificate; another one is served after two thirds of this.
    pub leaf: Duration,
}

impl Default for Times {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { authority: 365 * DAY, rotation: 90 * DAY, leaf: 30 * DAY }
    }
}

/// By then every replica has heard of a rotation.
const HEARD: Duration = Duration::from_secs(60);
/// A certificate that is valid for less is none.
const SHORTEST: Duration = Duration::from_secs(5);

/// The authorities of one webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorities {
    current: Authority,
    next: Authority,
    /// The certificate of the one that signed before; nobody has its key any more.
    previous: Option<String>,
    since: SystemTime,
}

/// Why stored texts are no authorities, or why they can not be used.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum Unusable {
    #[error("it has no {0}")]
    Missing(&'static str),
    #[error("its {0} can not be read")]
    Garbled(&'static str),
    #[error("its authority has ended")]
    Ends,
    #[error("it can not sign: {0}")]
    Signs(#[from] rcgen::Error),
    #[error("what it signs can not be served: {0}")]
    Serves(rustls::Error),
    #[error("what it signs is not trusted by whoever trusts it: {0}")]
    Distrusted(String),
}

impl Authorities {
    /// Two that nobody has seen.
    ///
    /// # Errors
    /// When there is no randomness for keys.
    pub fn new(now: SystemTime, times: &Times) -> Result<Self, Unusable> {
        let make = || Authority::new(now, times.authority);
        Ok(Self { current: make()?, next: make()?, previous: None, since: now })
    }

    /// Whether another one is to sign: this one has signed for long enough, or ends before what it would sign.
    pub fn is_due(&self, now: SystemTime, times: &Times) -> bool {
        let ends = now + times.leaf > self.current.until;
        let enough = if ends { times.rotation.min(HEARD) } else { times.rotation };
        now.duration_since(self.since).is_ok_and(|age| age >= enough)
    }

    /// The next one signs from now on.
    ///
    /// # Errors
    /// When there is no randomness for keys.
    pub fn rotated(&self, now: SystemTime, times: &Times) -> Result<Self, Unusable> {
        let next = Authority::new(now, times.authority)?;
        Ok(Self { current: self.next.clone(), next, previous: Some(self.current.cert.clone()), since: now })
    }

    /// What clients have to trust, now and after the next rotation.
    pub fn bundle(&self) -> String {
        let previous = self.previous.as_deref().unwrap_or_default();
        format!("{previous}{}{}", self.current.cert, self.next.cert)
    }

    /// Whether whoever trusts this bundle trusts what the next one will sign.
    pub fn is_known_by(&self, bundle: &str) -> bool {
        bundle.contains(self.next.cert.trim())
    }

    /// A certificate for a name, by the one that signs; and when another one is to be served, which is after two thirds of its
    /// life. It does not outlive whoever signs it.
    ///
    /// # Errors
    /// When it would not be trusted by those who trust the bundle: it has expired, or is none.
    pub fn leaf(&self, names: &[String], now: SystemTime, times: &Times) -> Result<(Pair, SystemTime), Unusable> {
        let life = self.current.until.duration_since(now).unwrap_or_default().min(times.leaf);
        if life < SHORTEST {
            return Err(Unusable::Ends);
        }
        let leaf = self.current.leaf(names, now, life)?;
        let pair = Pair::issued(leaf.chain, leaf.key).map_err(Unusable::Serves)?;
        trusts(&self.bundle(), &pair, &names[0], now).map_err(Unusable::Distrusted)?;
        Ok((pair, now + life * 2 / 3))
    }

    /// As what they are stored.
    pub fn texts(&self) -> BTreeMap<&'static str, String> {
        let time = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis().to_string();
        let mut texts = BTreeMap::from([
            ("current.crt", self.current.cert.clone()),
            ("current.key", self.current.key.clone()),
            ("current.until", time(self.current.until)),
            ("next.crt", self.next.cert.clone()),
            ("next.key", self.next.key.clone()),
            ("next.until", time(self.next.until)),
            ("since", time(self.since)),
        ]);
        texts.extend(self.previous.clone().map(|cert| ("previous.crt", cert)));
        texts
    }

    /// From what is stored.
    ///
    /// # Errors
    /// What is missing or makes no sense.
    pub fn from_texts(text: impl Fn(&str) -> Option<String>) -> Result<Self, Unusable> {
        let needed = |name| text(name).ok_or(Unusable::Missing(name));
        let cert = |name| {
            let pem = needed(name)?;
            let read = CertificateDer::from_pem_slice(pem.as_bytes());
            read.map(|_| pem).map_err(|_| Unusable::Garbled(name))
        };
        // Milliseconds since 1970.
        let time = |name| {
            let number = needed(name)?.parse().ok().map(Duration::from_millis);
            number.and_then(|number| UNIX_EPOCH.checked_add(number)).ok_or(Unusable::Garbled(name))
        };
        let authority =
            |crt, key, until| Ok::<_, Unusable>(Authority { cert: cert(crt)?, key: needed(key)?, until: time(until)? });
        Ok(Self {
            current: authority("current.crt", "current.key", "current.until")?,
            next: authority("next.crt", "next.key", "next.until")?,
            previous: text("previous.crt").is_some().then(|| cert("previous.crt")).transpose()?,
            since: time("since")?,
        })
    }
}

/// Whether whoever trusts this bundle, and nothing else, trusts a pair to be a name at a time.
///
/// # Errors
/// Why not.
pub fn trusts(bundle: &str, pair: &Pair, name: &str, at: SystemTime) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
        let cert = cert.map_err(|_| "the caBundle is no PEM".to_owned())?;
        roots.add(cert).map_err(|error| format!("the caBundle: {error}"))?;
    }
    if roots.is_empty() {
        return Err("the caBundle is empty".to_owned());
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let at = UnixTime::since_unix_epoch(at.duration_since(UNIX_EPOCH).unwrap_or_default());
    let (leaf, others) = pair.certified.cert.split_first().ok_or("there is no certificate")?;
    verifier.verify_server_cert(leaf, others, &name, &[], at).map(drop).map_err(|error| match error {
        // All of ours have one name.
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "it is signed by another CA".to_owned()
        }
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "ringfence.ringfence-system.svc";

    fn names() -> Vec<String> {
        vec![NAME.to_owned()]
    }

    fn trusted(by: &Authorities, what: &Pair, at: SystemTime) -> Result<(), String> {
        trusts(&by.bundle(), what, NAME, at)
    }

    #[test]
    fn what_is_served_is_trusted_by_the_bundles_before_and_after_a_rotation() {
        let (now, times) = (SystemTime::now(), Times::default());
        let before = Authorities::new(now, &times).unwrap();
        assert!(!before.is_due(now, &times) && before.is_due(now + times.rotation, &times));
        let (old, renewal) = before.leaf(&names(), now, &times).unwrap();
        assert_eq!(renewal, now + times.leaf * 2 / 3);
        assert_eq!(trusted(&before, &old, now), Ok(()));

        let later = now + times.rotation;
        let after = before.rotated(later, &times).unwrap();
        assert!(!after.is_due(later, &times));
        let (new, _) = after.leaf(&names(), later, &times).unwrap();
        assert_eq!(trusted(&before, &new, later), Ok(()), "who has not heard of the rotation");
        assert_eq!(trusted(&after, &old, now), Ok(()), "who has, and meets a replica that has not");

        let latest = later + times.rotation;
        let last = after.rotated(latest, &times).unwrap();
        assert_eq!(trusted(&last, &new, later), Ok(()));
        assert_eq!(trusted(&last, &old, now), Err("it is signed by another CA".to_owned()), "forgotten in the end");
        assert!(after.is_known_by(&after.bundle()) && !last.is_known_by(&after.bundle()));
    }

    #[test]
    fn what_is_stored_is_what_was_stored() {
        let (now, times) = (UNIX_EPOCH + Duration::from_millis(1_800_000_000_123), Times::default());
        let first = Authorities::new(now, &times).unwrap();
        for stored in [first.clone(), first.rotated(now, &times).unwrap()] {
            let texts = stored.texts();
            assert_eq!(Authorities::from_texts(|name| texts.get(name).cloned()).unwrap(), stored);
        }
        let texts = first.texts();
        for lost in texts.keys() {
            let read = Authorities::from_texts(|name| texts.get(name).filter(|_| name != *lost).cloned());
            assert!(read.unwrap_err().to_string().contains(lost));
        }
    }

    #[test]
    fn after_longer_times_were_set_nothing_outlives_its_authority_and_that_is_replaced_soon() {
        let (now, times) = (SystemTime::now(), Times::default());
        let minutes = |n: u64| Duration::from_secs(60 * n);
        let short = Times { authority: minutes(10), rotation: minutes(3), leaf: minutes(1) };
        let old = Authorities::new(now, &short).unwrap();
        let (_, renewal) = old.leaf(&names(), now, &times).unwrap();
        assert_eq!(renewal, now + minutes(10) * 2 / 3);
        assert!(!old.is_due(now, &times), "not before everybody has heard of the last rotation");
        let (first, second) = (now + HEARD, now + 2 * HEARD);
        assert!(old.is_due(first, &times) && !old.is_due(first, &short));
        let between = old.rotated(first, &times).unwrap();
        assert!(!between.is_due(first, &times) && between.is_due(second, &times));
        assert!(!between.rotated(second, &times).unwrap().is_due(second + HEARD, &times));
    }

    #[test]
    fn an_authority_that_ends_or_is_not_its_key_s_signs_nothing() {
        let (now, times) = (SystemTime::now(), Times::default());
        let authorities = Authorities::new(now, &times).unwrap();
        assert!(authorities.leaf(&names(), now + times.authority, &times).is_err());
        let mut mixed = authorities.clone();
        mixed.current.key = mixed.next.key.clone();
        mixed.next = mixed.current.clone();
        assert!(matches!(mixed.leaf(&names(), now, &times), Err(Unusable::Distrusted(_))));
        let garbled = Authority { key: "x".to_owned(), ..authorities.current.clone() };
        assert!(Authorities { current: garbled, ..authorities }.leaf(&names(), now, &times).is_err());
    }
}
