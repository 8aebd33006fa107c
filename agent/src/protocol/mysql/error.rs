//! Why there is no session, or no answer.

use std::io;

use crate::tls::TlsError;

/// Why there is no session, or no answer. No word of the server's is in it: it may name what nobody is to see.
#[derive(Debug, thiserror::Error)]
pub enum MysqlError {
    /// The connection broke.
    #[error("the connection broke ({})", .0.kind())]
    Io(#[source] io::Error),
    /// It is closed.
    #[error("it closed the connection")]
    Closed,
    /// What it said is none of the protocol's.
    #[error("it does not keep to the protocol: {0}")]
    Protocol(&'static str),
    /// It refused.
    #[error("it refused (error {code}, SQLSTATE {sqlstate})")]
    Refused {
        /// The server's error number.
        code: u16,
        /// Its SQLSTATE.
        sqlstate: String,
    },
    /// TLS was asked for.
    #[error("it has no TLS: switch it on there, or say tls = {{ upstream = \"disable\" }} of the service")]
    NoTls,
    /// TLS could not be had.
    #[error("{0}")]
    Tls(#[source] Box<TlsError>),
    /// It wants the password to be proved in a way that is not known, or would give it away.
    #[error(
        "it asks for the password by {0}, which is not given: use mysql_native_password, ed25519, or caching_sha2_password over TLS"
    )]
    Method(String),
    /// A name or password with a zero byte, or an empty one.
    #[error("the login cannot be sent: it is empty or has a zero byte in it")]
    Credential,
    /// It took too long.
    #[error("it did not answer within {0} s")]
    TooSlow(u64),
}

impl From<TlsError> for MysqlError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}

impl MysqlError {
    /// Whether the server failed, and not the agent's configuration.
    pub fn is_targets(&self) -> bool {
        match self {
            Self::Io(_) | Self::Closed | Self::Protocol(_) | Self::TooSlow(_) => true,
            Self::Tls(error) => !error.is_ours(),
            Self::Refused { .. } | Self::NoTls | Self::Method(_) | Self::Credential => false,
        }
    }
}
