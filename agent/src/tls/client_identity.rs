//! A certificate that the agent shows to a target in the workload's place (mutual TLS).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// Sessions of TLS that are kept for resumption: one target needs one or two.
const KEPT_SESSIONS: usize = 8;

/// A certificate with its key, and sessions that were begun with it.
#[derive(Clone)]
pub struct ClientIdentity {
    key: Arc<CertifiedKey>,
    /// Its own: a session that was begun with one certificate must not be resumed by whoever has another.
    pub(super) resumption: Resumption,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientIdentity")
    }
}

impl ClientIdentity {
    /// `pem`: the certificate, those of the authorities between it and the root, and the private key, unencrypted; in one
    /// text, in any order.
    ///
    /// # Errors
    /// One of them is missing, or they do not belong together. The text is not in the error.
    pub fn from_pem(pem: &[u8]) -> Result<Self, TlsError> {
        Self::from_parts(pem, pem)
    }

    /// As [`ClientIdentity::from_pem`], with the certificates in one text and the key in another.
    pub fn from_parts(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<_, _>>()
            .map_err(|_| TlsError::NotAnIdentity)?;
        if chain.is_empty() {
            return Err(TlsError::NotAnIdentity);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NotAnIdentity)?;
        // Compares the public key in the certificate with the private one.
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|_| TlsError::NotAnIdentity)?;
        Ok(Self {
            key: Arc::new(key),
            resumption: Resumption::in_memory_sessions(KEPT_SESSIONS),
        })
    }
}

/// Shows the certificate, if there is one, and remembers whether it was asked for one.
#[derive(Debug)]
pub(super) struct Shown {
    identity: Option<ClientIdentity>,
    asked: AtomicBool,
}

impl Shown {
    pub(super) fn new(identity: Option<ClientIdentity>) -> Self {
        Self {
            identity,
            asked: AtomicBool::new(false),
        }
    }

    pub(super) fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.asked.store(true, Ordering::Relaxed);
        self.identity.as_ref().map(|identity| Arc::clone(&identity.key))
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}
