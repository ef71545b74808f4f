//! A certificate authority of one's own, and a server certificate from it.
//!
//! [`issue`] answers three PEM texts: what clients trust, what the server shows, and the key. Used where nobody has given
//! certificates: the demo and tests.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::{
    io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Clocks of other machines may be behind by this much.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// A CA and a leaf, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SelfSigned {
    /// What clients have to trust: the `caBundle` of a webhook configuration.
    pub ca: String,
    /// What the server shows. The CA is not among it: whoever trusts it has it.
    pub chain: String,
    /// The private key of the leaf, PKCS#8. The CA's is forgotten as soon as it has signed.
    pub key: String,
}

/// Issues a leaf for DNS names and IP addresses (whatever parses as an address is one).
///
/// # Errors
/// A name that no certificate can hold.
pub fn issue(names: &[impl AsRef<str>], valid: Duration) -> Result<SelfSigned, rcgen::Error> {
    // A clock before 1970 gives a certificate of 1970: its user sees at once what is wrong.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let from = date_time_ymd(1970, 1, 1) + now.saturating_sub(CLOCK_SKEW);
    let until = date_time_ymd(1970, 1, 1) + now + valid;

    let mut ca = CertificateParams::default();
    (ca.not_before, ca.not_after) = (from, until);
    ca.distinguished_name.push(DnType::CommonName, "ringfence CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate()?)?;

    let key = KeyPair::generate()?;
    let names: Vec<String> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    let mut leaf = CertificateParams::new(names)?;
    (leaf.not_before, leaf.not_after) = (from, until);
    leaf.distinguished_name.push(DnType::CommonName, "ringfence admission");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let leaf = leaf.signed_by(&key, &ca)?;

    Ok(SelfSigned { ca: ca.pem(), chain: leaf.pem(), key: key.serialize_pem() })
}

impl SelfSigned {
    /// Writes `ca.crt`, `tls.crt` and `tls.key` into a directory, the key for its owner only.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::write(directory.join("ca.crt"), &self.ca)?;
        std::fs::write(directory.join("tls.crt"), &self.chain)?;
        write_for_owner(&directory.join("tls.key"), &self.key)
    }
}

fn write_for_owner(path: &Path, text: &str) -> io::Result<()> {
    use std::{io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
