//! A PostgreSQL server of its own for a test, and a blocking pump between a script, the machine and that server.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::super::catalog::Relation;
use super::super::super::wire::{Header, frame};
use super::super::{Ask, Classify, Event, JudgedAt, Masking, Relay, Turn};
use crate::policy::Ruling;
use crate::protocol::HoldOutcome;

/// A running server; stopped and removed on drop.
pub(super) struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

/// Starts a server, or says loudly why that is not possible; in CI that is a failure.
pub(super) fn server() -> Option<Server> {
    let bin = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .find(|bin| bin.join("postgres").exists());
    let Some(bin) = bin else {
        assert!(
            std::env::var_os("CI").is_none(),
            "no PostgreSQL server is installed; this test needs one"
        );
        eprintln!("NOT RUN: no PostgreSQL server is installed");
        return None;
    };
    Some(Server::start(&bin))
}

fn as_postgres(program: PathBuf) -> Command {
    let mut command = Command::new(program);
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres")
            .unwrap()
            .expect("a user named postgres");
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

impl Server {
    fn start(bin: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        if nix::unistd::geteuid().is_root() {
            let user = nix::unistd::User::from_name("postgres").unwrap().unwrap();
            nix::unistd::chown(folder.path(), Some(user.uid), Some(user.gid)).unwrap();
        }
        let data = folder.path().join("data");
        let made = as_postgres(bin.join("initdb"))
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
                "-D",
            ])
            .arg(&data)
            .current_dir(folder.path())
            .status()
            .unwrap();
        assert!(made.success());
        let process = as_postgres(bin.join("postgres"))
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(folder.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "autovacuum=off",
            ])
            .current_dir(folder.path())
            .spawn()
            .unwrap();
        let server = Self { process, folder };
        let until = Instant::now() + Duration::from_secs(30);
        while Direct::try_open(&server, "postgres").is_none() {
            assert!(Instant::now() < until, "the server does not come up");
            std::thread::yield_now();
        }
        server
    }

    fn connect(&self) -> Option<UnixStream> {
        let socket = UnixStream::connect(self.folder.path().join(".s.PGSQL.5432")).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Some(socket)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let id = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.process.wait();
    }
}

/// One message: its type and body.
pub(super) type Message = (u8, Vec<u8>);

/// The messages of a byte stream.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut all = Vec::new();
    while let Some(header) = Header::peek(bytes).unwrap() {
        let (_, body) = header.whole(bytes).expect("a whole message");
        all.push((header.tag, body.to_vec()));
        bytes = &bytes[header.size()..];
    }
    assert!(bytes.is_empty());
    all
}

fn ready_count(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while let Some(header) = Header::peek(rest).unwrap() {
        if header.whole(rest).is_none() {
            break;
        }
        count += usize::from(header.tag == b'Z');
        rest = &rest[header.size()..];
    }
    count
}

/// A session straight to the server.
pub(super) struct Direct(UnixStream);

impl Direct {
    pub(super) fn open(server: &Server, user: &str) -> Self {
        Self::try_open(server, user).expect("a session")
    }

    fn try_open(server: &Server, user: &str) -> Option<Self> {
        let mut socket = server.connect()?;
        let mut startup = Vec::new();
        frame(&mut startup, 0, |out| {
            out.extend_from_slice(&196_608_i32.to_be_bytes());
            for (name, value) in [
                ("user", user),
                ("database", "postgres"),
                ("client_encoding", "UTF8"),
            ] {
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            }
            out.push(0);
        });
        socket.write_all(&startup[1..]).ok()?;
        let mut direct = Self(socket);
        let answer = direct.read_ready(1)?;
        messages(&answer)
            .iter()
            .any(|message| message.0 == b'Z')
            .then_some(direct)
    }

    fn read_ready(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut piece = [0; 16_384];
        while ready_count(&bytes) < count {
            match self.0.read(&mut piece) {
                Ok(0) => return None,
                Ok(read) => bytes.extend_from_slice(&piece[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the server does not answer: {error}"),
            }
        }
        Some(bytes)
    }

    /// Sends bytes and reads up to the given number of `ReadyForQuery`.
    pub(super) fn exchange(&mut self, bytes: &[u8], ready: usize) -> Vec<Message> {
        self.0.write_all(bytes).unwrap();
        messages(&self.read_ready(ready).expect("the session to go on"))
    }

    pub(super) fn query(&mut self, text: &str) -> Vec<Message> {
        self.exchange(&query(text), 1)
    }
}

type Judge = dyn FnMut(&crate::model::Command, JudgedAt) -> Ruling;

/// What a test answers to the machine's questions.
pub(super) struct Answers {
    pub judge: Box<Judge>,
    pub hold: Box<dyn FnMut([u8; 32]) -> HoldOutcome>,
    pub relations: Vec<Arc<Relation>>,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            judge: Box::new(|_, _| super::allow()),
            hold: Box::new(|_| panic!("no hold is expected")),
            relations: Vec::new(),
        }
    }
}

/// A session through the machine.
pub(super) struct Through<'m, M: Masking, C> {
    direct: Direct,
    relay: Relay<'m, M, C>,
    pub answers: Answers,
    pub events: Vec<Event>,
    pub record: Vec<u8>,
    from_server: Vec<u8>,
}

impl<'m, M: Masking, C: Classify> Through<'m, M, C> {
    pub(super) fn open(server: &Server, user: &str, masks: &'m M, classify: C, answers: Answers) -> Self {
        let direct = Direct::open(server, user);
        let mut relay = Relay::new(masks, classify, b"client");
        relay.reported(b"client_encoding", b"UTF8");
        relay.reported(b"standard_conforming_strings", b"on");
        Self {
            direct,
            relay,
            answers,
            events: Vec::new(),
            record: Vec::new(),
            from_server: Vec::new(),
        }
    }

    /// Gives the machine what the client sends; what it asks is answered at once.
    fn client(&mut self, bytes: &mut Vec<u8>) {
        let mut turn = Turn::default();
        loop {
            self.relay.client(bytes, &mut turn).unwrap();
            let out: Vec<u8> = turn.out.parts(bytes).collect::<Vec<_>>().concat();
            self.record
                .extend(turn.record.parts(bytes).collect::<Vec<_>>().concat());
            self.direct.0.write_all(&out).unwrap();
            bytes.drain(..turn.consumed);
            self.events.append(&mut turn.events);
            match turn.ask.take() {
                Some(Ask::Judge { command, at, .. }) => self.relay.ruled((self.answers.judge)(&command, at)),
                Some(Ask::Hold { binding, .. }) => {
                    let outcome = (self.answers.hold)(binding);
                    self.relay.hold_ended(outcome);
                }
                Some(Ask::Relations { names, .. }) => {
                    let found = self.answers.relations.iter();
                    let found = found.filter(|relation| names.iter().any(|name| name.name == relation.name));
                    let found = found.cloned().collect();
                    self.relay.resolved(found);
                }
                None => return,
            }
        }
    }

    fn server(&mut self, to_client: &mut Vec<u8>) {
        let mut turn = Turn::default();
        loop {
            self.relay.server(&self.from_server, &mut turn).unwrap();
            turn.out
                .parts(&self.from_server)
                .for_each(|part| to_client.extend_from_slice(part));
            self.from_server.drain(..turn.consumed);
            self.events.append(&mut turn.events);
            match turn.ask.take() {
                Some(Ask::Relations { oids, .. }) => {
                    let found = self.answers.relations.iter();
                    let found = found
                        .filter(|relation| oids.contains(&relation.oid))
                        .cloned()
                        .collect();
                    self.relay.described(found);
                }
                Some(other) => panic!("not a question of the server's side: {other:?}"),
                None => return,
            }
        }
    }

    /// As [`Direct::exchange`], through the machine.
    pub(super) fn exchange(&mut self, bytes: &[u8], ready: usize) -> Vec<Message> {
        let mut bytes = bytes.to_vec();
        let mut to_client = Vec::new();
        let mut piece = [0; 16_384];
        self.client(&mut bytes);
        while ready_count(&to_client) < ready {
            let read = self.direct.0.read(&mut piece).expect("an answer of the server");
            assert!(read > 0, "the server ended the session");
            self.from_server.extend_from_slice(&piece[..read]);
            self.server(&mut to_client);
            self.client(&mut bytes);
        }
        assert!(bytes.is_empty(), "the machine left {} bytes", bytes.len());
        messages(&to_client)
    }

    pub(super) fn query(&mut self, text: &str) -> Vec<Message> {
        self.exchange(&query(text), 1)
    }
}

pub(super) fn query(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    super::super::super::wire::Query {
        text: text.as_bytes(),
    }
    .encode(&mut out);
    out
}

/// `Parse`, `Bind` and `Execute` of a text, without a Sync.
pub(super) fn extended(text: &str, parameters: &[&str]) -> Vec<u8> {
    [parse("", text), bind("", "", parameters, &[]), execute("", 0)].concat()
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let (name, text) = (name.as_bytes(), text.as_bytes());
    super::super::super::wire::Parse {
        name,
        text,
        types: &[],
    }
    .encode(&mut out);
    out
}

pub(super) fn bind(portal: &str, statement: &str, parameters: &[&str], formats: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, b'B', |out| {
        for name in [portal, statement] {
            out.extend_from_slice(name.as_bytes());
            out.push(0);
        }
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&u16::try_from(parameters.len()).unwrap().to_be_bytes());
        for value in parameters {
            out.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
        out.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    });
    out
}

pub(super) fn execute(portal: &str, rows: i32) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, b'E', |out| {
        out.extend_from_slice(portal.as_bytes());
        out.push(0);
        out.extend_from_slice(&rows.to_be_bytes());
    });
    out
}

pub(super) fn describe(kind: u8, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, b'D', |out| {
        out.push(kind);
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    });
    out
}

pub(super) fn sync() -> Vec<u8> {
    let mut out = Vec::new();
    super::super::super::wire::sync(&mut out);
    out
}
