//! Finds and drops what a host left that is not there any more, on any kind of server.

use serde::{Deserialize, Serialize};

use super::Server;
use crate::config::{CredentialKind, EndpointHost, TlsSpec};
use crate::credential::{RevokeError, mysql_user, postgres_role};
use crate::model::{Place, ServiceName};

/// An account that some agent made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundRole {
    /// Its name.
    pub role: String,
    /// The host whose agent made it, as `--host` takes it.
    pub host: String,
    /// When it ends.
    pub valid_until: Option<String>,
    /// Whether that is over.
    pub expired: bool,
    /// Sessions that are logged in as it.
    pub sessions: u64,
}

/// One server to sweep.
#[derive(Debug)]
pub struct Sweeper(Kind);

#[derive(Debug)]
enum Kind {
    Postgres(postgres_role::Sweeper),
    Mysql(mysql_user::Sweeper),
}

impl Sweeper {
    /// For the server of a service at `address`, as an address of this host's own network namespace. `None`: what this
    /// source makes is on no server.
    pub fn new(
        kind: &CredentialKind,
        service: ServiceName,
        tls: &TlsSpec,
        host: EndpointHost,
        address: Place,
    ) -> Option<Self> {
        let server = Server {
            service,
            address,
            host,
            tls: tls.clone(),
            in_host: true,
        };
        match kind {
            CredentialKind::PostgresRole(spec) => {
                Some(Kind::Postgres(postgres_role::Sweeper::new(spec, server)))
            }
            CredentialKind::MysqlUser(spec) => Some(Kind::Mysql(mysql_user::Sweeper::new(spec, server))),
            CredentialKind::Static { .. }
            | CredentialKind::StaticToken(_)
            | CredentialKind::StaticKey { .. }
            | CredentialKind::Exec(_)
            | CredentialKind::SshCa(_)
            | CredentialKind::Vault(_)
            | CredentialKind::Oauth2(_)
            | CredentialKind::GithubApp(_)
            | CredentialKind::Aws(_) => None,
        }
        .map(Self)
    }

    /// Every account that an agent made, of any host.
    pub async fn find(&self) -> Result<Vec<FoundRole>, RevokeError> {
        match &self.0 {
            Kind::Postgres(sweeper) => Ok(sweeper.find().await?),
            Kind::Mysql(sweeper) => Ok(sweeper.find().await?),
        }
    }

    /// Drops one of them, as its own agent would.
    pub async fn drop_role(&self, found: &FoundRole) -> Result<(), RevokeError> {
        match &self.0 {
            Kind::Postgres(sweeper) => Ok(sweeper.drop_role(found).await?),
            Kind::Mysql(sweeper) => Ok(sweeper.drop_role(found).await?),
        }
    }
}
