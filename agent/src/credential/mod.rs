//! Sources of secrets, and what a session gets from them.
//!
//! A source is read when a session needs it, so that a rotated file counts from the next session on. What is read
//! leaves this module only inside a [`Secret`]; errors name the source (path, variable), never what is in it.
//!
//! Known limits: an environment variable stays readable in `/proc/PID/environ` of the agent for root and the agent's
//! own user for as long as it runs: the kernel shows the memory that the process was started with, and overwriting
//! that is not possible safely. Prefer `systemd` or `file`. A changed variable needs a restart of the agent.

mod source;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::config::{CredentialSource, SourceSpec};
use crate::model::{Secret, SessionId};
use crate::protocol::Login;

use source::Source;

/// The login of one service: where its parts come from.
#[derive(Clone, Debug)]
pub struct Credentials {
    user: Source,
    password: Source,
    database: Option<String>,
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be opened or read.
    #[error("the secret file {} cannot be read ({}); create it for the agent's user alone (mode 0400)", .path.display(), .source.kind())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others could read the secret.
    #[error("the secret file {} can be read by others (mode {mode:04o}); `chmod 0400` it, and change the secret", .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else could replace the secret.
    #[error("the secret file {} belongs to uid {owner}; it has to belong to root or to the agent's user", .path.display())]
    ForeignOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A directory, pipe, device.
    #[error("the secret file {} is not a regular file", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Longer than any login is.
    #[error("{origin} is longer than {limit} bytes; it has to hold the secret alone")]
    TooLong {
        /// The source.
        origin: String,
        /// The limit.
        limit: u64,
    },
    /// There is nothing in it.
    #[error("{origin} is empty; put the secret in it")]
    Empty {
        /// The source.
        origin: String,
    },
    /// A zero byte ends a string in the protocols that a login travels in.
    #[error("{origin} has a zero byte in it; no login can have one")]
    ZeroByte {
        /// The source.
        origin: String,
    },
    /// The variable is not there.
    #[error("the agent's environment has no variable {name}; set it, or name another source")]
    NoVariable {
        /// The variable.
        name: String,
    },
    /// The agent was not started with credentials.
    #[error("$CREDENTIALS_DIRECTORY is not set; add `LoadCredential={name}:/path` to the agent's unit")]
    NoCredentialsDirectory {
        /// The credential.
        name: String,
    },
    /// A name that would leave the directory.
    #[error("{name:?} is no name of a systemd credential: it must have no slash and be neither . nor ..")]
    BadCredentialName {
        /// The name.
        name: String,
    },
    /// A password in the policy file.
    #[error("a password cannot be written into a policy; name a file, a variable or a systemd credential")]
    LiteralPassword,
    /// The agent could not run the read.
    #[error("the read of a secret was broken off: the agent stops")]
    BrokenOff,
}

/// Reads one secret that is no login: the key of an object store, say. Blocks for the disk.
pub fn read(spec: &SourceSpec) -> Result<Secret, CredentialError> {
    Source::open(spec)?.read()
}

impl Credentials {
    /// Prepares the sources. Variables are read here, once; files are read at each lease.
    pub fn open(spec: &CredentialSource) -> Result<Self, CredentialError> {
        let password = Source::open(&spec.password)?;
        if matches!(password, Source::Literal(_)) {
            return Err(CredentialError::LiteralPassword);
        }
        Ok(Self {
            user: Source::open(&spec.user)?,
            password,
            database: spec.database.clone(),
        })
    }

    /// The login for one session. Nothing is minted for these sources, so there is nothing to revoke when `owner` ends:
    /// drop the login as soon as it is sent.
    pub async fn lease(&self, owner: SessionId) -> Result<Login, CredentialError> {
        let (user, password) = self.read().await?;
        tracing::debug!(session = %owner, user = %self.user, password = %self.password, "login leased");
        Ok(Login {
            user,
            password,
            database: self.database.clone(),
        })
    }

    /// Reads every source once and throws the result away: to say at start, and not in the night, that a file is
    /// missing or exposed.
    pub async fn check(&self) -> Result<(), CredentialError> {
        self.read().await.map(drop)
    }

    async fn read(&self) -> Result<(Secret, Secret), CredentialError> {
        let (user, password) = (self.user.clone(), self.password.clone());
        // A secret may lie on a file system that blocks.
        tokio::task::spawn_blocking(move || Ok((user.read()?, password.read()?)))
            .await
            .map_err(|_| CredentialError::BrokenOff)?
    }
}
