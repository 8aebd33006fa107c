//! A key of a session's own, and what Vault signed over it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ssh_key::certificate::CertType;
use ssh_key::private::Ed25519Keypair;
use ssh_key::{Certificate, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::error::VaultError;
use crate::credential::Material;
use crate::model::Secret;

/// A key that nobody has seen.
pub(super) struct SessionKey(PrivateKey);

impl SessionKey {
    pub(super) fn new() -> Self {
        let seed = Zeroizing::new(rand::random::<[u8; 32]>());
        Self(PrivateKey::from(Ed25519Keypair::from_seed(&seed)))
    }

    /// Its public half, as a line of OpenSSH's.
    pub(super) fn public(&self) -> Result<String, VaultError> {
        self.0.public_key().to_openssh().map_err(|_| VaultError::Key)
    }

    /// The key with its certificate, and when that ends. It has to be a user certificate over this key, for none but
    /// `principals`, with an end that has not come.
    pub(super) fn certified(
        &self,
        line: &str,
        principals: &[String],
    ) -> Result<(Material, SystemTime), VaultError> {
        let wrong = VaultError::Certificate;
        let certificate =
            Certificate::from_openssh(line).map_err(|_| wrong("what it answers is no certificate"))?;
        if certificate.public_key() != self.0.public_key().key_data() {
            return Err(wrong("the certificate is over another key"));
        }
        if certificate.cert_type() != CertType::User {
            return Err(wrong("the certificate is none of a user"));
        }
        let named = certificate.valid_principals();
        // None would be every user.
        if named.is_empty() || named.iter().any(|name| !principals.contains(name)) {
            return Err(wrong("the certificate is for other principals"));
        }
        let before = certificate.valid_before();
        let ends = UNIX_EPOCH
            .checked_add(Duration::from_secs(before))
            .filter(|_| before < u64::from(u32::MAX))
            .ok_or_else(|| wrong("the certificate has no end"))?;
        if ends <= SystemTime::now() {
            return Err(VaultError::Ended);
        }
        let mut private = self.0.to_openssh(LineEnding::LF).map_err(|_| VaultError::Key)?;
        let material = Material::Key {
            private: Secret::new(std::mem::take(&mut *private).into_bytes()),
            certificate: Some(Secret::new(line.as_bytes().to_vec())),
        };
        Ok((material, ends))
    }
}
