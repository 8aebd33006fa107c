//! Drives the login over a connection that was just dialled.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::flow::Stream;
use crate::protocol::Login;

use super::auth::{Authentication, Step};
use super::connect::{ServerStream, secure};
use super::message::{Frame, next_frame, parameter, sqlstate, startup};
use super::{LoginError, Settings};
use crate::protocol::Target;

/// How long the target may take to start a session: PostgreSQL's own `authentication_timeout`.
const PATIENCE: Duration = Duration::from_mins(1);
/// More parameters or notices than any server sends: a target must not fill memory.
const MOST_MESSAGES: usize = 1000;

/// What the session is to be.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Database, where the login does not name one.
    pub database: &'a str,
    /// Settings.
    pub settings: &'a Settings,
}

/// What cancels the session at the target. It never leaves the agent.
#[derive(Clone, PartialEq, Eq)]
pub struct BackendKey {
    /// Process id of the server process.
    pub(in super::super) process: u32,
    /// Its secret; 4 bytes in protocol 3.0.
    pub(in super::super) secret: Vec<u8>,
}

impl fmt::Debug for BackendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BackendKey")
    }
}

/// A session at the target, ready for its first command.
pub struct LoggedIn {
    /// The connection.
    pub stream: ServerStream,
    /// Bytes that the target sent after its first `ReadyForQuery` already.
    pub early: BytesMut,
    /// Name and value of each `ParameterStatus`, in order. `session_authorization` names the injected user: pass them
    /// through [`super::shown_parameter`] before anybody sees them.
    pub parameters: Vec<(String, String)>,
    /// What cancels the session; `None`: the target gave none.
    pub key: Option<BackendKey>,
    /// Status of the first `ReadyForQuery`: `I`, since nothing has begun.
    pub status: u8,
    /// Bodies of `NoticeResponses`, less those that name the login.
    pub notices: Vec<BytesMut>,
}

impl fmt::Debug for LoggedIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Parameters and notices can name the injected user.
        f.debug_struct("LoggedIn")
            .field("tls", &self.stream.is_tls())
            .finish_non_exhaustive()
    }
}

/// Logs in at `target` over `stream`, which is connected to it and on which nothing has been said yet.
///
/// # Errors
/// See [`LoginError`]; for the client, [`LoginError::to_client`].
pub async fn login(
    stream: Stream,
    target: &Target,
    login: &Login,
    ask: Ask<'_>,
) -> Result<LoggedIn, LoginError> {
    timeout(PATIENCE, start(stream, target, login, ask))
        .await
        .map_err(|_| LoginError::TooSlow(PATIENCE.as_secs()))?
}

async fn start(stream: Stream, target: &Target, login: &Login, ask: Ask<'_>) -> Result<LoggedIn, LoginError> {
    // Read for the check alone: a NUL would end the name early and let the rest be read as other parameters.
    let (user, password) = (login.user.expose(), login.password.expose());
    let database = login.database.as_deref().unwrap_or(ask.database);
    if user.is_empty()
        || [user, password, database.as_bytes()]
            .iter()
            .any(|text| text.contains(&0))
    {
        return Err(LoginError::Credential);
    }
    let stream = secure(stream, target).await?;
    let mut exchange = Authentication::new(login, stream.is_tls());
    let mut session = LoggedIn {
        stream,
        early: BytesMut::with_capacity(4096),
        parameters: Vec::new(),
        key: None,
        status: 0,
        notices: Vec::new(),
    };
    // Sent to the target, which is what it is for.
    session
        .send(&startup(user, database, ask.settings.iter()))
        .await?;
    for _ in 0..MOST_MESSAGES {
        let Frame { tag, body } = session.receive().await?;
        match (tag, exchange.is_done()) {
            (b'R', _) => match exchange.on(&body)? {
                Step::Send(answer) => session.send(&answer).await?,
                Step::Wait | Step::Done => {}
            },
            (b'E', _) => return Err(refusal(sqlstate(&body))),
            (b'N', _) => {
                if !names(&body, user) && !names(&body, password) {
                    session.notices.push(body);
                }
            }
            (b'S', true) => {
                let pair =
                    parameter(&body).ok_or(LoginError::Protocol("a ParameterStatus that is no text"))?;
                session.parameters.push(pair);
            }
            (b'K', true) => session.key = Some(key(&body)?),
            (b'Z', true) => {
                session.status = match body[..] {
                    [status] => status,
                    _ => return Err(LoginError::Protocol("a ReadyForQuery of the wrong length")),
                };
                return Ok(session);
            }
            // 3.0 was asked for, without options: there is nothing to negotiate.
            (b'v', _) => return Err(LoginError::Protocol("it does not speak protocol 3.0")),
            _ => return Err(LoginError::Protocol("a message that does not belong there")),
        }
    }
    Err(LoginError::Protocol("too many messages"))
}

impl LoggedIn {
    /// Sends `bytes`.
    pub(in super::super) async fn send(&mut self, bytes: &[u8]) -> Result<(), LoginError> {
        self.stream.write_all(bytes).await.map_err(LoginError::Io)?;
        self.stream.flush().await.map_err(LoginError::Io)
    }

    /// Waits for the next message.
    pub(in super::super) async fn receive(&mut self) -> Result<Frame, LoginError> {
        loop {
            if let Some(frame) = next_frame(&mut self.early)? {
                return Ok(frame);
            }
            if self
                .stream
                .read_buf(&mut self.early)
                .await
                .map_err(LoginError::Io)?
                == 0
            {
                return Err(LoginError::Closed);
            }
        }
    }
}

fn refusal(sqlstate: String) -> LoginError {
    if sqlstate.starts_with("28") {
        LoginError::Refused { sqlstate }
    } else {
        LoginError::NoSession { sqlstate }
    }
}

fn key(body: &[u8]) -> Result<BackendKey, LoginError> {
    match body.split_first_chunk::<4>() {
        // Protocol 3.2 allows up to 256 bytes; 3.0 has 4.
        Some((process, secret)) if (4..=256).contains(&secret.len()) => Ok(BackendKey {
            process: u32::from_be_bytes(*process),
            secret: secret.to_vec(),
        }),
        _ => Err(LoginError::Protocol("a BackendKeyData of the wrong length")),
    }
}

fn names(text: &[u8], secret: &[u8]) -> bool {
    !secret.is_empty() && memchr::memmem::find(text, secret).is_some()
}
