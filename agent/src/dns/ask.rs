//! Asks a nameserver, from the workload's network namespace.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::NoAnswer;
use crate::kernel::dial;
use crate::kernel::netns::Netns;

/// How long an answer is waited for. Clients wait for five seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// Nothing came. Whoever asked has given up as well.
    #[error("the nameserver does not answer")]
    Silence,
    /// The nameserver cannot be reached.
    #[error("the nameserver cannot be reached: {0}")]
    Unreachable(#[source] io::Error),
    /// What came cannot be used.
    #[error("the nameserver's answer: {0}")]
    Answer(#[from] NoAnswer),
}

/// Sends `query` in a datagram and waits for what `accept` takes for its answer. The socket is connected, so that the
/// kernel hands over what comes from the nameserver alone, and on a port of its own, so that nobody can guess it.
pub(super) async fn by_datagram<T>(
    netns: &Netns,
    nameserver: SocketAddr,
    query: &[u8],
    accept: impl Fn(&[u8]) -> Result<T, NoAnswer>,
) -> Result<T, AskError> {
    let socket = netns
        .datagram_socket(nameserver.is_ipv6())
        .map_err(AskError::Unreachable)?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket)).map_err(AskError::Unreachable)?;
    socket.connect(nameserver).await.map_err(AskError::Unreachable)?;
    socket.send(query).await.map_err(AskError::Unreachable)?;
    let wait = async {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = socket.recv(&mut buffer).await.map_err(AskError::Unreachable)?;
            match accept(buffer.get(..length).unwrap_or_default()) {
                Err(NoAnswer::Another) => {}
                answer => return Ok(answer?),
            }
        }
    };
    timeout(PATIENCE, wait).await.map_err(|_| AskError::Silence)?
}

/// A connection to a nameserver, made when it is needed.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    netns: &'a Netns,
    nameserver: SocketAddr,
    stream: Option<TcpStream>,
}

impl<'a> Connection<'a> {
    pub(super) fn new(netns: &'a Netns, nameserver: SocketAddr) -> Self {
        Self {
            netns,
            nameserver,
            stream: None,
        }
    }

    /// Sends `query` and reads the answer. A connection that the nameserver has closed meanwhile is made anew, once.
    pub(super) async fn ask<T>(
        &mut self,
        query: &[u8],
        accept: impl Fn(&[u8]) -> Result<T, NoAnswer>,
    ) -> Result<T, AskError> {
        let used = self.stream.is_some();
        let answer = match self.exchange(query).await {
            Err(AskError::Unreachable(_)) if used => self.exchange(query).await,
            answer => answer,
        }?;
        accept(&answer).map_err(|error| {
            self.stream = None;
            error.into()
        })
    }

    async fn exchange(&mut self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => dial::connect(self.netns, self.nameserver, PATIENCE)
                .await
                .map_err(AskError::Unreachable)?,
        };
        let exchange = async {
            write(&mut stream, query).await?;
            read(&mut stream).await
        };
        let answer = timeout(PATIENCE, exchange)
            .await
            .map_err(|_| AskError::Silence)?
            .map_err(AskError::Unreachable)?;
        self.stream = Some(stream);
        Ok(answer)
    }
}

/// Reads one message of a stream (RFC 1035 §4.2.2).
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message to a stream, in one piece.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}
