//! Every byte is on record before it is forwarded: watched at the sockets.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use super::drive::Conversation;
use super::statements::Statements;
use crate::config::{EndpointHost, parse_policy};
use crate::finding::{Question, Sighting};
use crate::flow::Stream;
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId, PolicyId};
use crate::policy::{PolicySet, Ruling};
use crate::protocol::Target;
use crate::protocol::postgres::cancel::{CancelMap, Owner};
use crate::protocol::postgres::catalog::{Catalog, CatalogCaches, CatalogKey};
use crate::protocol::postgres::relay::Relay;
use crate::protocol::{
    CommandNumber, HoldDecision, HoldRequest, Login, MaskedBy, Occasion, PlacedHold, SessionEnd, Stages,
    TakeMaterial, Wait, sql,
};
use crate::tls::Upstream;

const POLICY: &str = r#"
[workload]
name   = "w"
cgroup = ["/w"]

[[service]]
name     = "s"
protocol = "postgres"
address  = ["127.0.0.1:5432"]
tls      = { upstream = "disable" }

[service.credential]
source   = "file"
user     = "u"
password = "/nonexistent"

[[service.rule]]
name    = "reads"
effects = ["read"]
verdict = "allow"
"#;

/// What is on record, as bytes in order.
#[derive(Default)]
struct Ledger {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

/// A socket that compares what is written to it with what is on record by then.
struct Witness {
    stream: DuplexStream,
    ledger: Arc<Mutex<Ledger>>,
    direction: Direction,
    written: usize,
}

impl AsyncRead for Witness {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Witness {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.written;
        {
            let ledger = self.ledger.lock();
            let recorded = match self.direction {
                Direction::ToServer => &ledger.to_server,
                Direction::ToClient => &ledger.to_client,
            };
            assert_eq!(
                recorded.get(written..written + bytes.len()),
                Some(bytes),
                "bytes are forwarded ({:?}) that are not on record",
                self.direction
            );
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(taken)) = &polled {
            self.written += taken;
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Stages that record into memory and judge by [`POLICY`].
struct Recording {
    ledger: Arc<Mutex<Ledger>>,
    rules: Arc<crate::policy::Service>,
}

impl Stages for Recording {
    fn room(&mut self) -> Option<Wait<()>> {
        None
    }

    fn judged(&self) -> CommandNumber {
        CommandNumber::default()
    }

    fn record(&mut self, kind: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd> {
        let mut ledger = self.ledger.lock();
        for part in parts {
            match (kind, direction) {
                (FrameKind::ClientBytes, Direction::ToServer) => ledger.to_server.extend_from_slice(part),
                (FrameKind::ServerBytes, Direction::ToClient) => ledger.to_client.extend_from_slice(part),
                _ => {}
            }
        }
        Ok(())
    }

    fn judge(&mut self, command: &Arc<Command>, _: Occasion<'_>) -> Result<Ruling, SessionEnd> {
        Ok(self.rules.policy.judge(command))
    }

    fn hold(&mut self, _: HoldRequest) -> Result<PlacedHold, SessionEnd> {
        Err(SessionEnd::Agent("nothing is held here".to_owned()))
    }

    fn hold_ended(&mut self, _: &HoldId, _: &HoldDecision) -> Result<(), SessionEnd> {
        Ok(())
    }

    fn count(&mut self, _: u64, _: u64) -> Result<(), SessionEnd> {
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
        Err(SessionEnd::Agent("nothing is found here".to_owned()))
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::new(Masks::compile(&[], [0; 32]))
    }

    async fn login(&mut self) -> Result<Login, SessionEnd> {
        Err(SessionEnd::Agent("nobody logs in here".to_owned()))
    }

    fn material(&mut self) -> Wait<TakeMaterial<Self>> {
        Box::pin(std::future::ready(Ok(
            Box::new(|_: &mut Self| Ok(None)) as TakeMaterial<Self>
        )))
    }

    fn dial(&mut self) -> Wait<Stream> {
        let nobody = SessionEnd::Agent("nobody is dialled here".to_owned());
        Box::pin(std::future::ready(Err(nobody)))
    }

    fn unjudged(&mut self) {
        unreachable!("every command of PostgreSQL is judged")
    }

    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>> {
        Box::pin(std::future::pending())
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A server that answers each query with `rows` rows of `width` bytes.
async fn server(mut stream: DuplexStream, rows: usize, width: usize) -> usize {
    let mut queries = 0;
    loop {
        let mut head = [0; 5];
        if stream.read_exact(&mut head).await.is_err() || head[0] == b'X' {
            return queries;
        }
        let mut body = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4];
        stream.read_exact(&mut body).await.unwrap();
        queries += 1;
        let mut answer = message(
            b'T',
            b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
        );
        let value = vec![b'v'; width];
        for _ in 0..rows {
            let length = u32::try_from(width).unwrap().to_be_bytes();
            answer.extend(message(b'D', &[&b"\0\x01"[..], &length, &value].concat()));
        }
        answer.extend(message(b'C', b"SELECT 1\0"));
        answer.extend(message(b'Z', b"I"));
        stream.write_all(&answer).await.unwrap();
    }
}

#[tokio::test]
async fn every_byte_is_on_record_before_it_is_forwarded() {
    let doc = parse_policy(std::path::Path::new("w.toml"), POLICY).unwrap();
    let set = PolicySet::compile([Arc::new(doc)]);
    let rules = Arc::clone(&set.policies()[0].services[0]);
    let target = Target {
        service: "s".into(),
        host: EndpointHost::Name("db".to_owned()),
        address: crate::model::Place::Network("127.0.0.1:5432".parse().unwrap()),
        tls: Arc::new(Upstream::from_spec(&rules.doc.tls).unwrap()),
    };
    let cancels = Arc::new(CancelMap::default());
    let owner = Owner {
        policy: PolicyId(1),
        service: "s".into(),
    };
    let registration = cancels.register(owner, &target, None);
    let key = CatalogKey {
        policy: PolicyId(1),
        service: "s".into(),
        address: target.address.clone(),
        database: "d".to_owned(),
    };
    // Sockets of several sizes: what is taken at once, and what has to wait and is copied.
    for (buffer, rows, width) in [(64, 3, 10), (1 << 16, 2000, 100), (4096, 4, 3 << 20)] {
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let mut stages = Recording {
            ledger: Arc::clone(&ledger),
            rules: Arc::clone(&rules),
        };
        let masks = stages.masks();
        let cache = Arc::new(sql::Cache::new(16, 1 << 16));
        let mut relay = Relay::new(&*masks, Statements(cache), b"u");
        relay.reported(b"client_encoding", b"UTF8");
        let catalog = Catalog::new(
            target.clone(),
            "d".to_owned(),
            CatalogCaches::default().of(key.clone()),
        );
        let mut conversation = Conversation::new(&mut stages, relay, catalog, &registration, "app");
        let (near_client, mut client) = tokio::io::duplex(buffer);
        let (near_server, far_server) = tokio::io::duplex(buffer);
        let witness = |stream, direction| Witness {
            stream,
            ledger: Arc::clone(&ledger),
            direction,
            written: 0,
        };
        let serving = server(far_server, rows, width);
        let asking = async {
            for _ in 0..5 {
                client.write_all(&message(b'Q', b"SELECT 1\0")).await.unwrap();
                let mut last = [0; 6];
                // Reads until the answer ends with ReadyForQuery.
                while last != *b"Z\0\0\0\x05I" {
                    last.rotate_left(1);
                    last[5] = client.read_u8().await.unwrap();
                }
            }
            client.write_all(&message(b'X', b"")).await.unwrap();
            client.shutdown().await.unwrap();
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
        };
        let running = conversation.run(
            witness(near_client, Direction::ToClient),
            witness(near_server, Direction::ToServer),
        );
        let (ended, queries, ()) = tokio::join!(running, serving, asking);
        ended.unwrap();
        assert_eq!(queries, 5);
        let ledger = ledger.lock();
        assert!(ledger.to_client.len() > 5 * rows * width);
        assert_eq!(ledger.to_server.iter().filter(|byte| **byte == b'Q').count(), 5);
    }
}
