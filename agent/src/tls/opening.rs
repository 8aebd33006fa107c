//! How a connection begins whose protocol is inside TLS from its first byte on: read, judged by whoever asked, and then
//! terminated, passed untouched or refused.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use crate::flow::Stream;

use super::alert::{Alert, is_distrust};
use super::hello::{ClientHello, HelloError, HelloReader};
use super::{LeafNames, LocalCa, Prefixed, TlsError};

/// How long a client may take for its first message. Clients open connections before they need them, but then speak at
/// once; the connection to the target is not there yet, so that waiting costs little.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the handshake may take from there: people do not take part in it.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a refused client is listened to, so that closing does not overtake the refusal.
const LINGER: Duration = Duration::from_secs(1);
const READ: usize = 4096;

/// The client's end of a terminated connection.
pub type WorkloadTls<S = Stream> = TlsStream<Prefixed<S>>;

/// How a client's connection begins.
#[derive(Debug)]
pub enum Opening<S = Stream> {
    /// With TLS.
    Tls(Box<Hello<S>>),
    /// With something else: in clear, whatever it is. Nothing of it is lost.
    Clear(Prefixed<S>),
}

/// A client that has said what it wants and waits for an answer.
pub struct Hello<S = Stream> {
    facts: ClientHello,
    /// The records of the `ClientHello`, and what came after them already.
    raw: Bytes,
    first_length: usize,
    stream: S,
}

impl<S> std::fmt::Debug for Hello<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hello")
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// Why a client gets no connection: its own doing, or that of whoever it did not trust.
#[derive(Debug, thiserror::Error)]
pub enum ClientFault {
    /// The connection ended before the first byte: a port scan, a health check, a connection that was opened in advance.
    #[error("the client closed the connection before it said anything")]
    Silent,
    /// The connection ended inside the first message.
    #[error("the client closed the connection inside its first message of TLS")]
    Truncated,
    /// The client took too long.
    #[error("the client took too long to agree on TLS")]
    TooSlow,
    /// No `ClientHello`.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// rustls does not read it, or reads something else in it.
    #[error("the client's first message of TLS can be read in two ways, or in none: it is refused")]
    Ambiguous,
    /// Only versions that are not secure any more.
    #[error(
        "the client speaks only versions of TLS before 1.2: have it updated, or make the service protocol = \
         \"opaque\", so that its bytes are recorded and passed without being understood"
    )]
    OldVersion,
    /// It does not accept the certificate.
    #[error(
        "the client does not accept the certificate that it was shown ({what}): start it with `tollgate run`, or let it trust \
         this host's authority (`tollgate ca install`, `tollgate ca bundle`); a client that is pinned to a certificate, or \
         verifies it against its own list, needs a service with protocol = \"opaque\", \
         whose bytes are recorded and passed without being understood"
    )]
    Distrust {
        /// What it said.
        what: String,
    },
    /// It offered an encrypted `ClientHello` and insists on it.
    #[error(
        "the client insists on an encrypted ClientHello (ECH), with which nobody could tell what it asks for: switch ECH off \
         in it, or make the service protocol = \"opaque\""
    )]
    Encrypted,
    /// No version, cipher or signature in common, or the connection failed.
    #[error(
        "no TLS connection could be agreed on with the client: it has to speak TLS 1.2 or 1.3 with ECDSA on P-256"
    )]
    Handshake(#[source] io::Error),
    /// The connection failed.
    #[error("the connection of the client failed")]
    Io(#[source] io::Error),
}

impl Opening<Stream> {
    /// Reads what the client begins with. What cannot be read has been told to the client when this returns.
    ///
    /// # Errors
    /// It says nothing, or something that is no beginning.
    pub async fn read(stream: Stream) -> Result<Self, ClientFault> {
        // Small messages both ways: waiting for more only adds delay. Without it the connection works all the same.
        let _ = stream.set_nodelay();
        Self::read_from(stream).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Opening<S> {
    /// As [`Opening::read`], of any stream.
    pub async fn read_from(stream: S) -> Result<Self, ClientFault> {
        Self::read_within(PATIENCE, stream).await
    }

    async fn read_within(patience: Duration, mut stream: S) -> Result<Self, ClientFault> {
        let mut reader = HelloReader::default();
        let read = timeout(patience, read_hello(&mut stream, &mut reader)).await;
        let read = read.unwrap_or(Err(ClientFault::TooSlow));
        match read {
            Ok(facts) => {
                let (raw, first_length) = reader.into_raw();
                Ok(Self::Tls(Box::new(Hello {
                    facts,
                    raw: raw.into(),
                    first_length,
                    stream,
                })))
            }
            Err(ClientFault::Hello(HelloError::NotTls)) => {
                let (raw, _) = reader.into_raw();
                Ok(Self::Clear(Prefixed::new(raw.into(), stream)))
            }
            Err(fault @ ClientFault::Hello(_)) => {
                tell(&mut stream, Alert::Malformed).await;
                Err(fault)
            }
            Err(fault) => Err(fault),
        }
    }
}

async fn read_hello<S: AsyncRead + Unpin>(
    stream: &mut S,
    reader: &mut HelloReader,
) -> Result<ClientHello, ClientFault> {
    let mut buffer = [0; READ];
    loop {
        let length = stream.read(&mut buffer).await.map_err(ClientFault::Io)?;
        if length == 0 {
            return Err(if reader.raw().is_empty() {
                ClientFault::Silent
            } else {
                ClientFault::Truncated
            });
        }
        if let Some(facts) = reader.push(buffer.get(..length).unwrap_or_default())? {
            return Ok(facts);
        }
    }
}

impl<S> Hello<S> {
    /// What the client says.
    pub fn facts(&self) -> &ClientHello {
        &self.facts
    }

    /// The server that it asks for, lower case; `None`: it names none.
    pub fn name(&self) -> Option<&str> {
        self.facts.name.as_deref()
    }

    /// Of the protocols that it offers those that are `spoken`, the client's favourite first.
    pub fn common_protocols(&self, spoken: &[&[u8]]) -> Vec<Vec<u8>> {
        let common = self.facts.alpn.iter();
        common
            .filter(|offered| spoken.contains(&offered.as_slice()))
            .cloned()
            .collect()
    }

    /// Whether it offers protocols and none of them is `spoken`.
    pub fn offers_nothing_of(&self, spoken: &[&[u8]]) -> bool {
        !self.facts.alpn.is_empty() && self.common_protocols(spoken).is_empty()
    }

    /// The stream as if nothing had been read of it, to be passed on untouched.
    pub fn into_untouched(self) -> Prefixed<S> {
        Prefixed::new(self.raw, self.stream)
    }

    /// rustls's reading of the message. `None`: it does not read it, or reads something else in it.
    fn accepted(&self) -> Option<Accepted> {
        let mut acceptor = Acceptor::default();
        let mut message = self.raw.get(..self.first_length)?;
        while !message.is_empty() {
            acceptor.read_tls(&mut message).ok().filter(|read| *read > 0)?;
            if let Some(accepted) = acceptor.accept().ok()? {
                let same = message.is_empty() && self.agrees(&accepted);
                return same.then_some(accepted);
            }
        }
        None
    }

    fn agrees(&self, accepted: &Accepted) -> bool {
        let hello = accepted.client_hello();
        let protocols = hello.alpn().into_iter().flatten();
        hello.server_name().map(str::to_ascii_lowercase) == self.facts.name
            && protocols.eq(self.facts.alpn.iter().map(Vec::as_slice))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Hello<S> {
    /// Answers with a certificate for `names`, made by `authority`, and with the protocol `alpn` alone; `None`: without a word
    /// on protocols, as a server that does not know ALPN.
    ///
    /// # Errors
    /// The certificate cannot be made, or the client does not accept it, or another part of the handshake. It has been told
    /// by an alert.
    pub async fn terminate(
        self,
        authority: &LocalCa,
        names: &LeafNames,
        alpn: Option<&[u8]>,
    ) -> Result<WorkloadTls<S>, TerminateError> {
        let config = match authority.server_config(names) {
            Ok(config) => config,
            Err(error) => {
                self.refuse(Alert::Failed).await;
                return Err(TerminateError::Certificate(error));
            }
        };
        let mut config = ServerConfig::clone(&config);
        config.alpn_protocols = alpn.into_iter().map(<[u8]>::to_vec).collect();
        if !self.facts.is_modern() {
            self.refuse(Alert::OldVersion).await;
            return Err(ClientFault::OldVersion.into());
        }
        let Some(accepted) = self.accepted() else {
            self.refuse(Alert::Malformed).await;
            return Err(ClientFault::Ambiguous.into());
        };
        let encrypted = self.facts.encrypted;
        let rest = self.raw.slice(self.first_length..);
        let stream = Prefixed::new(rest, self.stream);
        let handshake = StartHandshake::from_parts(accepted, stream).into_stream(Arc::new(config));
        match timeout(HANDSHAKE_PATIENCE, handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(explain(error, encrypted).into()),
            Err(_) => Err(ClientFault::TooSlow.into()),
        }
    }

    /// Tells the client by an alert that it gets no connection, and sees to it that it can read it.
    pub async fn refuse(mut self, alert: Alert) {
        tell(&mut self.stream, alert).await;
    }
}

/// Why a client's connection was not terminated.
#[derive(Debug, thiserror::Error)]
pub enum TerminateError {
    /// The agent's fault.
    #[error(transparent)]
    Certificate(TlsError),
    /// The client's.
    #[error(transparent)]
    Client(#[from] ClientFault),
}

async fn tell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, alert: Alert) {
    let farewell = async {
        stream.write_all(&alert.record()).await?;
        stream.shutdown().await?;
        // Closing a socket with unread bytes resets it, and the reset discards what the client has not read yet.
        let mut rest = [0; 1024];
        for _ in 0..64 {
            if stream.read(&mut rest).await? == 0 {
                break;
            }
        }
        Ok::<(), io::Error>(())
    };
    // The client may be gone: then there is nobody left to tell.
    let _ = timeout(LINGER, farewell).await;
}

/// What became of a handshake with a client, from what it sent last.
fn explain(error: io::Error, encrypted: bool) -> ClientFault {
    let cause = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::AlertReceived(AlertDescription::EncryptedClientHelloRequired)) => {
            ClientFault::Encrypted
        }
        // A client whose ECH was not taken up verifies the certificate and then ends the connection, some without a word.
        Some(rustls::Error::AlertReceived(alert)) if is_distrust(*alert) => ClientFault::Distrust {
            what: format!("alert {alert:?}"),
        },
        Some(_) => ClientFault::Handshake(error),
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
        ) =>
        {
            let with_ech = if encrypted { "; it also offered ECH" } else { "" };
            ClientFault::Distrust {
                what: format!("it closed the connection when it had seen it{with_ech}"),
            }
        }
        None => ClientFault::Io(error),
    }
}

/// What a client's end of the connection was about that closed a terminated connection before it asked for anything.
///
/// Some clients (Node) verify a certificate when the handshake is over already, and then only close the connection; a client
/// that opened one in advance does the same. So it is a hint and no fault.
pub fn closed_without_a_word() -> &'static str {
    "the client closed the connection before it asked for anything; if it says that it does not trust the certificate, start \
     it with `tollgate run`, or let it trust this host's authority (`tollgate ca install`)"
}

#[cfg(test)]
mod tests;
