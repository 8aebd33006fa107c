//! How a connection begins: with TLS or in clear, and with which version of HTTP.

use std::io;

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::{ClientTls, EndpointHost, ServiceDoc};
use crate::flow::Stream;
use crate::protocol::{SessionEnd, Target, Wait};
use crate::tls::{
    Alert, Hello, Intercepted, LeafNames, LocalCa, NotIntercepted, Opening, Prefixed, TerminateError, Terms,
    TlsError, Why, WorkloadTls, intercept,
};

use super::guard::Names;
use super::upstream::TargetStream;

/// Versions of HTTP that are spoken, by their names in ALPN.
const SPOKEN: [&[u8]; 2] = [H2, b"http/1.1"];
const H2: &[u8] = b"h2";
/// With this a client begins that speaks HTTP/2 without being asked (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which HTTP is spoken on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Spoken {
    /// What is offered to the target in TLS.
    pub(super) fn offered(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::Http2 => vec![H2.to_vec()],
        }
    }
}

/// The client's end of a connection.
pub(super) enum Client {
    /// In clear.
    Plain(Prefixed<Stream>),
    /// In TLS.
    Tls(Box<WorkloadTls>),
}

/// A connection that has begun.
pub(super) struct Opened {
    pub(super) client: Client,
    pub(super) spoken: Spoken,
    pub(super) names: Names,
    /// The target, where it is connected already.
    pub(super) target: Option<TargetStream>,
    /// As whom the target is verified; `None`: as what the service says by itself.
    pub(super) server: Option<ServerName<'static>>,
}

/// A connection that does not come to be.
pub(super) struct Failed {
    pub(super) end: SessionEnd,
    /// The client, where it can be told why in HTTP.
    pub(super) client: Option<Client>,
}

impl From<SessionEnd> for Failed {
    fn from(end: SessionEnd) -> Self {
        Self { end, client: None }
    }
}

/// Opens a connection as the service says. `dial` is asked where the target has to be there first.
pub(super) async fn open(
    stream: Stream,
    service: &ServiceDoc,
    target: &Target,
    authority: &LocalCa,
    dial: impl FnOnce() -> Wait<Stream>,
) -> Result<Opened, Failed> {
    let names = Names::of(&service.addresses, &target.address);
    match service.client_tls {
        ClientTls::Plain => plain(stream, names).await,
        ClientTls::Terminate => match Opening::read(stream).await.map_err(clients)? {
            Opening::Tls(hello) => tls(hello, names, target, authority, dial).await,
            Opening::Clear(stream) => Err(Failed {
                end: SessionEnd::Client(
                    "it speaks plain HTTP, and the service is one of HTTPS: ask for https://, or have tls.client = \"plain\" set"
                        .to_owned(),
                ),
                client: Some(Client::Plain(stream)),
            }),
        },
    }
}

/// The client of a connection that is refused whatever it is for, so that it can be told in HTTP.
pub(super) async fn to_refuse(
    stream: Stream,
    service: &ServiceDoc,
    target: &Target,
    authority: &LocalCa,
) -> Option<(Client, Spoken)> {
    let names = Names::of(&service.addresses, &target.address);
    match service.client_tls {
        ClientTls::Plain => plain(stream, names)
            .await
            .ok()
            .map(|opened| (opened.client, opened.spoken)),
        ClientTls::Terminate => match Opening::read(stream).await.ok()? {
            Opening::Tls(hello) => told_in_tls(hello, &names, target, authority).await,
            Opening::Clear(stream) => Some((Client::Plain(stream), Spoken::Http1)),
        },
    }
}

async fn plain(mut stream: Stream, names: Names) -> Result<Opened, Failed> {
    // Small messages both ways: waiting for more only adds delay. Without it the session works all the same.
    let _ = stream.set_nodelay();
    let (prefix, spoken) = sniff(&mut stream)
        .await
        .map_err(|error| SessionEnd::Client(format!("the connection failed: {error}")))?;
    if prefix.is_empty() {
        return Err(SessionEnd::Client(
            "the client closed the connection before it said anything".to_owned(),
        )
        .into());
    }
    Ok(Opened {
        client: Client::Plain(Prefixed::new(prefix, stream)),
        spoken,
        names,
        target: None,
        server: None,
    })
}

/// Reads as much as it takes to know which HTTP is spoken.
async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Bytes, Spoken)> {
    let mut read = BytesMut::with_capacity(1024);
    loop {
        let more = stream.read_buf(&mut read).await? > 0;
        let common = PREFACE.len().min(read.len());
        if read.get(..common) != PREFACE.get(..common) {
            return Ok((read.freeze(), Spoken::Http1));
        }
        if common == PREFACE.len() {
            return Ok((read.freeze(), Spoken::Http2));
        }
        if !more {
            return Ok((read.freeze(), Spoken::Http1));
        }
    }
}

async fn tls(
    hello: Box<Hello>,
    names: Names,
    target: &Target,
    authority: &LocalCa,
    dial: impl FnOnce() -> Wait<Stream>,
) -> Result<Opened, Failed> {
    let asked = hello.name().map(str::to_owned);
    let Some(names) = names.asked(asked.as_deref()) else {
        hello.refuse(Alert::UnknownName).await;
        return Err(SessionEnd::Client(format!(
            "it asks for {}, and no service of the policy has this name here",
            asked.unwrap_or_default()
        ))
        .into());
    };
    // Of several names of the service at one address the one that is asked for is verified.
    let host = match (&target.host, asked.as_deref()) {
        (EndpointHost::Name(_), Some(asked)) => EndpointHost::Name(asked.to_owned()),
        (host, _) => host.clone(),
    };
    let server = target
        .tls
        .asked(&host, target.ip(), asked.as_deref())
        .map_err(ours)?;
    let terms = Terms {
        authority,
        upstream: &target.tls,
        server: server.clone(),
        names: LeafNames::asked(asked.as_deref(), names.known(), target.ip()),
        spoken: &SPOKEN,
        identity: None,
    };
    if target.tls.mode() == crate::config::TlsMode::Disable {
        return in_clear_beyond(hello, names, target, authority).await;
    }
    match intercept(hello, terms, dial()).await {
        Ok(Intercepted {
            client, target, alpn, ..
        }) => Ok(Opened {
            client: Client::Tls(Box::new(client)),
            spoken: if alpn.as_deref() == Some(H2) {
                Spoken::Http2
            } else {
                Spoken::Http1
            },
            names,
            target: Some(TargetStream::Tls(Box::new(target))),
            server: Some(server),
        }),
        Err(NotIntercepted { why, hello }) => {
            let alert = why.alert();
            let told_in_http = matches!(why, Why::Dial(_) | Why::Target(_) | Why::Agent(_));
            let end = match why {
                Why::Dial(end) => end,
                Why::Target(error) => SessionEnd::Target(error.to_string()),
                Why::Agent(error) => SessionEnd::Agent(error.to_string()),
                why @ (Why::NoProtocol { .. } | Why::Client(_)) => SessionEnd::Client(why.to_string()),
            };
            let client = match hello {
                Some(hello) if told_in_http => told_in_tls(hello, &names, target, authority)
                    .await
                    .map(|(client, _)| client),
                Some(hello) => {
                    hello.refuse(alert).await;
                    None
                }
                None => None,
            };
            Err(Failed { end, client })
        }
    }
}

/// A target that is spoken to in clear chooses nothing: HTTP/1.1 is what all of them speak.
async fn in_clear_beyond(
    hello: Box<Hello>,
    names: Names,
    target: &Target,
    authority: &LocalCa,
) -> Result<Opened, Failed> {
    match told_in_tls(hello, &names, target, authority).await {
        Some((client, spoken)) => Ok(Opened {
            client,
            spoken,
            names,
            target: None,
            server: None,
        }),
        None => Err(SessionEnd::Client("no TLS connection could be agreed on with it".to_owned()).into()),
    }
}

/// Terminates TLS without a target, with HTTP/1.1 where the client knows it.
async fn told_in_tls(
    hello: Box<Hello>,
    names: &Names,
    target: &Target,
    authority: &LocalCa,
) -> Option<(Client, Spoken)> {
    let leaf = LeafNames::asked(hello.name(), names.known(), target.ip());
    let (alpn, spoken) = match hello.common_protocols(&SPOKEN).as_slice() {
        [] => (None, Spoken::Http1),
        [only] if only == H2 => (Some(H2), Spoken::Http2),
        _ => (SPOKEN.last().copied(), Spoken::Http1),
    };
    match hello.terminate(authority, &leaf, alpn).await {
        Ok(client) => Some((Client::Tls(Box::new(client)), spoken)),
        Err(TerminateError::Certificate(error)) => {
            tracing::error!("a client could not be told why its connection does not come to be: {error}");
            None
        }
        Err(TerminateError::Client(_)) => None,
    }
}

fn clients(fault: crate::tls::ClientFault) -> SessionEnd {
    SessionEnd::Client(fault.to_string())
}

/// Whose fault an error of TLS with the target is.
pub(super) fn ours(error: TlsError) -> SessionEnd {
    if error.is_ours() {
        SessionEnd::Agent(error.to_string())
    } else {
        SessionEnd::Target(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::{PREFACE, Spoken, sniff};

    #[tokio::test]
    async fn the_version_is_known_from_the_first_bytes_and_none_of_them_is_lost() {
        let longer = [PREFACE, b"rest"].concat();
        for (bytes, spoken) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], Spoken::Http1),
            (PREFACE, Spoken::Http2),
            (&longer, Spoken::Http2),
            (b"PRI * HTTP/1.1\r\n\r\n", Spoken::Http1),
            (b"PRI *", Spoken::Http1),
            (b"", Spoken::Http1),
        ] {
            for size in [1, 7, 100] {
                let mut stream = Pieces(bytes.to_vec(), size);
                let (prefix, found) = sniff(&mut stream).await.unwrap();
                assert_eq!(found, spoken);
                let rest = stream.rest();
                assert_eq!([&prefix[..], &rest].concat(), bytes);
            }
        }
    }

    /// Gives bytes in pieces.
    struct Pieces(Vec<u8>, usize);

    impl Pieces {
        fn rest(self) -> Vec<u8> {
            self.0
        }
    }

    impl tokio::io::AsyncRead for Pieces {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let this = self.get_mut();
            let some = this.1.min(this.0.len()).min(buf.remaining());
            buf.put_slice(&this.0[..some]);
            this.0.drain(..some);
            std::task::Poll::Ready(Ok(()))
        }
    }
}
