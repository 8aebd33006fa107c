//! Why a role could not be made or dropped.

use crate::credential::on_server::ReachError;
use crate::protocol::postgres::login::LoginError;
use crate::protocol::postgres::query::QueryError;

/// Why a role could not be made or dropped. It names neither the admin's user nor the role, and holds no word of the server's.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The server cannot be asked.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// No session for the admin.
    #[error("the admin cannot log in: {0}")]
    Login(#[source] LoginError),
    /// The connection broke, or the answer was none.
    #[error("the server failed while it was asked: {0}")]
    Query(#[source] QueryError),
    /// The server refused.
    #[error("the server refused to {what} (SQLSTATE {sqlstate}){}", hint(.sqlstate))]
    Refused {
        /// What.
        what: &'static str,
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// Somebody is logged in still.
    #[error("{0} sessions of the role do not end")]
    SessionsStay(usize),
    /// A transaction that is nobody's any more keeps its locks.
    #[error(
        "the role has {0} prepared transactions: look into pg_prepared_xacts, and commit or roll them back"
    )]
    Prepared(usize),
    /// There is something that belongs to it.
    #[error(
        "the role owns {objects} objects in {databases}; it is locked and kept until they belong to somebody else: name \
         `reassign_to` in the policy for the next ones, and for this one REASSIGN OWNED by hand"
    )]
    Owns {
        /// How many.
        objects: u64,
        /// Where.
        databases: String,
    },
}

impl RoleError {
    /// Whether the server is to be told of as what failed, and not the agent or its configuration.
    pub(in crate::credential) fn is_targets(&self) -> bool {
        match self {
            Self::Reach(error) => error.is_targets(),
            Self::Query(_) => true,
            Self::Login(error) => matches!(
                error,
                LoginError::Protocol(_) | LoginError::Closed | LoginError::Io(_) | LoginError::TooSlow(_)
            ),
            Self::Refused { .. } | Self::SessionsStay(_) | Self::Prepared(_) | Self::Owns { .. } => false,
        }
    }
}

fn hint(sqlstate: &str) -> &'static str {
    match sqlstate {
        "42501" => {
            ": the admin needs CREATEROLE, the right to grant what the policy names, and membership in reassign_to, which needs CREATE on the schemas"
        }
        "42704" => ": a role that the policy names does not exist there",
        "2BP01" => ": somebody else has granted it something: REVOKE that by hand",
        "55P03" | "57014" => ": it waits for a lock that somebody else has",
        "25006" => ": it is a standby, or read only",
        _ => "",
    }
}
