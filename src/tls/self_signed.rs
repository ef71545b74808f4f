//! A server certificate and the authority that was made for it, as three PEM texts.
//!
//! [`issue`] answers what clients trust, what the server shows, and the key. Used where nobody has given certificates and
//! nobody needs a second one: the demo and tests.

use super::authority::Authority;
use std::{
    io,
    path::Path,
    time::{Duration, SystemTime},
};

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
    let now = SystemTime::now();
    let authority = Authority::new(now, valid)?;
    let leaf = authority.leaf(names, now, valid)?;
    Ok(SelfSigned { ca: authority.cert, chain: leaf.chain, key: leaf.key })
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
