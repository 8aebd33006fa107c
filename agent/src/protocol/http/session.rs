//! One connection of a workload, from its first byte to its last.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::config::{ClientTls, EndpointHost};
use crate::flow::Stream;
use crate::model::Place;
use crate::protocol::{SessionEnd, Shared, Stages, Target};
use crate::tls::LocalCa;

use super::credential::Credential;
use super::exchange::{self, exchange};
use super::tasks::{Driver, Tasks};
use super::upstream::Line;

/// How long exchanges of a session that ends are given to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What all HTTP sessions of the host share.
#[derive(Debug)]
pub struct Adapter {
    authority: Arc<LocalCa>,
}

/// What all exchanges of a session share.
pub(super) struct Link<S: Stages> {
    pub(super) stages: Shared<S>,
    pub(super) tasks: Tasks,
    pub(super) target: Target,
    pub(super) line: Line<S>,
    /// What the workload speaks: `http` or `https`.
    pub(super) scheme: &'static str,
    /// Why the session ends, as soon as it does.
    over: watch::Sender<Option<SessionEnd>>,
    /// Exchanges so far.
    exchanges: AtomicU64,
    pub(super) credential: Credential,
    /// There is a credential now, which may end.
    pub(super) credentialed: Notify,
}

impl Adapter {
    /// An adapter whose clients are shown certificates of `authority`.
    pub fn new(authority: Arc<LocalCa>) -> Self {
        Self { authority }
    }

    /// Runs one session.
    pub async fn run<S: Stages + 'static>(
        &self,
        stream: Stream,
        client: ClientTls,
        target: &Target,
        stages: Shared<S>,
    ) -> Result<(), SessionEnd> {
        // Small messages both ways: waiting for more only adds delay. Without it the session works all the same.
        let _ = stream.set_nodelay();
        match client {
            ClientTls::Terminate => Err(SessionEnd::Agent(format!(
                "TLS of workloads is not terminated yet ({})",
                self.authority.certificate_path().display()
            ))),
            ClientTls::Plain => serve(stream, Link::new(stages, target.clone(), "http")).await,
        }
    }

    /// Tells a client that it is not let in.
    pub async fn refuse(&self, stream: Stream, client: ClientTls, _: &Target, why: &SessionEnd) {
        if client == ClientTls::Plain {
            exchange::refuse(stream, why).await;
        }
    }
}

impl<S: Stages + 'static> Link<S> {
    fn new(stages: Shared<S>, target: Target, scheme: &'static str) -> Arc<Self> {
        let credential = Credential::new(stages.with(|stages| stages.injection()));
        Arc::new(Self {
            stages,
            tasks: Tasks::default(),
            target,
            line: Line::default(),
            scheme,
            over: watch::Sender::new(None),
            exchanges: AtomicU64::new(0),
            credential,
            credentialed: Notify::new(),
        })
    }

    /// Scheme and authority, for requests that name none.
    pub(super) fn origin(&self, host: Option<&str>) -> String {
        match (host, &self.target.host, &self.target.address) {
            (Some(host), _, _) => format!("{}://{host}", self.scheme),
            (None, EndpointHost::Name(name), Place::Network(at)) => {
                format!("{}://{name}:{}", self.scheme, at.port())
            }
            (None, _, Place::Network(at)) => format!("{}://{at}", self.scheme),
            (None, _, Place::Unix(_)) => format!("{}://localhost", self.scheme),
        }
    }
}

impl<S: Stages> Link<S> {
    /// The number of a new exchange.
    pub(super) fn next(&self) -> u64 {
        self.exchanges.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Ends the session where `done` is an error, whatever exchange it is of.
    pub(super) fn check<T>(&self, done: Result<T, SessionEnd>) -> Result<T, SessionEnd> {
        done.inspect_err(|end| self.end(end.clone()))
    }

    /// Ends the session. What it ends for first counts.
    fn end(&self, end: SessionEnd) {
        self.over.send_if_modified(|over| {
            let first = over.is_none();
            over.get_or_insert(end);
            first
        });
    }

    /// Names an exchange where nobody but the record knows what it was.
    pub(super) fn instance(&self, number: u64) -> String {
        match self.stages.with(|stages| stages.session()) {
            Some(session) => format!("urn:tollgate:session:{session}#{number}"),
            None => "about:blank".to_owned(),
        }
    }

    /// Why the session ends that has ended.
    pub(super) fn why(&self) -> SessionEnd {
        self.over.borrow().clone().unwrap_or(SessionEnd::Stop)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.borrow().is_some()
    }

    /// Resolves when the session ends, and why.
    pub(super) async fn ended(&self) -> SessionEnd {
        let mut over = self.over.subscribe();
        let why = over
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|why| why.clone());
        // The sender is in `self`.
        why.unwrap_or(SessionEnd::Stop)
    }
}

async fn serve<S: Stages + 'static>(client: Stream, link: Arc<Link<S>>) -> Result<(), SessionEnd> {
    let mut driver = pin!(Driver::new(link.tasks.clone()));
    let service = {
        let link = Arc::clone(&link);
        service_fn(move |request| exchange(Arc::clone(&link), request))
    };
    let mut connection = pin!(
        http1::Builder::new()
            .preserve_header_case(true)
            .auto_date_header(false)
            .header_read_timeout(None)
            .pipeline_flush(true)
            .serve_connection(TokioIo::new(client), service)
            .with_upgrades()
    );
    let mut ending = link.stages.with(|stages| stages.ending());
    let end = loop {
        tokio::select! {
            biased;
            end = &mut ending => break end,
            end = link.ended() => break end,
            () = &mut driver => {}
            () = link.credentialed.notified() => ending = link.stages.with(|stages| stages.ending()),
            () = link.line.closed() => connection.as_mut().graceful_shutdown(),
            served = &mut connection => match served {
                Ok(()) => return Ok(()),
                Err(error) => return Err(failed(&error)),
            },
        }
    };
    link.end(end.clone());
    connection.as_mut().graceful_shutdown();
    let told = async {
        tokio::select! {
            _ = connection => {}
            () = driver => {}
        }
    };
    timeout(LAST_WORDS, told).await.ok();
    Err(end)
}

/// Why a connection of a workload broke off.
fn failed(error: &hyper::Error) -> SessionEnd {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<exchange::Aborted>() {
        Some(exchange::Aborted(why)) => SessionEnd::Target(why.clone()),
        None => SessionEnd::Client(format!("{error} ({cause})")),
    }
}
