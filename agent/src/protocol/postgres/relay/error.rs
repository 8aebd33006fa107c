//! Why the machine cannot go on.

use super::super::wire::{ErrorResponse, WireError};

/// A peer has broken the protocol, or does what is not supported and cannot be refused in place. The session ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A message of the client breaks the format.
    #[error("{0}")]
    ClientFormat(WireError),
    /// A message of the server breaks the format.
    #[error("{0}")]
    ServerFormat(WireError),
    /// The client sends a message that has no place here.
    #[error("{what}")]
    Client {
        /// What is wrong, in one sentence.
        what: String,
    },
    /// The server sends a message that was not due.
    #[error("{what}")]
    Server {
        /// What is wrong, in one sentence.
        what: String,
    },
    /// The server ran the statement that stands in place of a refused one, and that cannot succeed.
    #[error(
        "the server did not fail a statement that cannot succeed; nothing that it does can be relied upon"
    )]
    SubstitutePassed,
}

impl ProtocolError {
    /// Whether the client is at fault, else the server is.
    pub fn is_clients(&self) -> bool {
        matches!(self, Self::ClientFormat(_) | Self::Client { .. })
    }

    /// Appends the `ErrorResponse`, of severity FATAL, with which the client is told.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let hint = if self.is_clients() {
            "the client's driver does not speak this protocol correctly"
        } else {
            "tell the administrator of the database"
        };
        let (severity, code) = ("FATAL", "08P01");
        ErrorResponse {
            severity,
            code,
            message: &self.to_string(),
            hint,
        }
        .encode(out);
    }

    pub(super) fn client(what: impl Into<String>) -> Self {
        Self::Client { what: what.into() }
    }

    pub(super) fn server(what: impl Into<String>) -> Self {
        Self::Server { what: what.into() }
    }
}
