//! The admin's session at the service's own server.

use std::time::Duration;

use super::error::UserError;
use crate::config::AdminSpec;
use crate::credential::on_server::{ReachError, Server, read};
use crate::kernel::netns::Netns;
use crate::protocol::Login;
use crate::protocol::mysql::{Row, Session};

const LOGIN_PATIENCE: Duration = Duration::from_secs(10);
/// Longer than `max_statement_time`.
const PATIENCE: Duration = Duration::from_secs(15);
/// `NO_AUTO_CREATE_USER`: a GRANT to a user that is gone must not make one without a password.
const SETTINGS: &str = "SET SESSION sql_mode = 'NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION', max_statement_time = 10, \
                        lock_wait_timeout = 5, innodb_lock_wait_timeout = 5, autocommit = 1";
/// Makes users and locks them; sees and ends their sessions; sees every view and trigger.
const PRIVILEGES: &[&str] = &[
    "CREATE USER",
    "PROCESS",
    "CONNECTION ADMIN",
    "SHOW VIEW",
    "TRIGGER",
];
const OLDEST: (u32, u32) = (10, 6);

/// The session.
#[derive(Debug)]
pub(super) struct Admin(Session);

impl Admin {
    /// Logs in.
    pub(super) async fn open(
        server: &Server,
        netns: Option<&Netns>,
        admin: &AdminSpec,
    ) -> Result<Self, UserError> {
        let login = read(admin, None)
            .await
            .map_err(|error| ReachError::Secret(Box::new(error)))?;
        let session = log_in(server, netns, &login).await?.map_err(UserError::Login)?;
        if !is_known(session.version()) {
            return Err(UserError::Engine);
        }
        let mut admin = Self(session);
        admin.run("begin a session", SETTINGS).await?;
        Ok(admin)
    }

    /// Runs `sql`, to do `what`.
    pub(super) async fn run(&mut self, what: &'static str, sql: &str) -> Result<Vec<Row>, UserError> {
        self.0
            .query(sql, PATIENCE)
            .await
            .map_err(|error| UserError::of(what, error))
    }

    /// Whether it could drop what it makes, as far as that can be seen before.
    pub(super) async fn check(&mut self) -> Result<(), UserError> {
        // A role's privileges count as well, but it may not be active the next time.
        let sql = "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES, \
                   (SELECT CURRENT_USER() AS me, SUBSTRING_INDEX(CURRENT_USER(), '@', -1) AS host) AS account \
                   WHERE GRANTEE = CONCAT('\\'', LEFT(me, CHAR_LENGTH(me) - CHAR_LENGTH(host) - 1), '\\'@\\'', host, '\\'')";
        let rows = self.run("list the admin's privileges", sql).await?;
        let has: Vec<String> = rows.into_iter().flatten().flatten().collect();
        let missing: Vec<&str> = PRIVILEGES
            .iter()
            .filter(|wanted| !has.iter().any(|has| has == *wanted))
            .copied()
            .collect();
        if !missing.is_empty() {
            return Err(UserError::Weak(missing.join(", ")));
        }
        let sql = "SELECT u.User, u.Host, p.definer, e.definer FROM mysql.user u, mysql.proc p, mysql.event e WHERE FALSE";
        self.run("see users, routines and events", sql).await.map(drop)
    }

    /// Ends the session as the server expects it: it writes a broken one to its log.
    pub(super) async fn close(self) {
        self.0.quit().await;
    }
}

/// A session of whomever; the outer error is the way to the server.
pub(super) async fn log_in(
    server: &Server,
    netns: Option<&Netns>,
    login: &Login,
) -> Result<Result<Session, crate::protocol::mysql::MysqlError>, UserError> {
    let target = server.target()?;
    let stream = server.dial(netns).await?;
    Ok(Session::login(stream, &target, login, LOGIN_PATIENCE).await)
}

/// `10.11.6-MariaDB`, with `5.5.5-` before it where old replicas have to be content.
fn is_known(version: &str) -> bool {
    let number = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else {
        return false;
    };
    version.contains("MariaDB") && (major, minor) >= OLDEST
}

/// A name in SQL.
pub(super) fn name(text: &str) -> String {
    format!("`{}`", text.replace('`', "``"))
}

/// A text in SQL; the session takes a backslash for one that quotes.
pub(super) fn text(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::{is_known, name, text};

    #[test]
    fn servers_are_known_by_name_and_number() {
        for known in [
            "5.5.5-10.11.6-MariaDB-0+deb12u1",
            "10.6.0-MariaDB",
            "11.4.2-MariaDB-log",
        ] {
            assert!(is_known(known), "{known}");
        }
        for other in [
            "5.5.5-10.5.29-MariaDB",
            "8.4.0",
            "8.0.36-0ubuntu0.22.04.1",
            "MariaDB",
            "",
            "5.5.5-",
        ] {
            assert!(!is_known(other), "{other}");
        }
    }

    #[test]
    fn names_and_texts_end_where_they_end() {
        assert_eq!(name("a`b\\"), "`a``b\\`");
        assert_eq!(text("a'b\\"), "'a''b\\\\'");
    }
}
