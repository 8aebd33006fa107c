//! The socket of jobs: a process in a managed cgroup proves there who it is.
//!
//! Everybody may connect (mode 0666), and nothing can be asked for but a login. Whose it is comes from the kernel
//! (`SO_PEERCRED`) and not from the message: the cgroup of the process at the other end, so that a job can speak only for itself.
//!
//! Known limits: `SO_PEERCRED` names the process that connected. A process of a job that passes its connection to another one
//! lets it log in for the job.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::ControlError;
use super::peer::Peer;
use super::server::UNINTELLIGIBLE;
use super::socket::{Access, Listening, read_line, send};
use crate::model::{CgroupPath, Secret, WorkloadName};

/// What a job asks.
#[derive(Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
enum Request {
    /// To be who the token says.
    Login {
        /// The token.
        token: String,
    },
}

/// What it is answered.
#[derive(Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
enum Response {
    LoggedIn(LoggedIn),
    Refused { message: String },
}

/// The identity that counts from now on for what the job opens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoggedIn {
    /// The job's workload.
    pub workload: WorkloadName,
    /// The cgroup that it counts for, with those below it.
    pub cgroup: CgroupPath,
    /// `sub` of the token.
    pub subject: String,
    /// When it ends, unless the job logs in again.
    pub until: DateTime<Utc>,
}

/// The process that connected.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Its pid, in the agent's pid namespace.
    pub pid: u32,
    /// `CLOCK_BOOTTIME` when its connection was accepted: who has its pid after it died has started later.
    pub connected: Duration,
}

/// What the socket asks of the agent. Kept by the composition root.
pub trait JobHandler: Send + Sync {
    /// Registers `token` for the cgroup of `job`. The error is a sentence for the author of the job.
    fn login(
        &self,
        job: Job,
        token: Secret,
    ) -> Pin<Box<dyn Future<Output = Result<LoggedIn, String>> + Send + '_>>;
}

/// The listening socket. Removed from the file system when it is dropped.
#[derive(Debug)]
pub struct JobServer(Listening);

impl JobServer {
    /// Listens at `path`, mode 0666. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        Listening::bind(path, Access::Everybody).map(Self)
    }

    /// Answers until `stop` resolves.
    pub async fn serve(self, handler: Arc<dyn JobHandler>, stop: impl Future<Output = ()>) {
        let converse = |stream, peer| converse(Arc::clone(&handler), stream, peer);
        self.0.serve(converse, stop).await;
    }
}

async fn converse(handler: Arc<dyn JobHandler>, stream: UnixStream, peer: Peer) -> io::Result<()> {
    let job = Job {
        pid: peer.pid,
        connected: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into(),
    };
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    while let Some(line) = read_line(&mut reader).await? {
        let line = zeroize::Zeroizing::new(line);
        let response = match serde_json::from_slice(&line) {
            Ok(Request::Login { token }) => match handler.login(job, Secret::new(token.into_bytes())).await {
                Ok(logged_in) => Response::LoggedIn(logged_in),
                Err(message) => Response::Refused { message },
            },
            Err(_) => Response::Refused {
                message: UNINTELLIGIBLE.to_owned(),
            },
        };
        send(&mut writer, &response).await?;
    }
    Ok(())
}

/// A job's end of the socket.
#[derive(Debug)]
pub struct JobsClient(BufReader<UnixStream>);

impl JobsClient {
    /// Connects to the agent at `path`.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        super::client::connect(path)
            .await
            .map(|stream| Self(BufReader::new(stream)))
    }

    /// Logs in. The inner error is the agent's refusal.
    pub async fn login(&mut self, token: String) -> Result<Result<LoggedIn, String>, ControlError> {
        let broken = |source| ControlError::Broken { source };
        let mut line = zeroize::Zeroizing::new(
            serde_json::to_vec(&Request::Login { token }).map_err(|error| broken(error.into()))?,
        );
        line.push(b'\n');
        self.0.get_mut().write_all(&line).await.map_err(broken)?;
        let mut answer = Vec::new();
        self.0.read_until(b'\n', &mut answer).await.map_err(broken)?;
        if !answer.ends_with(b"\n") {
            return Err(ControlError::Closed);
        }
        match serde_json::from_slice(&answer) {
            Ok(Response::LoggedIn(logged_in)) => Ok(Ok(logged_in)),
            Ok(Response::Refused { message }) => Ok(Err(message)),
            Err(_) => Err(ControlError::Unintelligible),
        }
    }
}
