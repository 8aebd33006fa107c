//! Why a user could not be made or dropped.

use crate::credential::on_server::ReachError;
use crate::protocol::mysql::MysqlError;

/// Why a user could not be made or dropped. It names neither the admin nor the user, and holds no word of the server's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The server cannot be asked.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// No session for the admin.
    #[error("the admin cannot log in: {0}")]
    Login(#[source] MysqlError),
    /// What was made is of no use.
    #[error("the user that was made cannot log in: {0}")]
    FirstLogin(#[source] MysqlError),
    /// Another server.
    #[error("the server is no MariaDB of version 10.6 or later: \"mysql-user\" makes users on these alone")]
    Engine,
    /// The connection broke, or the answer was none.
    #[error("the server failed while it was asked: {0}")]
    Query(#[source] MysqlError),
    /// The server refused.
    #[error("the server refused to {what} (error {code}){}", hint(*.code))]
    Refused {
        /// What.
        what: &'static str,
        /// Its error number.
        code: u16,
    },
    /// What was made could not be revoked by who made it.
    #[error(
        "the admin lacks {0} ON *.*, without which what it makes could not be dropped; docs/credentials.md has the GRANT"
    )]
    Weak(String),
    /// Somebody is logged in still.
    #[error("{0} sessions of the user do not end")]
    SessionsStay(usize),
    /// There is something that runs as it.
    #[error(
        "{objects} views, routines, triggers or events run as the user ({places}); it is locked and kept until they have \
         another DEFINER: make them with DEFINER = CURRENT_ROLE, and these anew by hand"
    )]
    Definer {
        /// How many.
        objects: usize,
        /// In which schemas.
        places: String,
    },
}

impl UserError {
    /// Of a query, to do `what`.
    pub(super) fn of(what: &'static str, error: MysqlError) -> Self {
        match error {
            MysqlError::Refused { code, .. } => Self::Refused { what, code },
            error => Self::Query(error),
        }
    }

    /// Whether the server is to be told of as what failed, and not the agent or its configuration.
    pub(in crate::credential) fn is_targets(&self) -> bool {
        match self {
            Self::Reach(error) => error.is_targets(),
            Self::Query(_) => true,
            Self::Login(error) | Self::FirstLogin(error) => error.is_targets(),
            Self::Engine
            | Self::Refused { .. }
            | Self::Weak(_)
            | Self::SessionsStay(_)
            | Self::Definer { .. } => false,
        }
    }
}

/// By MariaDB's error numbers.
fn hint(code: u16) -> &'static str {
    match code {
        1044 | 1142 | 1143 | 1227 | 1698 => {
            ": the admin needs what docs/credentials.md grants it, and the role of the policy WITH ADMIN OPTION"
        }
        1959 => ": the role that the policy names does not exist there",
        1205 | 1969 => ": it waits for a lock that somebody else has, or has too much to look through",
        1290 => {
            ": it is read only, or has a plugin that wants to see each password (strict_password_validation)"
        }
        1226 => ": the admin has too many connections",
        _ => "",
    }
}
