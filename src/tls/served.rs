//! The certificate that handshakes get, replaced as a whole while the server runs.
//!
//! [`Served::reload`] reads the files again and answers whether something changed. It is meant to be asked every few
//! seconds: a file watch goes deaf when the kubelet swaps the `..data` link of a mounted Secret. A pair that cannot be
//! served leaves the old one in place.

use super::{Files, Pair, TlsError};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::sync::{Arc, PoisonError, RwLock};

/// The last good pair of two files.
#[derive(Debug)]
pub struct Served {
    files: Files,
    current: RwLock<Pair>,
}

impl Served {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// As [`Files::load`]: there is nothing to fall back to yet.
    pub fn load(files: Files) -> Result<Arc<Self>, TlsError> {
        let current = RwLock::new(files.load()?);
        Ok(Arc::new(Self { files, current }))
    }

    /// Reads the files again: `true` when new handshakes get another pair from now on.
    ///
    /// # Errors
    /// As [`Files::load`]; the old pair stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pair = self.files.load()?;
        // A pair is replaced as a whole, so one that a panicking thread left behind is still a good one.
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *current != pair;
        if changed {
            *current = pair;
        }
        Ok(changed)
    }

    /// A configuration for TLS 1.2 and 1.3 that speaks HTTP/1.1: an API server asks a Service for nothing else
    /// (apiserver `pkg/util/webhook/client.go`).
    ///
    /// # Errors
    /// When the cryptography of this build supports neither version, which no build does.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().unwrap_or_else(PoisonError::into_inner).certified.clone())
    }
}
