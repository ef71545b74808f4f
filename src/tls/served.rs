//! The certificate that handshakes get, replaced as a whole while the server runs.
//!
//! [`Served`] holds what was last good. Where it comes from files, [`Served::reload`] reads them again and answers whether
//! something changed. It is meant to be asked every few seconds: a file watch goes deaf when the kubelet swaps the `..data`
//! link of a mounted Secret. A pair that cannot be served leaves the old one in place.

use super::{Clients, Files, Pair, TlsError};
use rustls::{
    ServerConfig,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use std::sync::Arc;
use tokio::sync::watch;

/// The last good pair.
#[derive(Debug, Default)]
pub struct Served {
    /// Where it comes from, unless somebody gives it.
    files: Option<Files>,
    current: watch::Sender<Option<Pair>>,
}

impl Served {
    /// Reads the pair for the first time.
    ///
    /// # Errors
    /// As [`Files::load`]: there is nothing to fall back to yet.
    pub fn load(files: Files) -> Result<Arc<Self>, TlsError> {
        let current = watch::Sender::new(Some(files.load()?));
        Ok(Arc::new(Self { files: Some(files), current }))
    }

    /// Reads the files again: `true` when new handshakes get another pair from now on.
    ///
    /// # Errors
    /// As [`Files::load`]; the old pair stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        match &self.files {
            Some(files) => Ok(self.put(files.load()?)),
            None => Ok(false),
        }
    }

    /// New handshakes get this pair from now on: `true` when it is another one. Without any, they fail.
    pub fn put(&self, pair: Pair) -> bool {
        let pair = Some(pair);
        self.current.send_if_modified(|current| {
            let changed = *current != pair;
            if changed {
                *current = pair;
            }
            changed
        })
    }

    /// Waits until there is a pair: before that no handshake could succeed.
    pub async fn is_there(&self) {
        // It fails where the sender is gone, which is this.
        let _ = self.current.subscribe().wait_for(Option::is_some).await;
    }

    /// A configuration for TLS 1.2 and 1.3 that speaks HTTP/1.1: an API server asks a Service for nothing else
    /// (apiserver `pkg/util/webhook/client.go`). Without `clients` everybody may connect.
    ///
    /// # Errors
    /// When the cryptography of this build supports neither version, which no build does.
    pub fn server_config(self: &Arc<Self>, clients: Option<Clients>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13, &TLS12])?;
        let config = match clients {
            Some(Clients(verifier)) => config.with_client_cert_verifier(verifier),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Served {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.borrow().as_ref().map(|pair| pair.certified.clone())
    }
}
