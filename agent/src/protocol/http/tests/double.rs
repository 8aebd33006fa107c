//! Stages that record into memory, a target, and a session between a client and it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{EndpointHost, TlsSpec, parse_policy};
use crate::finding::{Question, Sighting};
use crate::flow::Stream;
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId, Material, Place};
use crate::policy::{PolicySet, Ruling};
use crate::protocol::http::record::Piece;
use crate::protocol::http::{Adapter, record};
use crate::protocol::{
    CommandNumber, HoldDecision, HoldEnding, HoldOutcome, HoldRequest, Login, MaskedBy, Occasion, PlacedHold,
    SessionEnd, Shared, Stages, TakeMaterial, Target, Wait,
};
use crate::tls::{LocalCa, Upstream};

/// What a session has recorded, in order.
#[derive(Default)]
pub(super) struct Ledger {
    pub(super) frames: Vec<(Direction, Vec<u8>)>,
    pub(super) commands: Vec<(u64, String)>,
    pub(super) bytes_to_client: u64,
    /// More bytes than these may not go to the client.
    pub(super) limit: Option<u64>,
}

impl Ledger {
    /// The parts of `direction`, as `exchange part last? bytes`.
    pub(super) fn parts(&self, direction: Direction) -> Vec<String> {
        let mut parts = Vec::new();
        for (_, frame) in self.frames.iter().filter(|(way, _)| *way == direction) {
            let Piece {
                exchange,
                part,
                last,
                bytes,
            } = record::Piece::read(frame).unwrap();
            let last = if last { " last" } else { "" };
            let bytes = String::from_utf8_lossy(bytes);
            let first = bytes.lines().next().unwrap_or_default();
            parts.push(format!("{exchange} {part:?}{last} {first}").trim().to_owned());
        }
        parts
    }

    pub(super) fn body(&self, direction: Direction) -> Vec<u8> {
        let mut body = Vec::new();
        for (_, frame) in self.frames.iter().filter(|(way, _)| *way == direction) {
            let piece = record::Piece::read(frame).unwrap();
            if piece.part == record::Part::Body {
                body.extend_from_slice(piece.bytes);
            }
        }
        body
    }
}

pub(super) struct Double {
    pub(super) ledger: Arc<Mutex<Ledger>>,
    rules: Arc<crate::policy::Service>,
    target: SocketAddr,
    over: watch::Receiver<Option<SessionEnd>>,
    decide: watch::Receiver<Option<HoldDecision>>,
    number: u64,
    dialled: Arc<Mutex<u32>>,
    judged: bool,
    lapsed: watch::Receiver<bool>,
}

impl Stages for Double {
    fn room(&mut self) -> Option<Wait<()>> {
        None
    }

    fn record(&mut self, _: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd> {
        self.ledger.lock().frames.push((direction, parts.concat()));
        Ok(())
    }

    fn judge(&mut self, command: &Arc<Command>, occasion: Occasion<'_>) -> Result<Ruling, SessionEnd> {
        self.number += 1;
        let Occasion::Exchange(exchange, _) = occasion else {
            return Err(SessionEnd::Agent("an exchange is judged as one".to_owned()));
        };
        self.ledger
            .lock()
            .commands
            .push((exchange, command.text.to_string()));
        Ok(self.rules.policy.judge(command))
    }

    fn asks(&self) -> crate::model::HttpAsks {
        self.rules.policy.asks()
    }

    fn judged(&self) -> CommandNumber {
        CommandNumber(self.number)
    }

    fn hold(&mut self, hold: HoldRequest) -> Result<PlacedHold, SessionEnd> {
        let mut decide = self.decide.clone();
        Ok(PlacedHold {
            id: HoldId::from("aaaaaaaa"),
            decision: Box::pin(async move {
                let decided = decide.wait_for(Option::is_some).await.unwrap().clone().unwrap();
                match decided.outcome {
                    HoldOutcome::Approved(..) => HoldDecision {
                        outcome: HoldOutcome::Approved(hold.terms.approved(), hold.binding),
                        end: HoldEnding::Approved,
                        by: None,
                        reason: None,
                    },
                    _ => decided,
                }
            }),
        })
    }

    fn hold_ended(&mut self, _: &HoldId, _: &HoldDecision) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn count(&mut self, _: u64, bytes: u64) -> Result<(), SessionEnd> {
        let mut ledger = self.ledger.lock();
        if ledger
            .limit
            .is_some_and(|limit| ledger.bytes_to_client + bytes > limit)
        {
            return Err(SessionEnd::Policy(crate::policy::Denied {
                rules: Vec::new(),
                message: "tollgate: too many bytes".to_owned(),
                hint: "read less".to_owned(),
            }));
        }
        ledger.bytes_to_client += bytes;
        Ok(())
    }

    fn masked(&mut self, _: CommandNumber, _: &str, _: MaskedBy, _: u64) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn question(&self, _: &str) -> Option<Question> {
        None
    }

    fn has_no_password(&mut self, _: &str) {}

    fn found(&mut self, _: Sighting) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::new(Masks::compile(&[], [0; 32]))
    }

    async fn login(&mut self) -> Result<Login, SessionEnd> {
        Err(SessionEnd::Agent("nobody logs in here".to_owned()))
    }

    fn material(&mut self) -> Wait<TakeMaterial<Self>> {
        Box::pin(std::future::ready(Ok(
            Box::new(|_: &mut Self| Ok(None::<Material>)) as TakeMaterial<Self>,
        )))
    }

    fn dial(&mut self) -> Wait<Stream> {
        *self.dialled.lock() += 1;
        let address = self.target;
        Box::pin(async move {
            connected(address)
                .await
                .map(Stream::from)
                .map_err(|e| SessionEnd::Target(e.to_string()))
        })
    }

    fn unjudged(&mut self) {
        self.judged = false;
    }

    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>> {
        let (mut over, mut lapsed, judged) = (self.over.clone(), self.lapsed.clone(), self.judged);
        Box::pin(async move {
            tokio::select! {
                over = over.wait_for(Option::is_some) => over.unwrap().clone().unwrap(),
                Ok(_) = lapsed.wait_for(|lapsed| *lapsed), if !judged => SessionEnd::Changed,
            }
        })
    }
}

pub(super) async fn connected(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    // The kernel would take a hundred megabytes for a reader that does not read.
    socket.set_recv_buffer_size(64 * 1024)?;
    socket.connect(address).await
}

/// A session that a client can be connected to.
pub(super) struct Session {
    pub(super) client: TcpStream,
    pub(super) ledger: Arc<Mutex<Ledger>>,
    pub(super) over: watch::Sender<Option<SessionEnd>>,
    pub(super) decide: watch::Sender<Option<HoldDecision>>,
    pub(super) dialled: Arc<Mutex<u32>>,
    /// Whether the identity of the job counts no more.
    pub(super) lapsed: watch::Sender<bool>,
    pub(super) running: JoinHandle<Result<(), SessionEnd>>,
    _dir: TempDir,
}

/// Rules that allow everything but DELETE, and hold PATCH.
const RULES: &str = r#"
[[service.rule]]
name = "all"
effects = ["read", "write", "modify", "websocket"]
verdict = "allow"

[[service.rule]]
name = "patches"
effects = ["modify"]
verdict = "approve"
approvers = ["ops"]
"#;

/// Begins a session with the target at `target`.
pub(super) async fn session(target: SocketAddr) -> Session {
    let policy = format!(
        "[workload]\nname = \"w\"\ncgroup = [\"/w\"]\n\n[[service]]\nname = \"api\"\nprotocol = \"http\"\n\
         address = [\"{target}\"]\ntls = {{ upstream = \"disable\", client = \"plain\" }}\n{RULES}"
    );
    let doc = parse_policy(Path::new("p.toml"), &policy).unwrap();
    let set = PolicySet::compile(vec![Arc::new(doc)]);
    let rules = Arc::clone(&set.policies()[0].services[0]);
    let dir = tempfile::tempdir().unwrap();
    let adapter = Adapter::new(Arc::new(LocalCa::open_or_create(dir.path()).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = connected(listener.local_addr().unwrap()).await.unwrap();
    let (accepted, _) = listener.accept().await.unwrap();
    let (over, ends) = watch::channel(None);
    let (decide, decided) = watch::channel(None);
    let (lapsed, lapses) = watch::channel(false);
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let dialled = Arc::new(Mutex::new(0));
    let double = Double {
        ledger: Arc::clone(&ledger),
        rules,
        target,
        over: ends,
        decide: decided,
        number: 0,
        dialled: Arc::clone(&dialled),
        judged: true,
        lapsed: lapses,
    };
    let spec = TlsSpec {
        upstream: crate::config::TlsMode::Disable,
        ..TlsSpec::default()
    };
    let target = Target {
        service: "api".into(),
        host: EndpointHost::Net(target.ip().into()),
        address: Place::Network(target),
        tls: Arc::new(Upstream::from_spec(&spec).unwrap()),
    };
    let service = Arc::clone(&double.rules);
    let running = tokio::spawn(async move {
        let shared = Shared::new(double);
        let end = adapter
            .run(Stream::from(accepted), &service.doc, &target, shared.clone())
            .await;
        assert!(shared.take_back().is_some(), "something outlived its session");
        end
    });
    Session {
        client,
        ledger,
        over,
        decide,
        dialled,
        lapsed,
        running,
        _dir: dir,
    }
}

/// A target that answers with `answer`.
pub(super) async fn target<F, R>(answer: F) -> SocketAddr
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Response<Full<Bytes>>> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let answer = answer(request);
                    async { Ok::<_, Infallible>(answer.await) }
                });
                hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await
                    .ok();
            });
        }
    });
    address
}
