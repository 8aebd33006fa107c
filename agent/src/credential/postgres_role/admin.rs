//! The admin's session at the service's own server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::RoleError;
use crate::config::{AdminSpec, EndpointHost, TlsSpec};
use crate::credential::source::Source;
use crate::credential::{CredentialError, Material};
use crate::flow::Stream;
use crate::kernel::{dial, netns::Netns};
use crate::model::{Place, ServiceName};
use crate::protocol::Login;
use crate::protocol::postgres::Target;
use crate::protocol::postgres::login::{Ask, LoggedIn, Settings, login};
use crate::protocol::postgres::query::{QueryError, Row, query};
use crate::tls::Upstream;

const DIAL_PATIENCE: Duration = Duration::from_secs(10);
/// Longer than the `statement_timeout`.
const PATIENCE: Duration = Duration::from_secs(15);

const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "tollgate leases"),
    // Nothing that a database holds comes before pg_catalog.
    ("search_path", "pg_catalog, pg_temp"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("datestyle", "ISO, YMD"),
    ("default_transaction_read_only", "off"),
    ("statement_timeout", "10s"),
    ("lock_timeout", "5s"),
];

/// A server, as the journal can say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pub(super) service: ServiceName,
    pub(super) address: Place,
    /// The endpoint that matched.
    pub(super) host: EndpointHost,
    pub(super) tls: TlsSpec,
    /// Whether the address is one of the host's own network namespace.
    pub(super) in_host: bool,
}

impl Server {
    pub(super) fn of(target: &Target, tls: &TlsSpec, netns: &Netns) -> Self {
        Self {
            service: target.service.clone(),
            address: target.address.clone(),
            host: target.host.clone(),
            tls: tls.clone(),
            in_host: Netns::own().is_ok_and(|own| own.cookie() == netns.cookie()),
        }
    }

    /// Dialled from `netns`, or else from the host's, where the address means the same server there.
    async fn dial(&self, netns: Option<&Netns>) -> Result<Stream, RoleError> {
        let address = match &self.address {
            Place::Network(address) => *address,
            Place::Unix(path) => {
                let stream = dial::connect_unix(path, DIAL_PATIENCE).await;
                return stream.map(Stream::from).map_err(RoleError::Unreachable);
            }
        };
        let own;
        let netns = match netns {
            Some(netns) => netns,
            None if !self.in_host && is_local(address.ip()) => return Err(RoleError::Elsewhere),
            None => {
                own = Netns::own().map_err(RoleError::Unreachable)?;
                &own
            }
        };
        let stream = dial::connect(netns, address, DIAL_PATIENCE).await;
        stream.map(Stream::from).map_err(RoleError::Unreachable)
    }
}

fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// The session.
pub(super) struct Admin(LoggedIn);

impl Admin {
    /// Logs in to `database`; `None`: the admin's own.
    pub(super) async fn open(
        server: &Server,
        netns: Option<&Netns>,
        admin: &AdminSpec,
        database: Option<&str>,
    ) -> Result<Self, RoleError> {
        let database = database.unwrap_or(&admin.database);
        let credential = read(admin, database)
            .await
            .map_err(|error| RoleError::Secret(Box::new(error)))?;
        let target = Target {
            service: server.service.clone(),
            host: server.host.clone(),
            address: server.address.clone(),
            tls: Arc::new(Upstream::from_spec(&server.tls).map_err(RoleError::Tls)?),
        };
        let stream = server.dial(netns).await?;
        let ask = Ask {
            database,
            settings: &Settings::own(SETTINGS),
        };
        let session = login(stream, &target, &credential, ask).await;
        session.map(Self).map_err(RoleError::Login)
    }

    /// Runs `sql`, to do `what`.
    pub(super) async fn run(&mut self, what: &'static str, sql: &str) -> Result<Vec<Row>, RoleError> {
        query(&mut self.0, sql, PATIENCE)
            .await
            .map_err(|error| match error {
                QueryError::Refused(sqlstate) => RoleError::Refused { what, sqlstate },
                error => RoleError::Query(error),
            })
    }

    /// Runs a query with one value in its one row.
    pub(super) async fn value(&mut self, what: &'static str, sql: &str) -> Result<String, RoleError> {
        let rows = self.run(what, sql).await?;
        let value = rows.into_iter().next().and_then(|row| row.into_iter().next());
        value
            .flatten()
            .ok_or(RoleError::Query(QueryError::Answer("it has no value")))
    }

    /// Runs a query with one number in its one row.
    pub(super) async fn number(&mut self, what: &'static str, sql: &str) -> Result<u64, RoleError> {
        let value = self.value(what, sql).await?;
        value
            .parse()
            .map_err(|_| RoleError::Query(QueryError::Answer("it is no number")))
    }
}

async fn read(admin: &AdminSpec, database: &str) -> Result<Login, CredentialError> {
    let (user, password) = (Source::open(&admin.user)?, Source::open(&admin.password)?);
    // A secret may lie on a file system that blocks.
    let material = tokio::task::spawn_blocking(move || {
        Ok::<_, CredentialError>(Material::Login {
            user: user.read()?,
            password: password.read()?,
        })
    })
    .await
    .map_err(|_| CredentialError::BrokenOff)??;
    material.login(Some(database))
}

/// Reads the admin's secrets once, and throws them away.
pub(super) async fn check(admin: &AdminSpec) -> Result<(), CredentialError> {
    read(admin, &admin.database).await.map(drop)
}

/// A name in SQL.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A text in SQL; the session has `standard_conforming_strings` on.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
