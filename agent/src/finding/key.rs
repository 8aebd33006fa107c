//! The key of the fingerprints, and what is computed with it.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::ZeroizeOnDrop;

use super::sighting::{SecretKind, Sighting};

/// Digits of a fingerprint: 128 bits.
const DIGITS: usize = 32;

/// Stands for a secret: 32 hexadecimal digits. Equal secrets have equal ones on one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The host's key of fingerprints, and what is derived from it.
#[derive(ZeroizeOnDrop)]
pub struct FindingKey {
    secrets: [u8; 32],
    proofs: [u8; 32],
    ids: [u8; 32],
    salt: [u8; 4],
}

impl FindingKey {
    /// From the host's key.
    pub fn new(key: &[u8; 32]) -> Self {
        let [a, b, c, d, ..] = blake3::derive_key("tollgate 2026 finding salt of proofs", key);
        Self {
            secrets: blake3::derive_key("tollgate 2026 finding fingerprints of secrets", key),
            proofs: blake3::derive_key("tollgate 2026 finding fingerprints of proofs", key),
            ids: blake3::derive_key("tollgate 2026 finding ids", key),
            salt: [a, b, c, d],
        }
    }

    /// The salt that clients are asked for a proof with: always the same, so that the same password gives the same proof.
    pub(super) fn salt(&self) -> [u8; 4] {
        self.salt
    }

    /// What stands for the secret of `sighting`. A proof has another one than the password that it proves: that is not known.
    pub(super) fn fingerprint(&self, sighting: &Sighting) -> Fingerprint {
        let key = match sighting.kind {
            SecretKind::PasswordProof => &self.proofs,
            SecretKind::Password
            | SecretKind::Token
            | SecretKind::PrivateKey
            | SecretKind::AwsAccessKey
            | SecretKind::Other => &self.secrets,
        };
        // Hashed with a key; nothing else is kept of it.
        let hex = blake3::keyed_hash(key, sighting.secret.expose()).to_hex();
        Fingerprint(hex.chars().take(DIGITS).collect())
    }

    /// A short name for what `parts` say together: twelve hexadecimal digits.
    pub(super) fn id(&self, parts: &[&str]) -> String {
        let mut hasher = blake3::Hasher::new_keyed(&self.ids);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().to_hex().chars().take(12).collect()
    }
}

impl fmt::Debug for FindingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FindingKey")
    }
}
