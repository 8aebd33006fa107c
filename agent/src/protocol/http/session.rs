//! One connection of a workload, from its first byte to its last.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::config::{EndpointHost, ServiceDoc};
use crate::flow::Stream;
use crate::model::Place;
use crate::protocol::{SessionEnd, Shared, Stages, Target};
use crate::tls::LocalCa;

use super::credential::Credential;
use super::exchange::{self, exchange};
use super::guard::Names;
use super::guarded::{Guarded, Heads};
use super::mask::HttpMasks;
use super::open::{self, Client, Failed, Opened, Spoken, open};
use super::tasks::{Driver, Tasks};
use super::tunnel;
use super::upstream::{Line, TargetStream};
use super::wire::{LONGEST_HEAD, MOST_FIELDS};

/// How long exchanges of a session that ends are given to tell their clients.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Exchanges of a connection of HTTP/2 that go on at a time.
const MOST_STREAMS: u32 = 200;
/// Bytes that a client may send ahead, and that are kept for it: of one exchange, and of all exchanges of a connection.
pub(super) const STREAM_WINDOW: u32 = 256 * 1024;
pub(super) const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of one exchange that wait to be sent.
pub(super) const SEND_BUFFER: usize = 256 * 1024;
/// Fields of a head together.
pub(super) const HEADER_LIST: u32 = 64 * 1024;

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
    pub(super) masks: HttpMasks,
    pub(super) line: Line<S>,
    /// What the workload speaks: `http` or `https`.
    pub(super) scheme: &'static str,
    /// For whom the connection is.
    pub(super) names: Names,
    /// Why the session ends, as soon as it does.
    over: watch::Sender<Option<SessionEnd>>,
    /// Exchanges so far.
    exchanges: AtomicU64,
    pub(super) credential: Credential,
    /// What the session may end for is something else now: it has a credential, which may be void, or is judged no more.
    pub(super) ends_otherwise: Notify,
    /// Whether the connection was upgraded, and what it was upgraded to goes on.
    tunnel: watch::Sender<bool>,
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
        service: &ServiceDoc,
        target: &Target,
        stages: Shared<S>,
    ) -> Result<(), SessionEnd> {
        let ending = stages.with(|stages| stages.ending());
        let dial = || stages.with(Stages::dial);
        let opened = tokio::select! {
            // The client has not asked for anything that could be answered.
            end = ending => return Err(end),
            opened = open(stream, service, target, &self.authority, dial) => opened,
        };
        match opened {
            Ok(Opened {
                client,
                spoken,
                names,
                target: connected,
                server,
            }) => {
                let line = Line::new(spoken, server);
                let link = Link::new(stages, target.clone(), &client, line, names);
                match client {
                    Client::Plain(client) => serve(client, link, connected).await,
                    Client::Tls(client) => serve(*client, link, connected).await,
                }
            }
            Err(Failed { end, client }) => {
                if let Some(client) = client {
                    exchange::refuse(client, Spoken::Http1, &end).await;
                }
                Err(end)
            }
        }
    }

    /// Tells a client that it is not let in.
    pub async fn refuse(&self, stream: Stream, service: &ServiceDoc, target: &Target, why: &SessionEnd) {
        if let Some((client, spoken)) = open::to_refuse(stream, service, target, &self.authority).await {
            exchange::refuse(client, spoken, why).await;
        }
    }
}

impl<S: Stages + 'static> Link<S> {
    fn new(stages: Shared<S>, target: Target, client: &Client, line: Line<S>, names: Names) -> Arc<Self> {
        let credential = Credential::new(stages.with(|stages| stages.injection()));
        Arc::new(Self {
            masks: HttpMasks::new(stages.with(|stages| stages.masks())),
            stages,
            tasks: Tasks::default(),
            target,
            line,
            scheme: match client {
                Client::Plain(_) => "http",
                Client::Tls(_) => "https",
            },
            names,
            over: watch::Sender::new(None),
            exchanges: AtomicU64::new(0),
            credential,
            ends_otherwise: Notify::new(),
            tunnel: watch::Sender::new(false),
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

    /// Goes on with what the connection of an exchange is upgraded to, when both sides are.
    pub(super) fn upgrade(self: &Arc<Self>, number: u64, client: OnUpgrade, target: OnUpgrade)
    where
        S: 'static,
    {
        self.tunnel.send_replace(true);
        self.stages.with(Stages::unjudged);
        self.ends_otherwise.notify_one();
        let link = Arc::clone(self);
        self.tasks.spawn(async move {
            tunnel::run(&link, number, client, target).await;
            link.tunnel.send_replace(false);
        });
    }

    /// Resolves when nothing goes on that a connection was upgraded to.
    async fn tunnelled(&self) {
        // The sender is in `self`.
        self.tunnel.subscribe().wait_for(|goes_on| !goes_on).await.ok();
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

async fn serve<S, I>(client: I, link: Arc<Link<S>>, connected: Option<TargetStream>) -> Result<(), SessionEnd>
where
    S: Stages + 'static,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if let Some(connected) = connected {
        link.line.begin(&link, connected).await?;
    }
    match link.line.spoken() {
        Spoken::Http1 => {
            let (client, heads) = Guarded::new(client);
            let builder = first_version();
            let connection = builder.serve_connection(TokioIo::new(client), service(&link, Some(heads)));
            drive(
                &link,
                connection.with_upgrades(),
                http1::UpgradeableConnection::graceful_shutdown,
            )
            .await
        }
        Spoken::Http2 => {
            let builder = second_version(&link.tasks);
            let connection = builder.serve_connection(TokioIo::new(client), service(&link, None));
            drive(&link, connection, http2::Connection::graceful_shutdown).await
        }
    }
}

/// Answers the requests of a connection.
fn service<S: Stages + 'static>(
    link: &Arc<Link<S>>,
    heads: Option<Heads>,
) -> impl hyper::service::HttpService<
    Incoming,
    ResBody = super::body::Answer<S>,
    Error = exchange::Aborted,
    Future: Send + 'static,
> + use<S> {
    let link = Arc::clone(link);
    service_fn(move |request: Request<Incoming>| exchange(Arc::clone(&link), heads.clone(), request))
}

/// HTTP/1.1 as a server. Names of fields keep their case, as some clients look at it.
/// `pipeline_flush` is left off: with it hyper takes chunks of a body without a bound.
pub(super) fn first_version() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .preserve_header_case(true)
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_headers(MOST_FIELDS)
        .max_header_size(LONGEST_HEAD);
    builder
}

/// HTTP/2 as a server.
pub(super) fn second_version(tasks: &Tasks) -> http2::Builder<Tasks> {
    let mut builder = http2::Builder::new(tasks.clone());
    builder
        .auto_date_header(false)
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_LIST);
    builder
}

/// Drives a connection until the client or the session ends it; `wind_up` has it begin nothing new.
async fn drive<S: Stages + 'static, C>(
    link: &Arc<Link<S>>,
    connection: C,
    wind_up: fn(std::pin::Pin<&mut C>),
) -> Result<(), SessionEnd>
where
    C: Future<Output = Result<(), hyper::Error>>,
{
    let mut driver = pin!(Driver::new(link.tasks.clone()));
    let mut connection = pin!(connection);
    let mut ending = link.stages.with(|stages| stages.ending());
    let mut served = None;
    let end = loop {
        tokio::select! {
            biased;
            end = &mut ending => break end,
            end = link.ended() => break end,
            () = &mut driver => {}
            () = link.ends_otherwise.notified() => ending = link.stages.with(|stages| stages.ending()),
            () = link.line.closed() => wind_up(connection.as_mut()),
            done = &mut connection, if served.is_none() => match done {
                Ok(()) => served = Some(()),
                Err(error) => return Err(failed(&error)),
            },
            () = link.tunnelled(), if served.is_some() => return Ok(()),
        }
    };
    link.end(end.clone());
    if served.is_some() {
        return Err(end);
    }
    wind_up(connection.as_mut());
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
