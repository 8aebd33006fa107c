//! A secret in a file that is encrypted with age (<https://age-encryption.org/v1>), binary or armoured.
//!
//! The encrypted file may lie in a repository of configuration; what opens it is an X25519 identity, in a file or a
//! credential of the agent's unit, guarded as every other secret. Both are read at each use, so that a file that was
//! encrypted anew counts from the next session on.
//!
//! Known limits: passphrases are refused, since nobody is there to type one, and so are plugins' and SSH keys. Whoever may
//! write the encrypted file chooses the secret, since age says nothing of who encrypted: so it is guarded against writing.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use age::armor::ArmoredReader;
use age::x25519::Identity;
use age::{DecryptError, Decryptor};
use zeroize::Zeroizing;

use super::CredentialError;
use super::source::{LONGEST_FILE, Source, WRITABLE, guarded};

/// The longest secret in armour (four letters for three bytes, and line ends), after a header with many recipients.
const LONGEST_ENCRYPTED: usize = 2 * LONGEST_FILE + 16 * 1024;
const IDENTITY: &str = "AGE-SECRET-KEY-1";

/// Why an encrypted file gives no secret. Nothing of what is in it, or in the identity, is in it.
#[derive(Debug, thiserror::Error)]
pub enum AgeError {
    /// Something else.
    #[error("{} is no age file: encrypt the secret with `age -r age1… -o {0}`", .path.display())]
    NoAge {
        /// The file.
        path: PathBuf,
    },
    /// To a passphrase.
    #[error("{} is encrypted to a passphrase, and nobody is there to type one: encrypt it to a recipient with `age -r age1…`", .path.display())]
    Passphrase {
        /// The file.
        path: PathBuf,
    },
    /// To somebody else.
    #[error("{} is encrypted to other recipients than the identity in {identity}: encrypt it to the one that `age-keygen -y` prints for that", .path.display())]
    NotForUs {
        /// The file.
        path: PathBuf,
        /// Where the identity is.
        identity: String,
    },
    /// Cut or changed.
    #[error("{} is cut short or was changed since it was encrypted: encrypt the secret again", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The identity is none.
    #[error(
        "{origin} holds no age identity: it has to have a line AGE-SECRET-KEY-1…, as `age-keygen` writes it"
    )]
    NoIdentity {
        /// Where it was to be.
        origin: String,
    },
    /// The identity is of another kind, or misspelt.
    #[error(
        "{origin} has a line that is no X25519 identity of age: plugins, SSH keys and encrypted identities are not taken"
    )]
    OtherIdentity {
        /// Where it is.
        origin: String,
    },
}

/// Opens the file at `path` with the identity that `identity` gives.
pub(super) fn read(path: &Path, identity: &Source) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let encrypted = guarded(path, WRITABLE, LONGEST_ENCRYPTED)?;
    let text = identity.read()?;
    // Read for its keys, which open the file.
    let identities = identities(text.expose(), &identity.to_string())?;
    let plain = open(path, &encrypted, &identities, &identity.to_string())?;
    if plain.len() > LONGEST_FILE {
        return Err(CredentialError::TooLong {
            origin: format!("what is in {}", path.display()),
            limit: LONGEST_FILE as u64,
        });
    }
    Ok(plain)
}

fn identities(text: &[u8], origin: &str) -> Result<Vec<Identity>, AgeError> {
    let other = || AgeError::OtherIdentity {
        origin: origin.to_owned(),
    };
    let text = std::str::from_utf8(text).map_err(|_| other())?;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if !line.starts_with(IDENTITY) {
            return Err(other());
        }
        found.push(Identity::from_str(line).map_err(|_| other())?);
    }
    if found.is_empty() {
        return Err(AgeError::NoIdentity {
            origin: origin.to_owned(),
        });
    }
    Ok(found)
}

fn open(
    path: &Path,
    encrypted: &[u8],
    identities: &[Identity],
    origin: &str,
) -> Result<Zeroizing<Vec<u8>>, AgeError> {
    let path = path.to_owned();
    let decryptor = Decryptor::new(ArmoredReader::new(encrypted)).map_err(|error| match error {
        DecryptError::Io(_) | DecryptError::InvalidMac if looks_like_age(encrypted) => {
            AgeError::Damaged { path: path.clone() }
        }
        _ => AgeError::NoAge { path: path.clone() },
    })?;
    if decryptor.is_scrypt() {
        return Err(AgeError::Passphrase { path });
    }
    let keys = identities.iter().map(|identity| identity as &dyn age::Identity);
    let reader = decryptor.decrypt(keys).map_err(|error| match error {
        DecryptError::NoMatchingKeys => AgeError::NotForUs {
            path: path.clone(),
            identity: origin.to_owned(),
        },
        _ => AgeError::Damaged { path: path.clone() },
    })?;
    // One allocation of the largest size: a vector that grows leaves copies of the secret behind.
    let mut plain = Zeroizing::new(Vec::with_capacity(LONGEST_FILE + 1));
    reader
        .take(LONGEST_FILE as u64 + 1)
        .read_to_end(&mut plain)
        .map_err(|_| AgeError::Damaged { path })?;
    Ok(plain)
}

fn looks_like_age(encrypted: &[u8]) -> bool {
    [&b"age-encryption.org/"[..], b"-----BEGIN AGE"]
        .iter()
        .any(|start| encrypted.starts_with(start))
}
