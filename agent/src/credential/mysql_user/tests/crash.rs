//! SIGKILL after each step that a user's life has on the server: the next start leaves nothing there.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::leases::PACE;
use super::{World, maker};
use crate::config::{AdminSpec, CredentialKind, MysqlUserSpec, Share, SourceSpec};
use crate::credential::tests::{PLAIN, ask};
use crate::credential::{Ask, LeaseEnd, Leases};
use crate::model::Place;
use crate::protocol::mysql::testing::MariaDb;

const LONG: Duration = Duration::from_secs(40);
/// Where the process that is killed finds what it needs: the server's address, then a folder.
const CHILD: &str = "TOLLGATE_TEST_LEASES_OF";

/// A relay that stands still once it has passed on the answer to the client's nth message.
struct Gate {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    seen: AtomicUsize,
    last: AtomicUsize,
    shut: AtomicBool,
}

impl Gate {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let relaying = Arc::clone(&state);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                // A server that is being stopped takes no more.
                let Ok(far) = TcpStream::connect(server) else {
                    return;
                };
                relay(near, far, &relaying);
            }
        });
        Self { address, state }
    }

    /// Stands still after this many messages; never with `usize::MAX`.
    fn last(&self, last: usize) {
        self.state.seen.store(0, Ordering::SeqCst);
        self.state.shut.store(false, Ordering::SeqCst);
        self.state.last.store(last, Ordering::SeqCst);
    }

    fn is_shut(&self) -> bool {
        self.state.shut.load(Ordering::SeqCst)
    }
}

fn relay(near: TcpStream, far: TcpStream, state: &Arc<State>) {
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let passing = Arc::clone(state);
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // What the client writes at once comes at once: it waits for an answer before it goes on.
            if passing.seen.load(Ordering::SeqCst) >= passing.last.load(Ordering::SeqCst) {
                passing.shut.store(true, Ordering::SeqCst);
                return;
            }
            passing.seen.fetch_add(1, Ordering::SeqCst);
            if to.write_all(&buffer[..count]).is_err() {
                return;
            }
        }
        let _gone = to.shutdown(std::net::Shutdown::Both);
    });
    let (mut from, mut to) = (far, near);
    std::thread::spawn(move || {
        let _gone = std::io::copy(&mut from, &mut to);
    });
}

fn made_at(address: SocketAddr, secret: &Path) -> (MysqlUserSpec, Ask) {
    let spec = MysqlUserSpec {
        admin: AdminSpec {
            user: SourceSpec::Literal("keeper".into()),
            password: SourceSpec::File(secret.to_owned()),
            database: None,
        },
        grant: "reader".into(),
        ttl: Duration::from_mins(10),
        connections: 3,
        share: Share::Session,
    };
    let mut ask = ask(Share::Session);
    ask.target = MariaDb::target(Place::Network(address), &PLAIN);
    (spec, ask)
}

/// The process that is killed: a lease from its beginning to its end.
async fn life(address: SocketAddr, secret: &Path, journal: &Path) {
    let (spec, ask) = made_at(address, secret);
    let leases = Leases::open(journal).unwrap();
    let lease = leases
        .take(&maker(&spec, &PLAIN), &CredentialKind::MysqlUser(spec), ask)
        .await
        .unwrap();
    assert_eq!(lease.end(LONG).await, LeaseEnd::Revoked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigkill_after_any_step_leaves_nothing_after_the_next_start() {
    if let Ok(told) = std::env::var(CHILD) {
        let mut told = told.split(' ');
        let mut next = || told.next().unwrap();
        let address = next().parse().unwrap();
        return life(address, Path::new(next()), Path::new(next())).await;
    }
    let world = World::start();
    let SourceSpec::File(secret) = world.keeper().admin.password else {
        unreachable!("the keeper's password is in a file")
    };
    let gate = Gate::start(world.server.address());
    let dir = tempfile::tempdir().unwrap();
    let (mut steps, mut found_made) = (0, 0);
    loop {
        let journal = dir.path().join(format!("after-{steps}"));
        gate.last(steps);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "credential::mysql_user::tests::crash::sigkill_after_any_step_leaves_nothing_after_the_next_start"])
            .env(CHILD, format!("{} {} {}", gate.address, secret.display(), journal.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ended = loop {
            if let Some(ended) = child.try_wait().unwrap() {
                break Some(ended);
            }
            if gate.is_shut() {
                // SIGKILL.
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        };
        if let Some(ended) = ended {
            assert!(ended.success(), "after {steps} steps: {ended}");
            break;
        }
        found_made += usize::from(world.users() != "0");
        gate.last(usize::MAX);
        let next = Leases::open_at(&journal, PACE).unwrap();
        let until = tokio::time::Instant::now() + LONG;
        // One that was killed before it asked for anything stays in the journal for a while: it may be made yet.
        while world.users() != "0" || next.list().iter().any(|lease| lease.state == "revoking") {
            assert!(
                tokio::time::Instant::now() < until,
                "left after {steps} steps: {:?}",
                next.list()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        steps += 1;
    }
    // Login, settings, privileges, tables, user, role, farewell; login, default role, farewell; login, settings, look, lock, sessions,
    // four kinds of objects, drop, sessions.
    assert!(steps >= 20, "{steps}");
    // About ten; of a statement that was just sent, the server may not have done yet what it asks for.
    assert!(found_made >= 5, "{found_made}");
    assert_eq!(world.users(), "0");
}
