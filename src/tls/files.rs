//! A certificate chain and its key, as two PEM files.
//!
//! `Files -> load() -> Pair`: read, parsed and checked against each other. Every way in which that fails is one line that
//! names the file and what to do about it.

use rustls::{
    InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where a certificate chain and its key stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain in PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// Its private key in PEM: PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the sentences say it")]
pub enum TlsError {
    #[error("cannot read the certificate file {}: {why}; give a PEM file that this process may read", path.display())]
    ReadCertificate { path: PathBuf, why: io::Error },
    #[error("cannot read the key file {}: {why}; give a PEM file that this process may read", path.display())]
    ReadKey { path: PathBuf, why: io::Error },
    #[error("{} holds no certificate; it must begin with -----BEGIN CERTIFICATE-----, the server's own first", path.display())]
    NoCertificate { path: PathBuf },
    #[error("{} holds no private key; it must hold one in PEM that is not encrypted", path.display())]
    NoKey { path: PathBuf },
    #[error("{} is not PEM: {why}; write the file again", path.display())]
    NotPem { path: PathBuf, why: String },
    #[error("the key in {} does not belong to the first certificate in {}; give the pair that was issued together", key.display(), cert.display())]
    Mismatch { cert: PathBuf, key: PathBuf },
    #[error("cannot read the file of client authorities {}: {why}; give a PEM file that this process may read", path.display())]
    ReadAuthority { path: PathBuf, why: io::Error },
    #[error("{} holds no authority: {why}; it must hold certificates of a CA, each from -----BEGIN CERTIFICATE----- on", path.display())]
    UnusableAuthority { path: PathBuf, why: String },
    #[error("cannot serve {} with {}: {why}; issue the pair again", cert.display(), key.display())]
    Unusable { cert: PathBuf, key: PathBuf, why: rustls::Error },
}

/// A chain and a key that belong together.
#[derive(Debug, Clone)]
pub struct Pair {
    /// What a handshake needs.
    pub certified: Arc<CertifiedKey>,
    /// The two texts that it was read from, to see whether they changed.
    source: (Vec<u8>, Vec<u8>),
}

impl PartialEq for Pair {
    /// Two pairs are the same when their texts are.
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Pair {
    /// From PEM that was made here.
    pub(super) fn issued(chain: String, key: String) -> Result<Self, rustls::Error> {
        let wrong = |error: pem::Error| rustls::Error::General(error.to_string());
        let certs = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<_, _>>().map_err(wrong)?;
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(wrong)?;
        let certified = CertifiedKey::from_der(certs, private, &rustls::crypto::ring::default_provider())?;
        Ok(Self { certified: Arc::new(certified), source: (chain.into_bytes(), key.into_bytes()) })
    }
}

impl Files {
    /// Reads both files and checks them against each other.
    ///
    /// # Errors
    /// See [`TlsError`]. A pair that is being replaced may be read half and half: ask again a little later.
    pub fn load(&self) -> Result<Pair, TlsError> {
        let Files { cert, key } = self;
        let chain_pem = std::fs::read(cert).map_err(|why| TlsError::ReadCertificate { path: cert.clone(), why })?;
        let key_pem = std::fs::read(key).map_err(|why| TlsError::ReadKey { path: key.clone(), why })?;
        let chain = certificates(cert, &chain_pem)?;
        let private = private_key(key, &key_pem)?;
        let certified =
            CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|why| {
                let (cert, key) = (cert.clone(), key.clone());
                match why {
                    rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch { cert, key },
                    why => TlsError::Unusable { cert, key, why },
                }
            })?;
        Ok(Pair { certified: Arc::new(certified), source: (chain_pem, key_pem) })
    }
}

/// Every certificate of a text.
pub(super) fn chain(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(|why| not_pem(path, why))
}

fn certificates(path: &Path, text: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain = chain(path, text)?;
    if chain.is_empty() { Err(TlsError::NoCertificate { path: path.to_owned() }) } else { Ok(chain) }
}

fn private_key(path: &Path, text: &[u8]) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|why| match why {
        pem::Error::NoItemsFound => TlsError::NoKey { path: path.to_owned() },
        why => not_pem(path, why),
    })
}

fn not_pem(path: &Path, why: pem::Error) -> TlsError {
    // The markers are bytes to the parser; its own words for them are lists of numbers.
    let shown = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let why = match &why {
        pem::Error::MissingSectionEnd { end_marker } => format!("there is no -----END {}-----", shown(end_marker)),
        pem::Error::IllegalSectionStart { line } => format!("a section begins with {}", shown(line)),
        why => why.to_string(),
    };
    TlsError::NotPem { path: path.to_owned(), why }
}
