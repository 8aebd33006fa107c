//! Encryption of a connection that was just dialled, as the service asks for it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use crate::config::{EndpointHost, TlsMode};
use crate::flow::Stream;
use crate::model::{Place, ServiceName};
use crate::tls::{MaybeTls, Upstream};

use super::super::startup::SSL_REQUEST;
use super::LoginError;

/// The target's end of a session.
pub type ServerStream = MaybeTls<TlsStream<Stream>>;

/// A server of a service, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The service that it belongs to.
    pub service: ServiceName,
    /// The endpoint of the service that matched: its name is what the certificate has to be for.
    pub host: EndpointHost,
    /// Where it is.
    pub address: Place,
    /// TLS, as the service asks for.
    pub tls: Arc<Upstream>,
}

impl Target {
    /// Its address; that of the loopback for a unix socket, which has none.
    pub fn ip(&self) -> IpAddr {
        match &self.address {
            Place::Network(address) => address.ip(),
            Place::Unix(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// Asks for TLS and shakes hands, or leaves the connection as it is, as the service says.
pub(in super::super) async fn secure(
    mut stream: Stream,
    target: &Target,
) -> Result<ServerStream, LoginError> {
    // Without it the session works all the same.
    let _ = stream.set_nodelay();
    // No server has TLS on its unix sockets.
    if target.tls.mode() == TlsMode::Disable || stream.is_unix() {
        return Ok(ServerStream::Plain(stream));
    }
    let request = [8u32.to_be_bytes(), SSL_REQUEST.to_be_bytes()].concat();
    stream.write_all(&request).await.map_err(LoginError::Io)?;
    let mut answer = [0];
    // One byte and no more: what an attacker puts behind it in clear goes into the handshake, and breaks it.
    if stream.read(&mut answer).await.map_err(LoginError::Io)? == 0 {
        return Err(LoginError::Closed);
    }
    match &answer {
        b"S" => {
            let name = target.tls.name(&target.host, target.ip())?;
            let stream = target.tls.connect(name, stream).await?;
            Ok(ServerStream::Tls(Box::new(stream)))
        }
        b"N" => Err(LoginError::NoTls),
        // Its words came unauthenticated, so nobody is shown them (CVE-2024-10977).
        b"E" => Err(LoginError::Protocol(
            "it answered a request for TLS with an error",
        )),
        _ => Err(LoginError::Protocol("it does not speak PostgreSQL")),
    }
}
