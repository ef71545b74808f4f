//! One certificate authority: it signs server certificates, for as long as somebody holds its key.
//!
//! [`Authority::new`] makes one, [`Authority::leaf`] a certificate from it. What is stored of it are two PEM texts; the name
//! in all authorities is the same, so that nothing of the certificate has to be read to sign with it.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clocks of other machines may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A certificate authority and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Authority {
    /// What clients have to trust.
    pub(super) cert: String,
    /// What signs.
    pub(super) key: String,
    /// When its certificate ends.
    pub(super) until: SystemTime,
}

impl std::fmt::Debug for Authority {
    /// Without the key: what is logged is read by many.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("cert", &self.cert).field("until", &self.until).finish_non_exhaustive()
    }
}

/// A server certificate and its key, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Leaf {
    /// What the server shows. The authority is not among it: whoever trusts it has it.
    pub(super) chain: String,
    /// Its private key, PKCS#8.
    pub(super) key: String,
}

impl Authority {
    /// One with a key of its own.
    ///
    /// # Errors
    /// When there is no randomness for a key.
    pub(super) fn new(now: SystemTime, life: Duration) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let cert = params(now, life)?.self_signed(&key)?;
        Ok(Self { cert: cert.pem(), key: key.serialize_pem(), until: now + life })
    }

    /// Signs a certificate for DNS names and IP addresses (whatever parses as an address is one).
    ///
    /// # Errors
    /// A name that no certificate can hold; a key that is none.
    pub(super) fn leaf(
        &self,
        names: &[impl AsRef<str>],
        now: SystemTime,
        life: Duration,
    ) -> Result<Leaf, rcgen::Error> {
        let issuer = Issuer::new(params(now, life)?, KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
        let mut leaf = CertificateParams::new(names)?;
        set_validity(&mut leaf, now, life);
        leaf.distinguished_name.push(DnType::CommonName, "ringfence admission");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        leaf.use_authority_key_identifier_extension = true;
        Ok(Leaf { chain: leaf.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
    }
}

fn params(now: SystemTime, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    set_validity(&mut params, now, life);
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "ringfence CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn set_validity(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    // A clock before 1970 gives a certificate of 1970: its user sees at once what is wrong.
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(CLOCK_SKEW);
    params.not_after = date_time_ymd(1970, 1, 1) + now + life;
}
