//! The connection to the target.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::{Mutex, Notify};
use tokio_rustls::client::TlsStream;

use crate::config::TlsMode;
use crate::flow::Stream;
use crate::protocol::{SessionEnd, Stages, Target};
use crate::tls::MaybeTls;

use super::body::Recorded;
use super::session::Link;

/// The target's end of a session.
type ServerStream = MaybeTls<TlsStream<Stream>>;

/// What is sent as the body of a request.
pub(super) type Sent<S> = Recorded<S>;

/// The connection to the target, made when it is first needed and made anew where the target has closed it.
pub(super) struct Line<S: Stages> {
    sender: Mutex<Option<SendRequest<Sent<S>>>>,
    /// It has been closed, and the session has not been told yet.
    closed: Arc<Notify>,
    /// An answer has come over the connection that there is now.
    answered: AtomicBool,
}

impl<S: Stages> Default for Line<S> {
    fn default() -> Self {
        Self {
            sender: Mutex::default(),
            closed: Arc::default(),
            answered: AtomicBool::new(false),
        }
    }
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
                Some(sender) => sender.ready().await.is_ok(),
                None => false,
            };
            if !usable {
                *sender = Some(self.connect(link).await.map_err(Unanswered::Unreachable)?);
                self.answered.store(false, Ordering::Relaxed);
            }
            let Some(asking) = sender.as_mut().map(|sender| sender.try_send_request(request)) else {
                return Err(Unanswered::Broken("the connection is gone".to_owned()));
            };
            drop(sender);
            match asking.await {
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

    async fn connect(&self, link: &Arc<Link<S>>) -> Result<SendRequest<Sent<S>>, SessionEnd> {
        let stream = link.stages.with(Stages::dial).await?;
        let stream = secure(stream, &link.target).await?;
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| SessionEnd::Target(error.to_string()))?;
        let closed = Arc::clone(&self.closed);
        link.tasks.spawn(async move {
            // What went wrong is the exchange's to tell.
            let _ended = connection.with_upgrades().await;
            closed.notify_one();
        });
        Ok(sender)
    }
}

async fn secure(stream: Stream, target: &Target) -> Result<ServerStream, SessionEnd> {
    // Without it the session works all the same.
    let _ = stream.set_nodelay();
    if target.tls.mode() == TlsMode::Disable || stream.is_unix() {
        return Ok(ServerStream::Plain(stream));
    }
    let failed = |error: crate::tls::TlsError| {
        if error.is_ours() {
            SessionEnd::Agent(error.to_string())
        } else {
            SessionEnd::Target(error.to_string())
        }
    };
    let name = target.tls.name(&target.host, target.ip()).map_err(failed)?;
    let stream = target.tls.connect(name, stream).await.map_err(failed)?;
    Ok(ServerStream::Tls(Box::new(stream)))
}
