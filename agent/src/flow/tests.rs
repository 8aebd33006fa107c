//! The way of a connection through a real kernel: from `connect()` to [`Flow`].

mod handover;
mod namespaces;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

mod unix;

use crate::config::Egress;
use crate::flow::{Flow, Listener};
use crate::kernel::ProxyAddresses;
use crate::kernel::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use crate::model::Place;

/// A bench with a listener, a managed cgroup, and a server on this host that is protected.
struct Stand {
    bench: Bench,
    listener: Listener,
    cgroup: TestCgroup,
}

impl Stand {
    fn new(egress: Egress, protected: &[SocketAddr]) -> Self {
        let bench = Bench::new();
        let listener = Listener::bind(Arc::clone(&bench.kernel), ProxyAddresses::default()).unwrap();
        let cgroup = TestCgroup::new();
        bench.manage(&cgroup, egress, protected);
        Self {
            bench,
            listener,
            cgroup,
        }
    }

    async fn flow(&mut self) -> Flow {
        flow(&mut self.listener).await
    }
}

async fn flow(listener: &mut Listener) -> Flow {
    tokio::time::timeout(Duration::from_secs(20), listener.accept())
        .await
        .expect("no flow came")
        .unwrap()
}

fn server(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_connect_to_a_protected_address_becomes_a_flow() {
    if !privileged() {
        return;
    }
    let (_v4_server, v4) = server("127.0.0.1:0");
    let (_v6_server, v6) = server("[::1]:0");
    let mut stand = Stand::new(Egress::Allow, &[v4, v6]);
    let mut workload = Workload::inside(&stand.cgroup);
    for (name, host, asked) in [
        ("v4", "127.0.0.1".to_owned(), v4),
        ("v6", "::1".to_owned(), v6),
        ("mapped", "::ffff:127.0.0.1".to_owned(), v4),
        (
            "unspecified",
            "0.0.0.0".to_owned(),
            SocketAddr::new([0, 0, 0, 0].into(), v4.port()),
        ),
    ] {
        assert_eq!(workload.connect_to(name, &host, asked.port()), "None", "{name}");
        let flow = stand.flow().await;
        assert_eq!(flow.original, Place::Network(asked), "{name}");
        assert_eq!(flow.origin.policy, POLICY);
        assert_eq!(flow.origin.managed_cgroup, stand.cgroup.id());
        assert_eq!(flow.origin.cgroup, stand.cgroup.id());
        assert_eq!(flow.origin.tgid, workload.pid());
        assert_eq!(flow.origin.uid, 0);
        assert_eq!(flow.origin.comm, "python3");
        assert_eq!(flow.netns.cookie(), stand.listener.host_namespace().cookie());
        assert_eq!(
            flow.client.to_string().rsplit(':').next().unwrap(),
            workload.tell(&format!("S[{name:?}].getsockname()[1]"))
        );
        let peer = workload.tell(&format!("S[{name:?}].getpeername()[:2]"));
        assert_eq!(peer, format!("('{host}', {})", asked.port()), "{name}");
    }
    assert_eq!(stand.bench.kernel.stats().unwrap().redirected, 4);
}

/// TCP Fast Open (RFC 7413) connects in `sendto()`, without a `connect()`.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_begins_with_data_becomes_a_flow_too() {
    if !privileged() {
        return;
    }
    let (server, address) = server("127.0.0.1:0");
    server.set_nonblocking(true).unwrap();
    let mut stand = Stand::new(Egress::Allow, &[address]);
    let mut workload = Workload::inside(&stand.cgroup);
    workload.tell("open_('s', socket.AF_INET)");
    let port = address.port();
    let sent = workload.tell(&format!(
        "S['s'].sendto(b'early', socket.MSG_FASTOPEN, ('127.0.0.1', {port}))"
    ));
    assert_eq!(sent, "5");
    let mut flow = stand.flow().await;
    assert_eq!(flow.original, Place::Network(address));
    let mut early = [0; 5];
    tokio::io::AsyncReadExt::read_exact(&mut flow.stream, &mut early)
        .await
        .unwrap();
    assert_eq!(&early, b"early");
    assert_eq!(
        server.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nested_cgroup_is_under_the_policy_of_the_outer_one() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let mut stand = Stand::new(Egress::Allow, &[address]);
    let inner = stand.cgroup.child("a");
    let innermost = inner.child("b");
    let mut workload = Workload::inside(&innermost);
    assert_eq!(workload.connect("s", address), "None");
    let flow = stand.flow().await;
    assert_eq!(flow.origin.managed_cgroup, stand.cgroup.id());
    assert_eq!(flow.origin.cgroup, innermost.id());
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_outside_notices_nothing() {
    if !privileged() {
        return;
    }
    let (server, address) = server("127.0.0.1:0");
    let stand = Stand::new(Egress::Deny, &[address]);
    let outside = TestCgroup::new();
    let mut workload = Workload::inside(&outside);
    assert_eq!(workload.connect("s", address), "None");
    let (_stream, peer) = server.accept().unwrap();
    assert_eq!(peer.port().to_string(), workload.tell("S['s'].getsockname()[1]"));
    assert_eq!(
        workload.tell("open_('raw', socket.AF_INET, socket.SOCK_RAW, 1)"),
        "None"
    );
    assert_eq!(stand.bench.kernel.stats().unwrap().redirected, 0);
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_connects_elsewhere_later_names_its_real_peer() {
    if !privileged() {
        return;
    }
    let (_protected, protected) = server("127.0.0.1:0");
    let (_open, open) = server("127.0.0.1:0");
    let mut stand = Stand::new(Egress::Allow, &[protected]);
    let mut workload = Workload::inside(&stand.cgroup);
    assert_eq!(workload.connect("s", protected), "None");
    drop(stand.flow().await);
    // connect() to AF_UNSPEC dissolves the association (connect(2)).
    let dissolve = "__import__('ctypes').CDLL(None).connect(S['s'].fileno(), bytes(16), 16)";
    assert_eq!(workload.tell(dissolve), "0");
    assert_eq!(workload.connect("s", open), "None");
    assert_eq!(
        workload.tell("S['s'].getpeername()"),
        format!("('127.0.0.1', {})", open.port())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_redirected_is_reset() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let stand = Stand::new(Egress::Allow, &[address]);
    for proxy in [
        stand.listener.addresses().v4_address(),
        stand.listener.addresses().v6_address(),
    ] {
        // The reset may come before connect() has returned.
        let error = TcpStream::connect(proxy)
            .and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                stream.read(&mut [0; 1])
            })
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{proxy}");
    }
    // Also from inside: the port is not a way to a session without a record.
    let mut workload = Workload::inside(&stand.cgroup);
    match workload
        .connect("s", stand.listener.addresses().v4_address())
        .as_str()
    {
        "None" => assert_eq!(workload.tell("S['s'].recv(1)"), "ECONNRESET"),
        other => assert_eq!(other, "ECONNRESET"),
    }
    assert_eq!(stand.listener.unexplained(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_ports_are_the_agents_everywhere_and_stay_so_when_it_is_gone() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let Stand {
        bench,
        listener,
        cgroup,
    } = Stand::new(Egress::Allow, &[address]);
    let Bench { kernel, events, pins } = bench;
    let addresses = listener.addresses();
    let binds = [
        format!("socket.socket().bind(('127.0.0.1', {}))", addresses.v4),
        format!("socket.socket().bind(('0.0.0.0', {}))", addresses.v4),
        format!("socket.socket(socket.AF_INET6).bind(('::', {}))", addresses.v4),
        format!("socket.socket(socket.AF_INET6).bind(('::1', {}))", addresses.v6),
    ];
    let mut neighbour = Workload::outside();
    let mut elsewhere = Workload::in_new_namespace();
    for bind in &binds {
        assert_eq!(neighbour.tell(bind), "EPERM", "{bind}");
        assert_eq!(elsewhere.tell(bind), "EPERM", "{bind}");
    }
    let other_port = neighbour.tell("socket.socket().bind(('127.0.0.1', 0))");
    assert_eq!(other_port, "None");

    drop((listener, kernel, events));
    for bind in &binds {
        assert_eq!(neighbour.tell(bind), "EPERM", "{bind}");
        assert_eq!(elsewhere.tell(bind), "EPERM", "{bind}");
    }
    let mut workload = Workload::inside(&cgroup);
    assert_eq!(workload.connect("s", address), "ECONNREFUSED");
    drop((workload, pins));
}

/// `listen()` without `bind()` picks a port by itself, and no bind program sees it. `IP_LOCAL_PORT_RANGE` (Linux 6.3) makes
/// it pick the one that is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_the_port_without_bind_harvests_nothing() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let Stand {
        bench,
        listener,
        cgroup,
    } = Stand::new(Egress::Allow, &[address]);
    let port = listener.addresses().v4;
    drop(listener);
    let mut thief = Workload::outside();
    thief.tell("open_('l', socket.AF_INET)");
    let range = format!("__import__('struct').pack('I', {port} | {port} << 16)");
    let answer = thief.tell(&format!("S['l'].setsockopt(socket.IPPROTO_IP, 51, {range})"));
    if answer == "ENOPROTOOPT" {
        eprintln!("\n*** NOT TESTED: this kernel has no IP_LOCAL_PORT_RANGE ***\n");
        return;
    }
    assert_eq!(answer, "None");
    // The old listener's end is not instantaneous: its tasks are aborted, and the sockets closed by the runtime.
    while thief.tell("S['l'].listen()") == "EADDRINUSE" {
        tokio::task::yield_now().await;
    }
    assert_eq!(thief.tell("S['l'].getsockname()[1]"), port.to_string());
    let mut workload = Workload::inside(&cgroup);
    assert_eq!(workload.connect("s", address), "ECONNREFUSED");
    thief.tell("S['l'].setblocking(False)");
    assert_eq!(thief.tell("S['l'].accept()"), "EAGAIN");
    drop((workload, bench));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_works_on_without_an_open_moment() {
    if !privileged() {
        return;
    }
    let (server, address) = server("127.0.0.1:0");
    server.set_nonblocking(true).unwrap();
    let Stand {
        bench,
        listener,
        cgroup,
    } = Stand::new(Egress::Allow, &[address]);
    let Bench { kernel, events, pins } = bench;
    drop((listener, kernel, events));
    let mut workload = Workload::inside(&cgroup);

    let (kernel, events) = crate::kernel::Kernel::load(&pins.options()).unwrap();
    assert_eq!(
        workload.connect("before anything is said", address),
        "ECONNREFUSED"
    );
    let bench = Bench {
        kernel: Arc::new(kernel),
        events,
        pins,
    };
    let mut listener = Listener::bind(Arc::clone(&bench.kernel), ProxyAddresses::default()).unwrap();
    assert_eq!(workload.connect("after", address), "None");
    assert_eq!(flow(&mut listener).await.origin.tgid, workload.pid());
    assert_eq!(
        server.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_port_in_two_namespaces_is_not_confused() {
    if !privileged() {
        return;
    }
    let target: SocketAddr = "192.0.2.1:5432".parse().unwrap();
    let mut stand = Stand::new(Egress::Allow, &[target]);
    let expander = stand.listener.expander();
    let mut workloads = [Workload::in_new_namespace(), Workload::in_new_namespace()];
    for workload in &mut workloads {
        workload.enter(&stand.cgroup);
        // The agent is told by the first socket.
        workload.tell("open_('first', socket.AF_INET)");
        let pid = workload.pid();
        let event = stand.bench.event(|event| event.tgid == Some(pid)).await;
        expander.heed(&event).unwrap();
    }
    for workload in &mut workloads {
        workload.tell("open_('s', socket.AF_INET)");
        assert_eq!(workload.tell("S['s'].bind(('127.0.0.1', 45000))"), "None");
        assert_eq!(workload.connect("s", target), "None");
    }
    let flows = [stand.flow().await, stand.flow().await];
    assert_eq!(flows[0].client, flows[1].client);
    assert_ne!(flows[0].netns.cookie(), flows[1].netns.cookie());
    for mut flow in flows {
        assert_eq!(flow.original, Place::Network(target));
        let pid = flow.origin.tgid.to_string();
        tokio::io::AsyncWriteExt::write_all(&mut flow.stream, pid.as_bytes())
            .await
            .unwrap();
        let owner = workloads
            .iter_mut()
            .find(|workload| workload.pid() == flow.origin.tgid)
            .unwrap();
        assert_eq!(owner.tell("S['s'].recv(99)"), format!("b'{pid}'"));
    }
    drop(workloads);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_target_is_dialled_from_the_namespace_of_the_flow() {
    if !privileged() {
        return;
    }
    let mut workload = Workload::in_new_namespace();
    workload.tell("open_('server', socket.AF_INET)");
    workload.tell("S['server'].bind(('127.0.0.1', 0)); S['server'].listen(); S['server'].settimeout(20)");
    let port: u16 = workload.tell("S['server'].getsockname()[1]").parse().unwrap();
    let target = SocketAddr::new([127, 0, 0, 1].into(), port);
    let mut stand = Stand::new(Egress::Allow, &[target]);
    workload.enter(&stand.cgroup);
    // The agent is told by the first socket.
    workload.tell("open_('first', socket.AF_INET)");
    let pid = workload.pid();
    let event = stand.bench.event(|event| event.tgid == Some(pid)).await;
    stand.listener.expander().heed(&event).unwrap();
    assert_eq!(workload.connect("s", target), "None");

    let flow = stand.flow().await;
    let upstream = crate::kernel::dial::connect(&flow.netns, target, Duration::from_secs(20))
        .await
        .unwrap();
    let accepted = workload.tell("S['server'].accept()[1][1]");
    assert_eq!(accepted, upstream.local_addr().unwrap().port().to_string());
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_connect_in_a_cgroup_made_later_is_redirected() {
    if privileged() {
        cgroups_made_later(true).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cgroup_made_later_never_reaches_the_target_directly_on_a_kernel_that_does_not_tell() {
    if privileged() {
        cgroups_made_later(false).await;
    }
}

/// `told`: the kernel side sees new cgroups itself; else the agent has to look.
async fn cgroups_made_later(told: bool) {
    use crate::kernel::{CgroupKeeper, CgroupPattern, Patterns};

    let (server, address) = server("127.0.0.1:0");
    server.set_nonblocking(true).unwrap();
    let mut stand = Stand::new(Egress::Allow, &[address]);
    if !told {
        stand.bench.without("tollgate_mkdir");
    }
    let parent = TestCgroup::new();
    let mut patterns = Patterns::default();
    patterns.add(
        CgroupPattern::new(&format!("{}/job-*", parent.path)).unwrap(),
        POLICY,
    );
    let keeper = CgroupKeeper::start(Arc::clone(&stand.bench.kernel), patterns).unwrap();
    let mut managed = keeper.managed();

    let mut workload = Workload::outside();
    let mut home = parent.child("job-0");
    workload.enter(&home);
    for number in 1..=100 {
        let next = parent.child(&format!("job-{number}"));
        workload.enter(&next);
        match workload.connect(&format!("s{number}"), address).as_str() {
            "None" => drop(stand.flow().await),
            "EPERM" if !told => {}
            other => panic!("{number}: {other}"),
        }
        home = next;
    }
    assert_eq!(
        server.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );

    // Soon it is classified, and a try then is a session.
    let id = home.id();
    tokio::time::timeout(
        Duration::from_secs(20),
        managed.wait_for(|all| all.contains_key(&id)),
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(managed.borrow()[&id].path, home.path);
    assert_eq!(workload.connect("classified", address), "None");
    assert_eq!(stand.flow().await.origin.managed_cgroup, id);

    // What matches no pattern is left alone as soon as that is known.
    let other = parent.child("other");
    let mut stranger = Workload::inside(&other);
    let mut attempt = 0;
    while stranger.connect(&format!("s{attempt}"), address) != "None" {
        attempt += 1;
        assert!(attempt < 10_000, "never let through");
    }
    server.set_nonblocking(false).unwrap();
    server.accept().unwrap().0.write_all(b"direct").unwrap();
    assert_eq!(stranger.tell(&format!("S['s{attempt}'].recv(9)")), "b'direct'");

    drop((workload, stranger));
    drop((home, other));
    tokio::time::timeout(Duration::from_secs(20), managed.wait_for(|all| all.is_empty()))
        .await
        .unwrap()
        .unwrap();
}
