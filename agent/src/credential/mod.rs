//! Sources of secrets, and what a session gets from them.
//!
//! A source is read when a session needs it, so that a rotated file counts from the next session on. What is read
//! leaves this module only inside a [`Secret`]; errors name the source (path, variable), never what is in it.
//!
//! Some sources read what somebody else looks after; others *make* something ([`Maker`]) which is void after its owner
//! ([`Leases`]). A session has a [`Lease`] in both cases.
//!
//! Known limits: an environment variable stays readable in `/proc/PID/environ` of the agent for root and the agent's
//! own user for as long as it runs: the kernel shows the memory that the process was started with, and overwriting
//! that is not possible safely. Prefer `systemd` or `file`. A changed variable needs a restart of the agent.

mod age;
mod aws;
mod error;
mod exec;
mod github_app;
mod handle;
mod hidden;
mod issuer;
mod journal;
mod lease;
mod leases;
mod maker;
mod material;
pub mod mysql_user;
mod oauth2;
pub mod on_server;
pub mod postgres_role;
mod source;
mod ssh_ca;
mod vault;

#[cfg(test)]
pub(crate) mod moto;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use crate::config::{CredentialKind, CredentialSource, HttpCredential, Share, SourceSpec, TlsSpec};
use crate::model::Secret;
pub use crate::model::{AwsKeys, Material};

use source::Source;

pub use age::AgeError;
pub use aws::{SignError, ToSign, sign};
pub use error::CredentialError;
pub use exec::ExecError;
pub use handle::{Found, Handle, RevokeError};
pub use issuer::IssuerError;
pub use journal::{LeaseId, Stage};
pub use lease::{Lease, LeaseEnd};
pub use leases::{LeaseView, Leases};
pub use maker::{Ask, Left, Made, MakeError, Maker, Owner, Renewal, Working};
pub use ssh_ca::SshCaError;
pub use vault::VaultError;

/// The credential of one service: where it comes from.
#[derive(Clone, Debug)]
pub struct Credentials {
    way: Way,
    kind: CredentialKind,
    database: Option<String>,
    http: Option<HttpCredential>,
}

#[derive(Clone, Debug)]
enum Way {
    Read(Read),
    Make(Arc<dyn Maker>),
}

/// Reads one secret that is no login: the key of an object store, say. Blocks for the disk.
pub fn read(spec: &SourceSpec) -> Result<Secret, CredentialError> {
    Source::open(spec)?.read()
}

impl Credentials {
    /// Prepares the sources of a service that is spoken to as `tls` says. Variables are read here, once; files are read at
    /// each lease. `tokens`: the directory of refresh tokens that follow on those of the sources.
    pub fn open(spec: &CredentialSource, tls: &TlsSpec, tokens: &Path) -> Result<Self, CredentialError> {
        let way = match &spec.kind {
            CredentialKind::Static { user, password } => Way::Read(Read::Login {
                user: Source::open(user)?,
                password: secret(password)?,
            }),
            CredentialKind::StaticToken(token) => Way::Read(Read::Token(secret(token)?)),
            CredentialKind::StaticKey { key, certificate } => Way::Read(Read::Key {
                key: secret(key)?,
                certificate: secret(certificate)?,
            }),
            CredentialKind::Exec(spec) => Way::Make(exec::maker(spec)),
            CredentialKind::PostgresRole(spec) => Way::Make(postgres_role::maker(spec, tls)),
            CredentialKind::MysqlUser(spec) => Way::Make(mysql_user::maker(spec, tls)),
            CredentialKind::SshCa(spec) => Way::Make(ssh_ca::maker(spec)),
            CredentialKind::Vault(spec) => Way::Make(vault::maker(spec)),
            CredentialKind::Oauth2(spec) => Way::Make(oauth2::maker(spec, tokens)),
            CredentialKind::GithubApp(spec) => Way::Make(github_app::maker(spec)),
            CredentialKind::Aws(spec) => Way::Make(aws::maker(spec)),
        };
        Ok(Self {
            way,
            kind: spec.kind.clone(),
            database: spec.database.clone(),
            http: spec.http.clone(),
        })
    }

    /// Kind of source, as policies name it.
    pub fn source(&self) -> &'static str {
        self.kind.name()
    }

    /// How requests of HTTP get it; `None`: the service is none of HTTP's.
    pub fn http(&self) -> Option<&HttpCredential> {
        self.http.as_ref()
    }

    /// Who uses what is made.
    pub fn share(&self) -> Share {
        match &self.kind {
            CredentialKind::Static { .. }
            | CredentialKind::StaticToken(_)
            | CredentialKind::StaticKey { .. }
            | CredentialKind::SshCa(_) => Share::Session,
            CredentialKind::Exec(spec) => spec.share,
            CredentialKind::PostgresRole(spec) => spec.share,
            CredentialKind::MysqlUser(spec) => spec.share,
            CredentialKind::Vault(spec) => spec.share,
            CredentialKind::Oauth2(spec) => spec.share,
            CredentialKind::GithubApp(spec) => spec.share,
            CredentialKind::Aws(spec) => spec.share,
        }
    }

    /// A credential for `ask`. Where nothing is made for it there is nothing to revoke: drop it as soon as it is sent.
    pub async fn lease(&self, leases: &Leases, ask: Ask) -> Result<Lease, CredentialError> {
        match &self.way {
            Way::Read(read) => {
                let material = read.material().await?;
                tracing::debug!(session = %ask.owner.session, from = ?read, "credential leased");
                Ok(Lease {
                    material,
                    database: self.database.clone(),
                    expires: None,
                    held: None,
                })
            }
            Way::Make(maker) => {
                let mut lease = leases.take(maker, &self.kind, ask).await?;
                lease.database.clone_from(&self.database);
                Ok(lease)
            }
        }
    }

    /// Reads every source once and throws the result away: to say at start, and not in the night, that a file is
    /// missing or exposed. No server is asked, and no program run.
    pub async fn check(&self) -> Result<(), CredentialError> {
        match &self.way {
            Way::Read(read) => read.material().await.map(drop),
            Way::Make(maker) => maker.check().await,
        }
    }
}

/// What is read as it is.
#[derive(Clone, Debug)]
enum Read {
    Login { user: Source, password: Source },
    Token(Source),
    Key { key: Source, certificate: Source },
}

impl Read {
    async fn material(&self) -> Result<Material, CredentialError> {
        let read = self.clone();
        // A secret may lie on a file system that blocks.
        let material = tokio::task::spawn_blocking(move || {
            Ok(match read {
                Self::Login { user, password } => Material::Login {
                    user: user.read()?,
                    password: password.read()?,
                },
                Self::Token(token) => Material::Token(token.read()?),
                Self::Key { key, certificate } => Material::Key {
                    private: key.read()?,
                    certificate: Some(certificate.read()?),
                },
            })
        });
        material.await.map_err(|_| CredentialError::BrokenOff)?
    }
}

/// A secret stands in no policy.
fn secret(spec: &SourceSpec) -> Result<Source, CredentialError> {
    match Source::open(spec)? {
        Source::Literal(_) => Err(CredentialError::LiteralPassword),
        source => Ok(source),
    }
}
