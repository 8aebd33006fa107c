//! Proofs of a password, by the name of the method.

use aws_lc_rs::digest::{Algorithm, Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use zeroize::Zeroizing;

use super::MysqlError;
use super::greeting::CHALLENGE;

const NATIVE: &str = "mysql_native_password";
const CACHING: &str = "caching_sha2_password";
const ED25519: &str = "client_ed25519";
/// Bytes of the challenge of [`ED25519`].
const ED25519_CHALLENGE: usize = 32;

/// What a server is told of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// MariaDB's own, and MySQL's before 8.
    Native,
    /// MySQL 8.
    Caching,
    /// MariaDB, where it is installed.
    Ed25519,
}

impl Method {
    /// The method of this name. One that is not known is refused: the name of it is all that is told, and it is the server's.
    pub(super) fn of(name: &str) -> Result<Self, MysqlError> {
        match name {
            NATIVE => Ok(Self::Native),
            CACHING => Ok(Self::Caching),
            ED25519 => Ok(Self::Ed25519),
            other => {
                let mut shown = other.escape_debug().to_string();
                shown.truncate(64);
                Err(MysqlError::Method(shown))
            }
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => NATIVE,
            Self::Caching => CACHING,
            Self::Ed25519 => ED25519,
        }
    }

    /// The answer to `challenge`.
    pub(super) fn prove(self, password: &[u8], challenge: &[u8]) -> Result<Vec<u8>, MysqlError> {
        let challenge = challenge
            .get(..self.challenge())
            .ok_or(MysqlError::Protocol("a challenge that is too short"))?;
        match self {
            Self::Native => Ok(scramble(&SHA1_FOR_LEGACY_USE_ONLY, password, challenge, true)),
            Self::Caching => Ok(scramble(&SHA256, password, challenge, false)),
            Self::Ed25519 => Ok(sign(password, challenge)),
        }
    }

    /// Bytes of its challenge.
    fn challenge(self) -> usize {
        match self {
            Self::Native | Self::Caching => CHALLENGE,
            Self::Ed25519 => ED25519_CHALLENGE,
        }
    }
}

/// H(password) xor H(challenge, H(H(password))); with `caching_sha2_password` the challenge comes second.
fn scramble(hash: &'static Algorithm, password: &[u8], challenge: &[u8], challenge_first: bool) -> Vec<u8> {
    let once = digest(hash, &[password]);
    let twice = digest(hash, &[&once]);
    let mask = if challenge_first {
        digest(hash, &[challenge, &twice])
    } else {
        digest(hash, &[&twice, challenge])
    };
    once.iter()
        .zip(mask.iter())
        .map(|(one, other)| one ^ other)
        .collect()
}

/// Wiped: what it is of may be a password, and then it can be as good as that.
fn digest(hash: &'static Algorithm, parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut context = Context::new(hash);
    for part in parts {
        context.update(part);
    }
    Zeroizing::new(context.finish().as_ref().to_vec())
}

/// Ed25519 with the password where RFC 8032 has the seed, which may be of any length.
fn sign(password: &[u8], challenge: &[u8]) -> Vec<u8> {
    let expanded = digest(&aws_lc_rs::digest::SHA512, &[password]);
    let mut bytes = Zeroizing::new([0; 64]);
    bytes.copy_from_slice(&expanded);
    let key = ExpandedSecretKey::from_bytes(&bytes);
    let public = ed25519_dalek::VerifyingKey::from(&key);
    raw_sign::<ed25519_dalek::Sha512>(&key, challenge, &public).to_vec()
}

/// What `mysql_native_password` has a server keep: it can be told that instead of the password.
pub(crate) fn native_hash(password: &[u8]) -> String {
    let hash = &SHA1_FOR_LEGACY_USE_ONLY;
    let twice = digest(hash, &[&digest(hash, &[password])]);
    format!("*{}", hex::encode_upper(twice))
}

#[cfg(test)]
mod tests {
    use super::{Method, native_hash};

    #[test]
    fn proofs_are_those_of_the_servers() {
        // SELECT PASSWORD('hunter2') of MariaDB 10.11.
        assert_eq!(
            native_hash(b"hunter2"),
            "*58815970BE77B3720276F63DB198B1FA42E5CC02"
        );
        assert_eq!(Method::Native.prove(b"x", &[7; 20]).unwrap().len(), 20);
        assert_eq!(Method::Caching.prove(b"x", &[7; 20]).unwrap().len(), 32);
        assert_eq!(Method::Ed25519.prove(b"x", &[7; 32]).unwrap().len(), 64);
        assert!(Method::Ed25519.prove(b"x", &[7; 20]).is_err());
    }

    #[test]
    fn a_method_that_gives_the_password_away_is_refused() {
        for name in [
            "mysql_clear_password",
            "dialog",
            "mysql_old_password",
            "sha256_password",
            "",
            "\u{1b}[2J",
        ] {
            let error = Method::of(name).unwrap_err().to_string();
            assert!(!error.contains('\u{1b}'), "{error}");
        }
    }
}
