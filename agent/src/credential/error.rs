//! Why a secret cannot be had.

use std::path::PathBuf;

use super::age::AgeError;
use super::exec::ExecError;
use super::issuer::IssuerError;
use super::mysql_user::UserError;
use super::postgres_role::RoleError;
use super::ssh_ca::SshCaError;
use super::vault::VaultError;
use crate::protocol::SessionEnd;

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
    /// Others could exchange an encrypted secret for one of their own.
    #[error("the encrypted file {} can be changed by others (mode {mode:04o}), who could put a secret of their own there; `chmod go-w` it", .path.display())]
    Writable {
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
    /// A secret that is encrypted.
    #[error(transparent)]
    Age(#[from] AgeError),
    /// A program's secret.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A role of a PostgreSQL server.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A user of a MariaDB server.
    #[error(transparent)]
    User(#[from] UserError),
    /// A certificate for SSH.
    #[error(transparent)]
    SshCa(#[from] SshCaError),
    /// A Vault's.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// An issuer's.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// What was had is of another kind than the service's protocol takes.
    #[error("the source gives {given}, and this service logs in with user and password: name another source")]
    NoLogin {
        /// What it gives.
        given: &'static str,
    },
    /// What is to be made could not be written down first.
    #[error("the journal of leases cannot be written ({}): nothing is made that a crash would leave behind", .0.kind())]
    Journal(#[source] std::io::Error),
    /// It took too long.
    #[error("the credential could not be made within {0} s")]
    TooSlow(u64),
    /// It was revoked while it was made.
    #[error("the credential was revoked before it was used: {0}")]
    Ended(String),
    /// The agent stops, so nothing is made any more.
    #[error("no credential is made any more: the agent stops")]
    Stopping,
}

impl From<CredentialError> for SessionEnd {
    fn from(error: CredentialError) -> Self {
        match error {
            // The server's own fault is told as it is where no credential is made.
            CredentialError::Role(error) if error.is_targets() => Self::Target(error.to_string()),
            CredentialError::User(error) if error.is_targets() => Self::Target(error.to_string()),
            CredentialError::Stopping => Self::Stop,
            error => Self::Credential(error.to_string()),
        }
    }
}
