//! The key that certificates are signed with. Read for each, and kept no longer.

use ssh_key::{Algorithm, EcdsaCurve, PrivateKey};

use super::error::SshCaError;
use crate::config::SourceSpec;
use crate::credential::CredentialError;
use crate::credential::source::Source;

/// Reads it.
pub(super) async fn read(spec: &SourceSpec) -> Result<PrivateKey, CredentialError> {
    let source = Source::open(spec)?;
    // A secret may lie on a file system that blocks.
    tokio::task::spawn_blocking(move || {
        let text = source.read()?;
        // Read to sign with it.
        Ok(parse(text.expose(), &source.to_string())?)
    })
    .await
    .map_err(|_| CredentialError::BrokenOff)?
}

fn parse(text: &[u8], origin: &str) -> Result<PrivateKey, SshCaError> {
    let origin = || origin.to_owned();
    // What the library says of a key that is none may hold parts of it.
    let key = PrivateKey::from_openssh(text).map_err(|_| SshCaError::NoKey { origin: origin() })?;
    if key.is_encrypted() {
        return Err(SshCaError::Passphrase { origin: origin() });
    }
    match key.algorithm() {
        Algorithm::Ed25519
        | Algorithm::Ecdsa {
            curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384,
        } => Ok(key),
        kind => Err(SshCaError::Kind {
            origin: origin(),
            kind: kind.to_string(),
        }),
    }
}
