//! What revokes a credential. It is in the journal, so it holds no secret: it says where secrets are.

use serde::{Deserialize, Serialize};

use super::github_app::InstallationToken;
use super::issuer::IssuerError;
use super::mysql_user::{UserError, UserHandle};
use super::oauth2::TokenHandle;
use super::postgres_role::{RoleError, RoleHandle};
use super::vault::{VaultError, VaultHandle};
use crate::kernel::netns::Netns;

/// What was, or is going to be, made, by kind of source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "source", rename_all = "kebab-case")]
pub enum Handle {
    /// A role of a PostgreSQL server.
    PostgresRole(Box<RoleHandle>),
    /// A user of a MariaDB server.
    MysqlUser(Box<UserHandle>),
    /// A token of a Vault's, with what is under it.
    Vault(Box<VaultHandle>),
    /// A token of an OAuth 2.0 server.
    Oauth2(Box<TokenHandle>),
    /// A token of an installation of a GitHub app.
    GithubApp(Box<InstallationToken>),
    /// What the tests of the keeper make.
    #[cfg(test)]
    Double(super::tests::leases::Double),
}

/// What a revocation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// It was there, and is void now.
    Voided,
    /// It was not there.
    Nothing,
}

/// Why something could not be revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// A role.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// A user.
    #[error(transparent)]
    User(#[from] UserError),
    /// A Vault's.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A token.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The attempt took too long.
    #[error("the attempt took longer than {0} s")]
    TooSlow(u64),
    /// It is void; that it is could not be written down.
    #[error("the journal of leases cannot be written ({})", .0.kind())]
    Journal(#[source] std::io::Error),
    /// A test's.
    #[cfg(test)]
    #[error("the double is down")]
    Double,
}

impl Handle {
    /// Kind of source, as policies name it.
    pub fn source(&self) -> &'static str {
        match self {
            Self::PostgresRole(_) => "postgres-role",
            Self::MysqlUser(_) => "mysql-user",
            Self::Vault(_) => "vault",
            Self::Oauth2(_) => "oauth2",
            Self::GithubApp(_) => "github-app",
            #[cfg(test)]
            Self::Double(_) => "double",
        }
    }

    /// What it is called where it was made, for operators.
    pub fn name(&self) -> &str {
        match self {
            Self::PostgresRole(role) => role.name(),
            Self::MysqlUser(user) => user.name(),
            Self::Vault(vault) => vault.name(),
            Self::Oauth2(token) => token.name(),
            Self::GithubApp(token) => token.name(),
            #[cfg(test)]
            Self::Double(double) => double.name(),
        }
    }

    /// Voids it. `netns`: where it was made from; `None`: an agent before this one made it.
    pub async fn revoke(&self, netns: Option<&Netns>) -> Result<Found, RevokeError> {
        match self {
            Self::PostgresRole(role) => Ok(Box::pin(role.revoke(netns)).await?),
            Self::MysqlUser(user) => Ok(Box::pin(user.revoke(netns)).await?),
            // Asked from the host's own network, whatever the job's is.
            Self::Vault(vault) => Ok(Box::pin(vault.revoke()).await?),
            Self::Oauth2(token) => Box::pin(token.revoke()).await,
            Self::GithubApp(token) => Box::pin(token.revoke()).await,
            #[cfg(test)]
            Self::Double(double) => double.revoke(),
        }
    }
}
