//! On the real kernel: which connections are found, and what their ends see when they are destroyed.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;

use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{ManagedCgroup, ManagedCgroups, Protected, ProxyAddresses, Tier};
use super::*;
use crate::config::Egress;

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn managed(cgroup: &TestCgroup) -> ManagedCgroups {
    let of = ManagedCgroup {
        path: cgroup.path.clone(),
        policy: POLICY,
        by: "a test".into(),
    };
    Arc::new(BTreeMap::from([(cgroup.id(), of)]))
}

/// What the strays go to, each once they are destroyed.
fn sweep(bench: &Bench, cgroup: &TestCgroup) -> Vec<(SocketAddr, Option<u32>, bool)> {
    let strays = Strays::find(&bench.kernel, &managed(cgroup)).unwrap();
    let found = strays.found().iter();
    found
        .map(|stray| {
            assert!(strays.destroy(stray).unwrap());
            assert_eq!((stray.policy, &stray.cgroup_path), (POLICY, &cgroup.path));
            (stray.remote, stray.process, stray.brought_in)
        })
        .collect()
}

/// The error that waits at a socket. Asked for without a use of it, which the security hooks refuse where they are.
fn error(workload: &mut Workload, name: &str) -> String {
    let ask = format!("errno.errorcode.get(S['{name}'].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))");
    workload.tell(&ask)
}

/// What comes of a use of a connected socket that the second wall, which goes by the socket's cgroup, lets pass.
fn passes_unless_hooked(bench: &Bench) -> &'static str {
    match bench.kernel.lacks_tier(Tier::Lsm) {
        Some(_) => "1",
        None => "EPERM",
    }
}

/// The peer sees the end when nothing more comes, and at once: the reset is not held back.
fn is_over(mut peer: TcpStream) -> bool {
    peer.set_read_timeout(Some(std::time::Duration::from_secs(20)))
        .unwrap();
    match peer.read(&mut [0]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn connections_from_before_are_destroyed_and_others_stay() {
    if !privileged() {
        return;
    }
    let ((one, protected), (_two, open)) = (server(), server());
    let six = TcpListener::bind("[::1]:0").unwrap();
    let protected_six = six.local_addr().unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let protected_udp = datagrams.local_addr().unwrap();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let below = cgroup.child("below");
    let mut workload = Workload::inside(&cgroup);
    let mut nested = Workload::inside(&below);
    let mut outside = Workload::outside();
    let pid = Some(workload.pid());
    assert_eq!(workload.connect("v4", protected), "None");
    let peer = one.accept().unwrap().0;
    assert_eq!(
        workload.connect_to("mapped", "::ffff:127.0.0.1", protected.port()),
        "None"
    );
    assert_eq!(workload.connect("v6", protected_six), "None");
    assert_eq!(workload.connect("open", open), "None");
    workload.tell("open_('udp', socket.AF_INET, socket.SOCK_DGRAM)");
    let connect = format!("S['udp'].connect(('127.0.0.1', {}))", protected_udp.port());
    assert_eq!(workload.tell(&connect), "None");
    assert_eq!(nested.connect("n", protected), "None");
    assert_eq!(outside.connect("o", protected), "None");
    assert!(
        Strays::find(&bench.kernel, &managed(&cgroup))
            .unwrap()
            .found()
            .is_empty()
    );

    bench.manage(&cgroup, Egress::Allow, &[protected, protected_six, protected_udp]);
    let strays = Strays::find(&bench.kernel, &managed(&cgroup)).unwrap();
    let mut found: Vec<_> = strays
        .found()
        .iter()
        .map(|stray| {
            assert!(!stray.brought_in && strays.destroy(stray).unwrap());
            (stray.remote, stray.process)
        })
        .collect();
    found.sort_unstable();
    let mut expected = vec![
        (protected, pid),
        (protected, pid),
        (protected, Some(nested.pid())),
        (protected_six, pid),
        (protected_udp, pid),
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    for name in ["v4", "mapped", "v6", "udp"] {
        assert_eq!(error(&mut workload, name), "'ECONNABORTED'", "{name}");
    }
    assert!(is_over(peer), "the server was not told");
    assert_eq!(workload.tell("S['open'].send(b'x')"), "1");
    assert_eq!(outside.tell("S['o'].send(b'x')"), "1");
    assert!(
        Strays::find(&bench.kernel, &managed(&cgroup))
            .unwrap()
            .found()
            .is_empty()
    );
    drop((nested, below, workload));
}

#[tokio::test]
async fn a_socket_that_was_connected_outside_and_brought_in_is_found_by_its_holder() {
    if !privileged() {
        return;
    }
    let (_server, protected) = server();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    bench.manage(&cgroup, Egress::Allow, &[protected]);
    let mut outside = Workload::outside();
    assert_eq!(outside.connect("moved", protected), "None");
    assert!(sweep(&bench, &cgroup).is_empty(), "nobody managed holds it");
    outside.enter(&cgroup);
    let passes = passes_unless_hooked(&bench);
    assert_eq!(outside.tell("S['moved'].send(b'x')"), passes);
    assert_eq!(sweep(&bench, &cgroup), [(protected, Some(outside.pid()), true)]);
    assert_eq!(error(&mut outside, "moved"), "'ECONNABORTED'");

    let mut giver = Workload::outside();
    assert_eq!(giver.connect("given", protected), "None");
    let name = format!("\\0tollgate-test-{}", giver.pid());
    outside.tell(&format!(
        "open_('in', socket.AF_UNIX, socket.SOCK_DGRAM); S['in'].bind('{name}')"
    ));
    let sent = giver.tell(&format!(
        "open_('out', socket.AF_UNIX, socket.SOCK_DGRAM); S['out'].connect('{name}'); \
         socket.send_fds(S['out'], [b'x'], [S['given'].fileno()])"
    ));
    assert_eq!(sent, "None");
    outside.tell("S['given'] = socket.socket(fileno=socket.recv_fds(S['in'], 1, 1)[1][0])");
    assert_eq!(outside.tell("S['given'].send(b'x')"), passes);
    assert_eq!(sweep(&bench, &cgroup), [(protected, Some(outside.pid()), true)]);
    assert_eq!(error(&mut outside, "given"), "'ECONNABORTED'");
    drop(outside);
}

#[tokio::test]
async fn connections_in_a_network_namespace_of_their_own_are_found() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let mut server = Workload::in_new_namespace();
    server.tell("open_('l', socket.AF_INET); S['l'].bind(('127.0.0.1', 0)); S['l'].listen()");
    let port: u16 = server.tell("S['l'].getsockname()[1]").parse().unwrap();
    let protected = SocketAddr::from(([127, 0, 0, 1], port));
    let mut workload = Workload::in_namespace_of(server.pid());
    workload.enter(&cgroup);
    assert_eq!(workload.connect("s", protected), "None");
    bench.manage(&cgroup, Egress::Allow, &[protected]);
    assert_eq!(sweep(&bench, &cgroup), [(protected, Some(workload.pid()), false)]);
    assert_eq!(error(&mut workload, "s"), "'ECONNABORTED'");
    drop(workload);
}

#[tokio::test]
async fn connections_to_the_agents_own_listeners_are_never_touched() {
    if !privileged() {
        return;
    }
    let (_server, proxy) = server();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let mut workload = Workload::inside(&cgroup);
    assert_eq!(workload.connect("s", proxy), "None");
    bench.manage(&cgroup, Egress::Allow, &[]);
    // Every port of the host, the proxy's among them.
    let all = Protected {
        network: "127.0.0.0/8".parse().unwrap(),
        port: 0,
    };
    bench
        .kernel
        .set_protected(POLICY, &BTreeSet::from([all]))
        .unwrap();
    let ports = ProxyAddresses {
        v4: proxy.port(),
        v6: 0,
        dns: 0,
    };
    bench.kernel.set_proxy(ports).unwrap();
    assert!(sweep(&bench, &cgroup).is_empty());
    bench.kernel.set_proxy(ProxyAddresses::default()).unwrap();
    assert_eq!(sweep(&bench, &cgroup).len(), 1);
    drop(workload);
}
