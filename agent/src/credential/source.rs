//! One source of one secret.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{CredentialError, age};
use crate::config::SourceSpec;
use crate::model::Secret;

/// Where one part of a login comes from, opened.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A user name written in the policy. In `Secret` like the rest: records name no injected user.
    Literal(Secret),
    File(PathBuf),
    Env {
        name: String,
        value: Secret,
    },
    /// A file that systemd guards by its directory.
    Systemd(PathBuf),
    /// A file that is encrypted with age, and what opens it.
    Age {
        path: PathBuf,
        identity: Box<Source>,
    },
}

impl Source {
    pub(super) fn open(spec: &SourceSpec) -> Result<Self, CredentialError> {
        Self::open_in(spec, std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from))
    }

    /// [`Source::open`], with the credentials directory named.
    pub(super) fn open_in(spec: &SourceSpec, directory: Option<PathBuf>) -> Result<Self, CredentialError> {
        Ok(match spec {
            SourceSpec::Age { file, identity } => Self::Age {
                path: file.clone(),
                identity: Box::new(Self::open_in(identity, directory)?),
            },
            SourceSpec::Literal(text) => {
                Self::Literal(checked(Zeroizing::new(text.clone().into_bytes()), || {
                    "a user name".to_owned()
                })?)
            }
            SourceSpec::File(path) => Self::File(path.clone()),
            SourceSpec::Env(name) => {
                let value = std::env::var_os(name)
                    .ok_or_else(|| CredentialError::NoVariable { name: name.clone() })?;
                let value = Zeroizing::new(value.into_vec());
                Self::Env {
                    name: name.clone(),
                    value: checked(value, || format!("the variable {name}"))?,
                }
            }
            SourceSpec::Systemd(name) => {
                if name.is_empty() || name.contains('/') || name == "." || name == ".." {
                    return Err(CredentialError::BadCredentialName { name: name.clone() });
                }
                let directory = directory
                    .ok_or_else(|| CredentialError::NoCredentialsDirectory { name: name.clone() })?;
                Self::Systemd(directory.join(name))
            }
        })
    }

    pub(super) fn read(&self) -> Result<Secret, CredentialError> {
        match self {
            Self::Literal(value) | Self::Env { value, .. } => Ok(value.clone()),
            Self::File(path) => read_file(path, GROUP_AND_OTHERS),
            // Where the unit runs as another user than root, systemd grants the file by an ACL, whose mask
            // shows as group bits; the directory keeps everybody else out.
            Self::Systemd(path) => read_file(path, OTHERS),
            Self::Age { path, identity } => {
                let plain = age::read(path, identity)?;
                checked(without_newline(plain), || {
                    format!("what is in {}", path.display())
                })
            }
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("the policy"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Env { name, .. } => write!(f, "variable {name}"),
            Self::Systemd(path) => write!(f, "systemd credential {}", path.display()),
            Self::Age { path, identity } => write!(f, "age file {}, opened with {identity}", path.display()),
        }
    }
}

fn read_file(path: &Path, forbidden: u32) -> Result<Secret, CredentialError> {
    let bytes = guarded(path, forbidden, LONGEST_FILE)?;
    checked(without_newline(bytes), || {
        format!("the secret file {}", path.display())
    })
}

fn without_newline(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    bytes
}

/// The bytes of a file of at most `limit`, which nobody whom `forbidden` names may have touched.
pub(super) fn guarded(
    path: &Path,
    forbidden: u32,
    limit: usize,
) -> Result<Zeroizing<Vec<u8>>, CredentialError> {
    let failed = |source| CredentialError::Read {
        path: path.to_owned(),
        source,
    };
    let file = OpenOptions::new()
        .read(true)
        // A pipe must not hold the session up before it is seen to be one.
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY)
        .open(path)
        .map_err(failed)?;
    check_guarded(&file, path, forbidden)?;
    // One allocation of the largest size: a vector that grows leaves copies of the secret behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 1));
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > limit {
        return Err(CredentialError::TooLong {
            origin: format!("the secret file {}", path.display()),
            limit: limit as u64,
        });
    }
    Ok(bytes)
}

/// Asked of the open file, not of the path: between the two somebody could exchange it.
fn check_guarded(file: &File, path: &Path, forbidden: u32) -> Result<(), CredentialError> {
    let metadata = file.metadata().map_err(|source| CredentialError::Read {
        path: path.to_owned(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(CredentialError::NotAFile {
            path: path.to_owned(),
        });
    }
    let owner = metadata.uid();
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        return Err(CredentialError::ForeignOwner {
            path: path.to_owned(),
            owner,
        });
    }
    let mode = metadata.mode() & 0o7777;
    if mode & forbidden != 0 {
        let path = path.to_owned();
        return Err(if forbidden == WRITABLE {
            CredentialError::Writable { path, mode }
        } else {
            CredentialError::Exposed { path, mode }
        });
    }
    Ok(())
}

fn checked(mut bytes: Zeroizing<Vec<u8>>, origin: impl Fn() -> String) -> Result<Secret, CredentialError> {
    if bytes.is_empty() {
        return Err(CredentialError::Empty { origin: origin() });
    }
    if memchr::memchr(0, &bytes).is_some() {
        return Err(CredentialError::ZeroByte { origin: origin() });
    }
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}

const GROUP_AND_OTHERS: u32 = 0o077;
const OTHERS: u32 = 0o007;
/// What an encrypted file is guarded against: its bytes are no secret, but whoever changes them changes the secret.
pub(super) const WRITABLE: u32 = 0o022;
/// No password, key or user name is longer.
pub(super) const LONGEST_FILE: usize = 64 * 1024;
