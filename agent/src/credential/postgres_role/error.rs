//! Why a role could not be made or dropped.

use std::io;

use crate::credential::CredentialError;
use crate::protocol::postgres::login::LoginError;
use crate::protocol::postgres::query::QueryError;

/// Why a role could not be made or dropped. It names neither the admin's user nor the role, and holds no word of the server's.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    /// The admin's own login cannot be read.
    #[error("the admin's login cannot be read: {0}")]
    Secret(#[source] Box<CredentialError>),
    /// The agent's TLS for the server.
    #[error("the server cannot be spoken to as the policy's tls asks for: {0}")]
    Tls(#[source] crate::tls::TlsError),
    /// No connection.
    #[error("the server cannot be reached ({})", .0.kind())]
    Unreachable(#[source] io::Error),
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
    /// It was made elsewhere than where the agent can go.
    #[error(
        "the role was made in a network namespace that is gone, at an address that means another server here; \
         drop it there, or with `tollgate leases sweep` from a host that reaches its server"
    )]
    Elsewhere,
}

impl RoleError {
    /// Whether the server is to be told of as what failed, and not the agent or its configuration.
    pub(in crate::credential) fn is_targets(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Query(_) => true,
            Self::Login(error) => matches!(
                error,
                LoginError::Protocol(_) | LoginError::Closed | LoginError::Io(_) | LoginError::TooSlow(_)
            ),
            Self::Secret(_)
            | Self::Tls(_)
            | Self::Refused { .. }
            | Self::SessionsStay(_)
            | Self::Prepared(_)
            | Self::Owns { .. }
            | Self::Elsewhere => false,
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
