//! The admin's session at the service's own server.

use std::time::Duration;

use super::error::RoleError;
use crate::config::AdminSpec;
use crate::credential::on_server::{ReachError, Server, read};
use crate::kernel::netns::Netns;
use crate::protocol::postgres::login::{Ask, LoggedIn, Settings, login};
use crate::protocol::postgres::query::{QueryError, Row, query};

/// The admin's own, where the policy does not name one.
const DATABASE: &str = "postgres";
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
        let database = database.or(admin.database.as_deref()).unwrap_or(DATABASE);
        let credential = read(admin, Some(database))
            .await
            .map_err(|error| ReachError::Secret(Box::new(error)))?;
        let target = server.target()?;
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

/// A name in SQL.
pub(super) fn name(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

/// A text in SQL; the session has `standard_conforming_strings` on.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
