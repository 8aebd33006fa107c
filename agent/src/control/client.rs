//! The command line's end of the control socket.

use std::io;
use std::path::Path;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use super::ControlError;
use super::message::{Request, Response};

/// A connection to a running agent.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the agent at `path`.
    pub async fn connect(path: &Path) -> Result<Self, ControlError> {
        let stream = connect(path).await?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Asks, and waits for the answer. After a watch is asked for, [`Client::next`] gives the further ones.
    pub async fn ask(&mut self, request: &Request) -> Result<Response, ControlError> {
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        self.stream.get_mut().write_all(&line).await.map_err(broken)?;
        self.next().await
    }

    /// The next answer to a watch. Dropping the future before it resolves may lose part of an answer.
    pub async fn next(&mut self) -> Result<Response, ControlError> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line).await.map_err(broken)?;
        if !line.ends_with(b"\n") {
            return Err(ControlError::Closed);
        }
        serde_json::from_slice(&line).map_err(|_| ControlError::Unintelligible)
    }
}

pub(super) async fn connect(path: &Path) -> Result<UnixStream, ControlError> {
    UnixStream::connect(path).await.map_err(|source| {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ControlError::NotRunning { path },
            io::ErrorKind::PermissionDenied => ControlError::NotAllowed { path },
            _ => ControlError::Broken { source },
        }
    })
}

fn broken(source: io::Error) -> ControlError {
    ControlError::Broken { source }
}
