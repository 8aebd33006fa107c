//! The connection to the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::sync::{Mutex, Notify};

use crate::config::TlsMode;
use crate::flow::Stream;
use crate::protocol::{SessionEnd, Stages, Target};
use crate::tls::{MaybeTls, Offer, TargetTls};

use super::body::Recorded;
use super::open::{Spoken, ours};
use super::session::{CONNECTION_WINDOW, HEADER_LIST, Link, SEND_BUFFER, STREAM_WINDOW};

/// The target's end of a session.
pub(super) type TargetStream = MaybeTls<TargetTls<Stream>>;

/// What is sent as the body of a request.
pub(super) type Sent<S> = Recorded<S>;

/// The connection to the target, made when it is first needed and made anew where the target has closed it.
pub(super) struct Line<S: Stages> {
    spoken: Spoken,
    /// As whom the target is verified; `None`: as what the service says by itself.
    server: Option<ServerName<'static>>,
    sender: Mutex<Option<Sender<Sent<S>>>>,
    /// It has been closed, and the session has not been told yet.
    closed: Arc<Notify>,
    /// An answer has come over the connection that there is now.
    answered: AtomicBool,
}

enum Sender<B> {
    Http1(http1::SendRequest<B>),
    Http2(http2::SendRequest<B>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The target cannot be spoken to.
    Unreachable(SessionEnd),
    /// It closed a connection over which it had answered before, as servers do with idle ones. A client that speaks to it
    /// directly asks again, and does so here when its own connection is closed.
    Stale(String),
    /// It broke the exchange off.
    Broken(String),
}

impl<S: Stages + 'static> Line<S> {
    pub(super) fn new(spoken: Spoken, server: Option<ServerName<'static>>) -> Self {
        Self {
            spoken,
            server,
            sender: Mutex::new(None),
            closed: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }

    /// Which HTTP is spoken to the target, as with the client.
    pub(super) fn spoken(&self) -> Spoken {
        self.spoken
    }

    /// Goes on with a connection that there is already.
    pub(super) async fn begin(&self, link: &Link<S>, stream: TargetStream) -> Result<(), SessionEnd> {
        *self.sender.lock().await = Some(self.hands(link, stream).await?);
        Ok(())
    }

    /// Resolves when the target has closed its connection.
    pub(super) async fn closed(&self) {
        self.closed.notified().await;
    }

    /// Sends a request, and waits for the head of its answer.
    pub(super) async fn ask(
        &self,
        link: &Arc<Link<S>>,
        mut request: Request<Sent<S>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        loop {
            let mut sender = self.sender.lock().await;
            let usable = match sender.as_mut() {
                Some(Sender::Http1(sender)) => sender.ready().await.is_ok(),
                Some(Sender::Http2(sender)) => sender.ready().await.is_ok(),
                None => false,
            };
            if !usable {
                *sender = Some(self.connect(link).await.map_err(Unanswered::Unreachable)?);
                self.answered.store(false, Ordering::Relaxed);
            }
            let asking = match sender.as_mut() {
                Some(Sender::Http1(sender)) => Asking::Http1(sender.try_send_request(request)),
                Some(Sender::Http2(sender)) => Asking::Http2(sender.try_send_request(request)),
                None => return Err(Unanswered::Broken("the connection is gone".to_owned())),
            };
            drop(sender);
            match asking.answer().await {
                Ok(answer) => {
                    self.answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(mut failed) => match failed.take_message() {
                    // Nothing of it was sent.
                    Some(unsent) => request = unsent,
                    None if self.answered.load(Ordering::Relaxed) => {
                        return Err(Unanswered::Stale(failed.error().to_string()));
                    }
                    None => return Err(Unanswered::Broken(failed.error().to_string())),
                },
            }
        }
    }

    async fn connect(&self, link: &Arc<Link<S>>) -> Result<Sender<Sent<S>>, SessionEnd> {
        let stream = link.stages.with(Stages::dial).await?;
        let stream = self.secure(stream, &link.target).await?;
        self.hands(link, stream).await
    }

    async fn secure(&self, stream: Stream, target: &Target) -> Result<TargetStream, SessionEnd> {
        // Without it the session works all the same.
        let _ = stream.set_nodelay();
        if target.tls.mode() == TlsMode::Disable || stream.is_unix() {
            return Ok(TargetStream::Plain(stream));
        }
        let name = match &self.server {
            Some(server) => server.clone(),
            None => target.tls.name(&target.host, target.ip()).map_err(ours)?,
        };
        let offer = Offer {
            alpn: self.spoken.offered(),
            identity: None,
        };
        let secured = target
            .tls
            .connect_offering(name, offer, stream)
            .await
            .map_err(ours)?;
        let chosen = secured.stream.get_ref().1.alpn_protocol();
        if self.spoken == Spoken::Http2 && chosen != Some(b"h2") {
            return Err(SessionEnd::Target(
                "it does not speak HTTP/2, which its client began with".to_owned(),
            ));
        }
        Ok(TargetStream::Tls(Box::new(secured.stream)))
    }

    async fn hands(&self, link: &Link<S>, stream: TargetStream) -> Result<Sender<Sent<S>>, SessionEnd> {
        let failed = |error: hyper::Error| SessionEnd::Target(error.to_string());
        let closed = Arc::clone(&self.closed);
        let stream = TokioIo::new(stream);
        // What went wrong with a connection is its exchanges' to tell.
        match self.spoken {
            Spoken::Http1 => {
                let mut builder = http1::Builder::new();
                builder.preserve_header_case(true);
                let (sender, connection) = builder.handshake(stream).await.map_err(failed)?;
                link.tasks.spawn(async move {
                    let _ended = connection.with_upgrades().await;
                    closed.notify_one();
                });
                Ok(Sender::Http1(sender))
            }
            Spoken::Http2 => {
                let mut builder = http2::Builder::new(link.tasks.clone());
                builder
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_send_buf_size(SEND_BUFFER)
                    .max_header_list_size(HEADER_LIST);
                let (sender, connection) = builder.handshake(stream).await.map_err(failed)?;
                link.tasks.spawn(async move {
                    let _ended = connection.await;
                    closed.notify_one();
                });
                Ok(Sender::Http2(sender))
            }
        }
    }
}

/// A request that was sent.
enum Asking<A, B> {
    Http1(A),
    Http2(B),
}

impl<A, B, T> Asking<A, B>
where
    A: Future<Output = Result<Response<Incoming>, TrySendError<T>>>,
    B: Future<Output = Result<Response<Incoming>, TrySendError<T>>>,
{
    async fn answer(self) -> Result<Response<Incoming>, TrySendError<T>> {
        match self {
            Self::Http1(answer) => answer.await,
            Self::Http2(answer) => answer.await,
        }
    }
}
