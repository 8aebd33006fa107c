//! How sessions end: whose fault it was, what the client is told, and how it gets to read it.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;

use crate::protocol::{HoldDecision, HoldEnding, HoldOutcome, SessionEnd};

use super::super::relay::ProtocolError;
use super::super::startup::Fatal;
use super::LINGER;

/// Closes the connection so that the client can read what was sent last: closing a socket with unread bytes resets it,
/// and the reset takes with it what the client has not read yet.
pub(super) async fn linger<C: AsyncRead + AsyncWrite>(read: &mut ReadHalf<C>, write: &mut WriteHalf<C>) {
    let closing = async {
        write.shutdown().await?;
        let mut rest = [0; 4096];
        while read.read(&mut rest).await? > 0 {}
        Ok::<(), std::io::Error>(())
    };
    timeout(LINGER, closing).await.ok();
}

/// Whether an error of this SQLSTATE is the last that a server says in a session: it was shut down, or has ended this
/// session for being idle or for taking too long.
pub(super) fn is_last_word(sqlstate: &str) -> bool {
    matches!(
        sqlstate,
        "57P01" | "57P02" | "57P03" | "57P04" | "57P05" | "25P03" | "25P04"
    )
}

/// How the session's end is told to the client; the target's and the agent's own details stay in the log.
pub(super) fn fatal(end: &SessionEnd) -> Fatal {
    match end {
        SessionEnd::Client(why) => {
            Fatal::new("08P01", format!("tollgate: the client broke the protocol: {why}"))
                .with_hint("the client's driver does not speak this protocol correctly")
        }
        SessionEnd::Target(why) => Fatal::new("08006", format!("tollgate: the target failed: {why}"))
            .with_hint(
                "connect again when the server is well; its administrator finds the reason in its log",
            ),
        SessionEnd::Record(_) => Fatal::new(
            "58030",
            "tollgate: this session cannot be recorded, so it ends here",
        )
        .with_hint("the host's administrator finds the reason in the log of tollgate.service (disk full?)"),
        SessionEnd::Agent(_) => Fatal::new("58000", "tollgate: the agent failed in this session")
            .with_hint("the host's administrator finds the reason in the log of tollgate.service"),
        // Why, names programs and paths of the host.
        SessionEnd::Credential(_) => Fatal::new(
            "58000",
            "tollgate: no credential for the server could be had, so this session cannot begin",
        )
        .with_hint("the host's administrator finds the reason in the log of tollgate.service"),
        SessionEnd::CredentialEnded(why) => Fatal::new(
            "57P01",
            format!("tollgate: terminating connection because its credential is void: {why}"),
        )
        .with_hint("connect again: a new session gets a new credential"),
        SessionEnd::Policy(denied) => {
            Fatal::new("42501", denied.message.clone()).with_hint(denied.hint.clone())
        }
        // Not 42501: to connect again is what helps, and 57P01 is what pools and drivers do that upon.
        SessionEnd::Changed => Fatal::new(
            "57P01",
            "tollgate: terminating connection because the policy of this workload has changed",
        )
        .with_hint("connect again: new sessions are under the new policy"),
        // The words of a server that is shut down, so that pools and drivers do what they do then.
        SessionEnd::Stop => Fatal::new(
            "57P01",
            "tollgate: terminating connection because the agent of this host stops",
        )
        .with_hint("connect again when the agent runs again"),
    }
}

pub(super) fn broken(error: ProtocolError) -> SessionEnd {
    if error.is_clients() {
        SessionEnd::Client(error.to_string())
    } else {
        SessionEnd::Target(error.to_string())
    }
}

pub(super) fn client_failed(error: std::io::Error) -> SessionEnd {
    SessionEnd::Client(format!("the connection failed: {error}"))
}

pub(super) fn server_failed(error: std::io::Error) -> SessionEnd {
    SessionEnd::Target(format!("the connection failed: {error}"))
}

/// How a hold ends that neither a person nor time has ended.
pub(super) fn taken_back(why: &str) -> HoldDecision {
    HoldDecision {
        outcome: HoldOutcome::Cancelled,
        end: HoldEnding::Cancelled,
        by: None,
        reason: Some(why.to_owned()),
    }
}
