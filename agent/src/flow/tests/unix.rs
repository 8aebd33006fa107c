//! From a `connect()` to a unix socket to a [`Flow`].

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use super::*;
use crate::flow::UnixListeners;
use crate::kernel::{UnixTier, UnixTreatment};
use crate::model::{Caller, SocketPath};

/// A database's socket that is redirected for the stand's cgroup.
struct Scene {
    stand: Stand,
    listeners: UnixListeners,
    database: SocketPath,
    server: std::os::unix::net::UnixListener,
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        if !privileged() {
            return None;
        }
        let stand = Stand::new(Egress::Allow, &[]);
        if !matches!(stand.bench.kernel.unix_tier(), UnixTier::Redirected { .. }) {
            // Said, and checked for its reason, where the hook itself is tested.
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = directory.path().join("database");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        server.set_nonblocking(true).unwrap();
        let scene = Self {
            listeners: stand.listener.unix(directory.path().join("unix")).unwrap(),
            database: SocketPath::parse(path.to_str().unwrap()).unwrap(),
            stand,
            server,
            directory,
        };
        scene.protect();
        Some(scene)
    }

    fn protect(&self) {
        self.listeners
            .listen_for(&BTreeSet::from([self.database.clone()]))
            .unwrap();
        let redirect = UnixTreatment::Redirect(self.listener());
        let wanted = BTreeMap::from([(self.database.clone(), redirect)]);
        self.stand.bench.kernel.set_unix(POLICY, &wanted).unwrap();
    }

    fn listener(&self) -> PathBuf {
        self.listeners.listener(&self.database)
    }
}

fn connect(workload: &mut Workload, name: &str, path: &std::path::Path) -> String {
    workload.tell(&format!("open_({name:?}, socket.AF_UNIX)"));
    workload.tell(&format!("S[{name:?}].connect({path:?})"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_to_a_protected_unix_socket_becomes_a_flow_for_each_of_a_processs_connections() {
    let Some(mut scene) = Scene::new() else { return };
    let mut workload = Workload::inside(&scene.stand.cgroup);
    for name in ["a", "b"] {
        assert_eq!(connect(&mut workload, name, scene.database.as_path()), "None");
    }
    for name in ["a", "b"] {
        let mut flow = scene.stand.flow().await;
        assert_eq!(flow.original, Place::Unix(scene.database.clone()));
        assert_eq!(flow.client, Caller::Process(workload.pid()));
        assert_eq!((flow.origin.policy, flow.origin.tgid), (POLICY, workload.pid()));
        assert_eq!(flow.origin.cgroup, scene.stand.cgroup.id());
        assert_eq!(flow.origin.comm, "python3");
        tokio::io::AsyncWriteExt::write_all(&mut flow.stream, name.as_bytes())
            .await
            .unwrap();
        assert_eq!(
            workload.tell(&format!("S[{name:?}].recv(1)")),
            format!("b'{name}'")
        );
    }
    assert!(scene.server.accept().is_err());
    assert_eq!(scene.stand.listener.unexplained(), 0);
    let peer = workload.tell("S['a'].getpeername()");
    assert_eq!(peer.trim_matches('\''), scene.database.as_str());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_redirected_to_the_agents_unix_socket_is_closed_and_counted() {
    let Some(scene) = Scene::new() else { return };
    let mut outside = Workload::outside();
    let listener = scene.listener();
    assert_eq!(connect(&mut outside, "a", &listener), "None");
    assert_eq!(outside.tell("S['a'].recv(1)"), "b''");
    // A managed process that goes there by itself was not redirected either.
    let mut inside = Workload::inside(&scene.stand.cgroup);
    assert_eq!(connect(&mut inside, "a", &listener), "None");
    assert_eq!(inside.tell("S['a'].recv(1)"), "b''");
    assert_eq!(scene.stand.listener.unexplained(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_gone_by_the_time_of_the_accept_is_nobody() {
    let Some(scene) = Scene::new() else { return };
    let mut workload = Workload::inside(&scene.stand.cgroup);
    // A child connects and ends; its parent holds the connection. The listener is held up meanwhile.
    scene.listeners.close().await;
    std::fs::remove_file(scene.listener()).unwrap();
    let held = std::os::unix::net::UnixListener::bind(scene.listener()).unwrap();
    let path = scene.database.as_path();
    let line = format!(
        "open_('a', socket.AF_UNIX); pid = os.fork(); pid or (S['a'].connect({path:?}), os._exit(0)); os.waitpid(pid, 0)"
    );
    assert_eq!(workload.tell(&line), "None");
    assert_eq!(
        workload.tell("S['a'].getpeername()").trim_matches('\''),
        scene.database.as_str()
    );
    let (stream, _) = held.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
    let error = scene.listeners.who(&stream, &scene.database).unwrap_err();
    assert!(
        error.to_string().contains("was not redirected here") || error.kind() == std::io::ErrorKind::NotFound,
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agents_unix_sockets_are_for_everybody_to_reach_and_for_root_to_make() {
    let Some(scene) = Scene::new() else { return };
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(scene.listener().parent().unwrap()), 0o711);
    assert_eq!(mode(&scene.listener()), 0o666);
    let mut workload = Workload::inside(&scene.stand.cgroup);
    assert_eq!(workload.tell("os.setgid(65534); os.setuid(65534)"), "None");
    assert_eq!(connect(&mut workload, "a", scene.database.as_path()), "None");
    let squat = scene.directory.path().join("unix/squat");
    workload.tell("open_('b', socket.AF_UNIX)");
    assert_eq!(workload.tell(&format!("S['b'].bind({squat:?})")), "EACCES");
    assert_eq!(
        workload.tell(&format!("os.unlink({:?})", scene.listener())),
        "EACCES"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_are_refused_while_the_agent_is_away_and_redirected_when_it_is_back() {
    let Some(mut scene) = Scene::new() else { return };
    let mut workload = Workload::inside(&scene.stand.cgroup);
    scene.listeners.close().await;
    assert_eq!(
        connect(&mut workload, "a", scene.database.as_path()),
        "ECONNREFUSED"
    );
    scene.protect();
    assert_eq!(connect(&mut workload, "b", scene.database.as_path()), "None");
    assert_eq!(scene.stand.flow().await.client, Caller::Process(workload.pid()));
    scene.listeners.retain(&BTreeSet::new());
    assert!(!scene.listener().exists());
    assert_eq!(connect(&mut workload, "c", scene.database.as_path()), "ENOENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_somebody_else_is_not_used_for_unix_sockets() {
    let Some(scene) = Scene::new() else { return };
    let other = scene.directory.path().join("other");
    std::os::unix::fs::symlink("/tmp", &other).unwrap();
    let error = scene.stand.listener.unix(other).unwrap_err().to_string();
    assert!(error.contains("no directory of root's"), "{error}");
    let other = scene.directory.path().join("nobodys");
    std::fs::create_dir(&other).unwrap();
    std::os::unix::fs::chown(&other, Some(65534), None).unwrap();
    assert!(scene.stand.listener.unix(other).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_unix_sockets_wait_while_another_agent_takes_over() {
    let Some(scene) = Scene::new() else { return };
    let mut workload = Workload::inside(&scene.stand.cgroup);
    let place = scene.listener();
    let (sockets, flows) = scene.stand.listener.hand_over().await;
    assert!(flows.is_empty());
    assert_eq!(connect(&mut workload, "waits", scene.database.as_path()), "None");

    let kernel = Arc::clone(&scene.stand.bench.kernel);
    let mut listener = Listener::go_on(kernel, ProxyAddresses::default(), sockets).unwrap();
    let listeners = listener.unix(scene.directory.path().join("unix")).unwrap();
    assert_eq!(listeners.listener(&scene.database), place);
    listeners
        .listen_for(&BTreeSet::from([scene.database.clone()]))
        .unwrap();
    let mut waited = flow(&mut listener).await;
    assert_eq!(waited.client, Caller::Process(workload.pid()));
    tokio::io::AsyncWriteExt::write_all(&mut waited.stream, b"x")
        .await
        .unwrap();
    assert_eq!(workload.tell("S['waits'].recv(1)"), "b'x'");
    assert_eq!(connect(&mut workload, "next", scene.database.as_path()), "None");
    assert_eq!(flow(&mut listener).await.client, Caller::Process(workload.pid()));
}
