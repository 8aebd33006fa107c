//! Drives the negotiation over a stream that was just accepted.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::flow::Stream;
use crate::protocol::SessionEnd;
use crate::tls::{LeafNames, LocalCa, MaybeTls, TlsError};

use super::negotiation::{Negotiation, NegotiationError, Step};
use super::packet::{CancelKey, PacketError, Startup};
use super::reply::{Fatal, negotiate_protocol_version};

/// How long a client may take from its first byte to its `StartupMessage`: PostgreSQL's `authentication_timeout`.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long a refused client is listened to, so that closing does not overtake the refusal.
const LINGER: Duration = Duration::from_secs(1);

/// The client's end of a session.
pub type ClientStream = MaybeTls<TlsStream<Stream>>;

/// What TLS towards the client needs.
#[derive(Clone, Copy, Debug)]
pub struct ClientTls<'a> {
    /// Issues the certificate.
    pub authority: &'a LocalCa,
    /// Names that the service is known by, for clients that do not send one (no SNI).
    pub names: &'a [String],
    /// The address that the client dialled.
    pub address: IpAddr,
}

/// What the client came for.
#[derive(Debug)]
pub enum Opened {
    /// A session.
    Session {
        /// The client.
        client: ClientStream,
        /// What it asked for.
        startup: Startup,
        /// What it sent after its `StartupMessage` already.
        early: BytesMut,
    },
    /// A cancel of another session. The client expects no answer, only the end of the connection.
    Cancel {
        /// The client; drop it when the cancel is done.
        client: ClientStream,
        /// Which session it means.
        key: CancelKey,
    },
}

/// Why a connection does not become a session. The client has been told already.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// The packet is refused.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Data in clear where TLS was to start.
    #[error("received unencrypted data after SSL request: a fault of the client, or an attack on it")]
    DataBeforeTls,
    /// Encryption asked for twice.
    #[error("the client asked for encryption in an order that PostgreSQL does not know: {0}")]
    Order(String),
    /// The connection ended before the first byte: a port scan or a health check.
    #[error("the client closed the connection before it said anything")]
    Silent,
    /// The connection ended inside a packet.
    #[error("the client closed the connection inside its start-up packet")]
    Truncated,
    /// The client took too long.
    #[error("the client sent no complete start-up packet within {} seconds", PATIENCE.as_secs())]
    TooSlow,
    /// No certificate could be made.
    #[error(transparent)]
    Certificate(TlsError),
    /// The client refused the handshake, often because it does not trust the local authority.
    #[error("the TLS handshake with the client failed: let it trust the ca.pem of this host's agent")]
    Handshake(#[source] io::Error),
    /// The connection failed.
    #[error("the connection of the client failed")]
    Io(#[source] io::Error),
}

impl From<StartupError> for SessionEnd {
    fn from(error: StartupError) -> Self {
        match &error {
            StartupError::Certificate(_) => Self::Agent(error.to_string()),
            _ => Self::Client(error.to_string()),
        }
    }
}

/// Negotiates with a client from its first byte on.
///
/// A client that asked for protocol 3.2, or for options that are not known, has been told that it gets 3.0.
///
/// # Errors
/// What the client sent is refused; it has been told with a native FATAL, where it could understand it.
pub async fn accept(stream: Stream, tls: ClientTls<'_>) -> Result<Opened, StartupError> {
    accept_until(Instant::now() + PATIENCE, stream, tls).await
}

async fn accept_until(deadline: Instant, stream: Stream, tls: ClientTls<'_>) -> Result<Opened, StartupError> {
    // Small messages both ways: waiting for more only adds delay. Without it the session works all the same.
    let _ = stream.set_nodelay();
    let mut client = ClientStream::Plain(stream);
    let mut negotiation = Negotiation::default();
    let mut buffer = BytesMut::with_capacity(1024);
    loop {
        let step = match negotiation.advance(&mut buffer) {
            Ok(step) => step,
            Err(error) => {
                if let Some(fatal) = told(&error) {
                    refuse(client, &fatal).await;
                }
                return Err(error.into());
            }
        };
        let next = async {
            match step {
                Step::More => {
                    if client.read_buf(&mut buffer).await.map_err(StartupError::Io)? == 0 {
                        return Err(if buffer.is_empty() {
                            StartupError::Silent
                        } else {
                            StartupError::Truncated
                        });
                    }
                    Ok(Next::Again(client))
                }
                // As the server itself: nobody listens in on a unix socket.
                Step::StartTls if client.is_unix() => {
                    client.write_all(b"N").await.map_err(StartupError::Io)?;
                    Ok(Next::Again(client))
                }
                Step::StartTls => Ok(Next::Again(start_tls(client, tls).await?)),
                Step::NoGss => {
                    client.write_all(b"N").await.map_err(StartupError::Io)?;
                    Ok(Next::Again(client))
                }
                Step::Session(startup) => {
                    if startup.asks_for_more() {
                        let answer = negotiate_protocol_version(&startup);
                        client.write_all(&answer).await.map_err(StartupError::Io)?;
                        client.flush().await.map_err(StartupError::Io)?;
                    }
                    Ok(Next::Session(client, startup))
                }
                Step::Cancel(key) => Ok(Next::Cancel(client, key)),
            }
        };
        match timeout_at(deadline, next)
            .await
            .map_err(|_| StartupError::TooSlow)??
        {
            Next::Again(same) => client = same,
            Next::Session(client, startup) => {
                return Ok(Opened::Session {
                    client,
                    startup,
                    early: buffer,
                });
            }
            Next::Cancel(client, key) => return Ok(Opened::Cancel { client, key }),
        }
    }
}

/// Ends the connection with `fatal`, and sees to it that the client can read it.
pub async fn refuse(mut client: ClientStream, fatal: &Fatal) {
    let farewell = async {
        client.write_all(&fatal.encode()).await?;
        client.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the reset discards what the client has not read yet.
        let mut rest = [0; 1024];
        for _ in 0..64 {
            if client.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    // The client may be gone: then there is nobody left to tell.
    let _ = timeout(LINGER, farewell).await;
}

enum Next {
    Again(ClientStream),
    Session(ClientStream, Startup),
    Cancel(ClientStream, CancelKey),
}

async fn start_tls(client: ClientStream, tls: ClientTls<'_>) -> Result<ClientStream, StartupError> {
    let ClientStream::Plain(mut stream) = client else {
        return Err(StartupError::Order("SSLRequest inside TLS".to_owned()));
    };
    stream.write_all(b"S").await.map_err(StartupError::Io)?;
    let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream)
        .await
        .map_err(StartupError::Handshake)?;
    let names = LeafNames::asked(hello.client_hello().server_name(), tls.names, tls.address);
    let config = tls
        .authority
        .server_config(&names)
        .map_err(StartupError::Certificate)?;
    let stream = hello.into_stream(config).await.map_err(StartupError::Handshake)?;
    Ok(ClientStream::Tls(Box::new(stream)))
}

fn told(error: &NegotiationError) -> Option<Fatal> {
    match error {
        NegotiationError::Packet(error) => error.to_client(),
        NegotiationError::DataBeforeTls => Some(Fatal::new("08P01", error.to_string()).with_hint(
            "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
        )),
        NegotiationError::Repeated(_) => Some(Fatal::new("08P01", error.to_string())),
    }
}

impl From<NegotiationError> for StartupError {
    fn from(error: NegotiationError) -> Self {
        match error {
            NegotiationError::Packet(error) => Self::Packet(error),
            NegotiationError::DataBeforeTls => Self::DataBeforeTls,
            NegotiationError::Repeated(_) => Self::Order(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
