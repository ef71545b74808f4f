//! Who may connect, where that is asked for: whoever shows a certificate of one authority.
//!
//! `file -> Clients`, by [`Clients::load`]. The rest never gets as far as a request: the handshake ends.

use super::{TlsError, files};
use rustls::{
    RootCertStore,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use std::{path::Path, sync::Arc};

/// What a client has to show.
#[derive(Debug, Clone)]
pub struct Clients(pub(super) Arc<dyn ClientCertVerifier>);

impl Clients {
    /// Those with a certificate that one of these authorities signed, for the use as a client.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(path: &Path) -> Result<Self, TlsError> {
        let unusable = |why: String| TlsError::UnusableAuthority { path: path.to_owned(), why };
        let text = std::fs::read(path).map_err(|why| TlsError::ReadAuthority { path: path.to_owned(), why })?;
        let mut roots = RootCertStore::empty();
        for certificate in files::chain(path, &text)? {
            roots.add(certificate).map_err(|why| unusable(why.to_string()))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        verifier.map(Self).map_err(|why| unusable(why.to_string()))
    }
}
