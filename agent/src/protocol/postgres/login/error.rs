//! Why a login did not succeed, in words for the log and in other words for the client.

use std::io;

use crate::model::ServiceName;
use crate::protocol::SessionEnd;
use crate::tls::TlsError;

use super::super::startup::Fatal;
use super::ScramError;

/// Why a login did not succeed. Its text is for the log: it holds a SQLSTATE at most, no user and no password.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The target refused the injected login (SQLSTATE class 28).
    #[error(
        "the target refused the injected login (SQLSTATE {sqlstate}): check user and password of the service's credential"
    )]
    Refused {
        /// SQLSTATE of the target's error.
        sqlstate: String,
    },
    /// The target refused the session for another reason: no such database, too many connections, …
    #[error("the target refused to start a session (SQLSTATE {sqlstate})")]
    NoSession {
        /// SQLSTATE of the target's error.
        sqlstate: String,
    },
    /// The target asks for a way of authentication that is not done here.
    #[error("the target asks for {0}, which tollgate does not do: let pg_hba.conf ask for scram-sha-256")]
    Unsupported(&'static str),
    /// The target asks for the password in clear, outside TLS.
    #[error(
        "the target asks for the password in clear outside TLS: set tls.upstream, or let pg_hba.conf ask for scram-sha-256"
    )]
    Cleartext,
    /// The target did not prove that it knows the password, or broke SCRAM otherwise: an impostor, perhaps.
    #[error(
        "the target failed to prove that it knows the password (SCRAM): it may not be the server that it should be"
    )]
    Scram(#[source] ScramError),
    /// The target does not do TLS, and the policy asks for it.
    #[error(
        "the target does not speak TLS: switch it on there (ssl = on), or set tls.upstream = \"disable\""
    )]
    NoTls,
    /// TLS with the target failed.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The target said what PostgreSQL does not say at this point.
    #[error("the target broke the protocol while a session was started: {0}")]
    Protocol(&'static str),
    /// The target closed the connection.
    #[error("the target closed the connection while a session was started: look into its log")]
    Closed,
    /// The connection failed.
    #[error("the connection to the target failed while a session was started")]
    Io(#[source] io::Error),
    /// The target took too long.
    #[error("the target did not start a session within {0} seconds")]
    TooSlow(u64),
    /// The injected user or password cannot be sent.
    #[error(
        "the injected login holds a NUL byte or is no text: check the files or variables of the service's credential"
    )]
    Credential,
}

impl LoginError {
    /// What the client is told. It names the service and nothing of the login, the target's address or its words.
    pub fn to_client(&self, service: &ServiceName) -> Fatal {
        match self {
            Self::Refused { .. } | Self::Credential | Self::Cleartext | Self::Unsupported(_) | Self::Scram(_) => {
                Fatal::new("28000", format!("tollgate: the login of service {service} was refused by the server"))
                    .with_hint("The login is injected by tollgate, not sent by this client: ask those who keep the policy to check it.")
            }
            Self::NoSession { sqlstate } => no_session(sqlstate, service),
            Self::NoTls | Self::Tls(_) => Fatal::new(
                "08001",
                format!("tollgate: no secure connection to the server of service {service} could be made"),
            )
            .with_hint("The reason is in the agent's log: ask those who keep this host."),
            Self::Protocol(_) | Self::Closed | Self::Io(_) | Self::TooSlow(_) => Fatal::new(
                "08006",
                format!("tollgate: the server of service {service} failed while the session was started"),
            )
            .with_hint("Try again; if it stays, look into the logs of the server and of the agent."),
        }
    }
}

/// The target's SQLSTATE is passed on, its words are not: they name roles, databases and addresses.
fn no_session(sqlstate: &str, service: &ServiceName) -> Fatal {
    let (message, hint) = match sqlstate {
        "3D000" => (
            format!("tollgate: service {service} has no database of that name"),
            "Check the name of the database in the connection string.",
        ),
        "42501" => (
            format!("tollgate: the login of service {service} may not use that database"),
            "Check the name of the database, or ask those who keep the policy.",
        ),
        "53300" => (
            format!("tollgate: the server of service {service} has too many connections"),
            "Try again later.",
        ),
        "57P01" | "57P02" | "57P03" => (
            format!("tollgate: the server of service {service} is starting up or shutting down"),
            "Try again later.",
        ),
        "22023" | "42704" => (
            format!("tollgate: the server of service {service} does not accept a setting of this connection"),
            "Check the settings in the connection string, PGOPTIONS and the driver.",
        ),
        _ => (
            format!("tollgate: the server of service {service} refused to start a session"),
            "The SQLSTATE is the server's; its log says more.",
        ),
    };
    Fatal::new(sqlstate, message).with_hint(hint)
}

impl From<LoginError> for SessionEnd {
    fn from(error: LoginError) -> Self {
        match &error {
            LoginError::Credential => Self::Agent(error.to_string()),
            LoginError::Tls(cause) if cause.is_ours() => Self::Agent(error.to_string()),
            _ => Self::Target(error.to_string()),
        }
    }
}
