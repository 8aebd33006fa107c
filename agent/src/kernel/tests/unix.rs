//! Connections to unix sockets: redirected by their path, refused by their last component.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{EventKind, Standing, UnixTier, UnixTreatment};
use crate::config::Egress;
use crate::model::SocketPath;

/// A database's socket, the agent's, and a managed workload.
struct Scene {
    bench: Bench,
    workload: Workload,
    cgroup: TestCgroup,
    directory: tempfile::TempDir,
    server: UnixListener,
    agent: UnixListener,
}

const NAME: &str = ".s.PGSQL.5432";

impl Scene {
    /// `None`: this kernel has no hook for unix sockets, and says so.
    fn new() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let bench = Bench::new();
        match bench.kernel.unix_tier() {
            UnixTier::Redirected { .. } => {}
            UnixTier::Refused { reason } | UnixTier::Open { reason } => {
                assert!(reason.contains("6.7"), "{reason}");
                let release = nix::sys::utsname::uname()
                    .unwrap()
                    .release()
                    .to_string_lossy()
                    .into_owned();
                assert!(
                    release.starts_with("6.1.") || release.starts_with("6.6."),
                    "{release}: {reason}"
                );
                return None;
            }
        }
        let directory = tempfile::tempdir().unwrap();
        for name in ["db", "elsewhere", "agent"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let server = UnixListener::bind(directory.path().join("db").join(NAME)).unwrap();
        let agent = UnixListener::bind(directory.path().join("agent/1.sock")).unwrap();
        for listener in [&server, &agent] {
            listener.set_nonblocking(true).unwrap();
        }
        let cgroup = TestCgroup::new();
        bench.manage(&cgroup, Egress::Allow, &[]);
        let workload = Workload::inside(&cgroup);
        let scene = Self {
            bench,
            workload,
            cgroup,
            directory,
            server,
            agent,
        };
        scene.redirect();
        Some(scene)
    }

    fn path(&self, below: &str) -> PathBuf {
        self.directory.path().join(below)
    }

    fn database(&self) -> SocketPath {
        SocketPath::parse(self.path("db").join(NAME).to_str().unwrap()).unwrap()
    }

    fn redirect(&self) {
        let listener = UnixTreatment::Redirect(self.path("agent/1.sock"));
        let wanted = BTreeMap::from([(self.database(), listener)]);
        self.bench.kernel.set_unix(POLICY, &wanted).unwrap();
    }

    fn connect(&mut self, name: &str, path: &str) -> String {
        connect(&mut self.workload, name, path)
    }
}

fn connect(workload: &mut Workload, name: &str, path: &str) -> String {
    workload.tell(&format!("open_({name:?}, socket.AF_UNIX)"));
    workload.tell(&format!("S[{name:?}].connect({path:?})"))
}

/// Whether a connection waits at `listener`; it is closed.
fn came(listener: &UnixListener) -> bool {
    listener.accept().is_ok()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_protected_unix_socket_is_redirected_and_the_agent_knows_who_connected() {
    let Some(mut scene) = Scene::new() else { return };
    let database = scene.database();
    assert_eq!(scene.connect("a", database.as_str()), "None");
    assert!(!came(&scene.server));
    let (mut accepted, _) = scene.agent.accept().unwrap();
    accepted.write_all(b"hello").unwrap();
    assert_eq!(scene.workload.tell("S['a'].recv(5)"), "b'hello'");
    assert_eq!(scene.workload.tell("S['a'].sendall(b'you')"), "None");
    let mut said = [0; 3];
    accepted.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"you");

    let origin = scene
        .bench
        .kernel
        .unix_flow(&database, scene.workload.pid())
        .unwrap()
        .unwrap();
    assert_eq!(
        (origin.policy, origin.tgid, origin.uid),
        (POLICY, scene.workload.pid(), 0)
    );
    assert_eq!(
        (origin.cgroup, origin.managed_cgroup),
        (scene.cgroup.id(), scene.cgroup.id())
    );
    assert_eq!(
        scene
            .bench
            .kernel
            .unix_flow(&database, std::process::id())
            .unwrap(),
        None
    );
    let other = SocketPath::parse("/run/other").unwrap();
    assert_eq!(
        scene
            .bench
            .kernel
            .unix_flow(&other, scene.workload.pid())
            .unwrap(),
        None
    );
    assert_eq!(
        scene
            .bench
            .kernel
            .sweep_flows(std::time::Duration::from_mins(1))
            .unwrap(),
        0
    );
    assert_eq!(
        scene.bench.kernel.sweep_flows(std::time::Duration::ZERO).unwrap(),
        1
    );
    assert_eq!(
        scene
            .bench
            .kernel
            .unix_flow(&database, scene.workload.pid())
            .unwrap(),
        None
    );
}

#[tokio::test]
async fn the_application_sees_the_unix_socket_that_it_asked_for() {
    let Some(mut scene) = Scene::new() else { return };
    let database = scene.database();
    assert_eq!(scene.connect("a", database.as_str()), "None");
    assert_eq!(
        scene.workload.tell("S['a'].getpeername()"),
        format!("{:?}", database.as_str()).replace('"', "'")
    );
}

#[tokio::test]
async fn other_spellings_of_a_protected_unix_socket_do_not_reach_it() {
    let Some(mut scene) = Scene::new() else { return };
    let database = scene.database();
    std::os::unix::fs::symlink(scene.path("db"), scene.path("elsewhere/db")).unwrap();
    std::os::unix::fs::symlink(database.as_path(), scene.path("elsewhere").join(NAME)).unwrap();
    let db = scene.path("db");
    assert_eq!(scene.workload.tell(&format!("os.chdir({db:?})")), "None");
    for path in [
        NAME.to_owned(),
        format!("./{NAME}"),
        format!("../db/{NAME}"),
        format!("{}//{NAME}", text(&db)),
        format!("{}/./{NAME}", text(&db)),
        format!("{}/../db/{NAME}", text(&db)),
        format!("{}/{NAME}", text(&scene.path("elsewhere/db"))),
        format!("{}/{NAME}", text(&scene.path("elsewhere"))),
        format!("/proc/self/cwd/{NAME}"),
    ] {
        assert_eq!(scene.connect(&path, &path), "EPERM", "{path}");
    }
    // The kernel itself refuses these: a socket is no directory.
    for path in [
        format!("{}/{NAME}/", text(&db)),
        format!("{}/{NAME}/.", text(&db)),
    ] {
        let answer = scene.connect(&path, &path);
        assert!(
            ["ENOTDIR", "EPERM"].contains(&answer.as_str()),
            "{path}: {answer}"
        );
    }
    assert!(!came(&scene.server));
    assert!(!came(&scene.agent));
    let refused =
        |kind, stats: &super::super::Stats| stats.events.iter().find(|(found, _)| *found == kind).unwrap().1;
    let stats = scene.bench.kernel.stats().unwrap();
    assert!(refused(EventKind::UnixRefused, &stats) >= 9);
}

#[tokio::test]
async fn a_path_of_108_bytes_without_an_end_is_redirected() {
    let Some(mut scene) = Scene::new() else { return };
    let directory = text(scene.directory.path()).to_owned();
    let fill = 108 - directory.len() - 1;
    let path = SocketPath::parse(&format!("{directory}/{:x<fill$}", "s")).unwrap();
    let wanted = BTreeMap::from([(path.clone(), UnixTreatment::Redirect(scene.path("agent/1.sock")))]);
    scene.bench.kernel.set_unix(POLICY, &wanted).unwrap();
    // Python's own connect() wants an end.
    assert_eq!(path.as_str().len(), 108);
    assert_eq!(scene.workload.tell("import ctypes, struct"), "None");
    assert_eq!(scene.workload.tell("open_('a', socket.AF_UNIX)"), "None");
    let address = format!("struct.pack('H', socket.AF_UNIX) + b{:?}", path.as_str());
    let call = format!("ctypes.CDLL(None).connect(S['a'].fileno(), {address}, 110)");
    assert_eq!(scene.workload.tell(&call), "0");
    assert!(came(&scene.agent));
}

#[tokio::test]
async fn unix_sockets_that_no_service_names_are_untouched() {
    let Some(mut scene) = Scene::new() else { return };
    let other = UnixListener::bind(scene.path("elsewhere/other")).unwrap();
    other.set_nonblocking(true).unwrap();
    let database = scene.database();
    let elsewhere = scene.path("elsewhere/other");
    assert_eq!(scene.connect("a", text(&elsewhere)), "None");
    assert!(came(&other));
    let long = format!("{}/{}", text(&scene.path("")), "x".repeat(90));
    assert_ne!(scene.connect("b", &long), "EPERM");
    // The same bytes as an abstract name are another socket.
    assert_eq!(
        scene.connect("c", &format!("\0{}", database.as_str())),
        "ECONNREFUSED"
    );
    assert_eq!(
        scene
            .workload
            .tell("[one.send(b'x') for one, other in [socket.socketpair()]]"),
        "[1]"
    );

    // Who is not managed notices nothing, whatever spelling is used.
    let mut outside = Workload::outside();
    assert_eq!(connect(&mut outside, "a", database.as_str()), "None");
    assert!(came(&scene.server));
    assert_eq!(outside.tell(&format!("os.chdir({:?})", scene.path("db"))), "None");
    assert_eq!(connect(&mut outside, "b", NAME), "None");
    assert!(came(&scene.server));
    assert!(!came(&scene.agent));
}

#[tokio::test]
async fn without_the_agents_listener_a_protected_unix_socket_is_refused() {
    let Some(mut scene) = Scene::new() else { return };
    let database = scene.database();
    let listener = scene.path("agent/1.sock");
    // Killed: the file is there and nobody listens.
    scene.agent = UnixListener::bind(scene.path("agent/2.sock")).unwrap();
    assert_eq!(scene.connect("a", database.as_str()), "ECONNREFUSED");
    std::fs::remove_file(&listener).unwrap();
    assert_eq!(scene.connect("b", database.as_str()), "ENOENT");
    assert!(!came(&scene.server));
}

#[tokio::test]
async fn a_cgroup_that_is_not_classified_is_refused_protected_unix_sockets() {
    let Some(scene) = Scene::new() else { return };
    let database = scene.database();
    let parent = TestCgroup::new();
    let watched = Standing::Unmanaged { watched: true };
    scene
        .bench
        .kernel
        .classify(parent.id(), &parent.path, watched)
        .unwrap();
    let child = parent.child("new");
    let mut workload = Workload::inside(&child);
    assert_eq!(connect(&mut workload, "a", database.as_str()), "EPERM");
    assert_eq!(
        workload.tell(&format!("os.chdir({:?})", scene.path("db"))),
        "None"
    );
    assert_eq!(connect(&mut workload, "b", NAME), "EPERM");
    drop(workload);
    drop(child);
}

#[tokio::test]
async fn what_a_policy_refuses_looks_as_if_nobody_listened_and_what_it_lets_go_is_open() {
    let Some(mut scene) = Scene::new() else { return };
    let database = scene.database();
    let wanted = BTreeMap::from([(database.clone(), UnixTreatment::Absent)]);
    scene.bench.kernel.set_unix(POLICY, &wanted).unwrap();
    assert_eq!(scene.connect("a", database.as_str()), "ECONNREFUSED");
    assert!(!came(&scene.server));
    scene.bench.kernel.set_unix(POLICY, &BTreeMap::new()).unwrap();
    assert_eq!(scene.connect("b", database.as_str()), "None");
    assert!(came(&scene.server));
}

#[tokio::test]
async fn an_agent_that_comes_back_finds_what_unix_sockets_the_one_before_protected() {
    let Some(scene) = Scene::new() else { return };
    let Scene {
        bench,
        mut workload,
        cgroup,
        directory,
        server,
        agent,
    } = scene;
    let database = SocketPath::parse(directory.path().join("db").join(NAME).to_str().unwrap()).unwrap();
    let Bench { kernel, events, pins } = bench;
    drop((kernel, events));
    assert_eq!(connect(&mut workload, "a", database.as_str()), "None");
    assert!(came(&agent));
    let (kernel, _events) = super::super::Kernel::load(&pins.options()).unwrap();
    kernel.check_links().unwrap();
    assert_eq!(connect(&mut workload, "b", database.as_str()), "None");
    assert!(came(&agent));
    kernel.set_unix(POLICY, &BTreeMap::new()).unwrap();
    assert_eq!(connect(&mut workload, "c", database.as_str()), "None");
    assert!(came(&server));
    drop((workload, cgroup));
}
