//! Encryption of a connection that was just dialled, as the service asks for it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::client::TlsStream;

use crate::config::TlsMode;
use crate::flow::Stream;
use crate::protocol::Target;
use crate::tls::MaybeTls;

use super::super::startup::SSL_REQUEST;
use super::LoginError;

/// The target's end of a session.
pub type ServerStream = MaybeTls<TlsStream<Stream>>;

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
