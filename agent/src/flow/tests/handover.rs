//! Listeners that one agent leaves to the next.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Stand, flow, server};
use crate::config::Egress;
use crate::flow::Listener;
use crate::kernel::testing::{Bench, Workload, privileged};
use crate::kernel::{Kernel, ProxyAddresses};
use crate::model::Place;

/// Another agent in the place of the one of `stand`, which hands over `sockets` besides its own.
async fn succeed(stand: Stand, others: Vec<OwnedFd>) -> Stand {
    let Stand {
        bench,
        listener,
        cgroup,
    } = stand;
    let (mut sockets, flows) = listener.hand_over().await;
    assert!(flows.is_empty());
    sockets.extend(others);
    let Bench { kernel, events, pins } = bench;
    drop((kernel, events));
    let (kernel, events) = Kernel::load(&pins.options()).unwrap();
    let kernel = Arc::new(kernel);
    let listener = Listener::go_on(Arc::clone(&kernel), ProxyAddresses::default(), sockets).unwrap();
    let bench = Bench { kernel, events, pins };
    Stand {
        bench,
        listener,
        cgroup,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_wait_are_the_next_agents() {
    if !privileged() {
        return;
    }
    let (server, address) = server("127.0.0.1:0");
    server.set_nonblocking(true).unwrap();
    let mut stand = Stand::new(Egress::Allow, &[address]);
    let before = stand.listener.addresses();
    let mut workload = Workload::inside(&stand.cgroup);
    let mut elsewhere = Workload::in_new_namespace();
    elsewhere.enter(&stand.cgroup);
    // The agent is told by the first socket.
    elsewhere.tell("open_('first', socket.AF_INET)");
    let pid = elsewhere.pid();
    let event = stand.bench.event(|event| event.tgid == Some(pid)).await;
    stand.listener.expander().heed(&event).unwrap();

    // Accepted already and not handed out; and in the queue, while nobody accepts.
    assert_eq!(workload.connect("accepted", address), "None");
    let taken = flow(&mut stand.listener).await;
    let Stand {
        bench,
        listener,
        cgroup,
    } = stand;
    let (sockets, flows) = listener.hand_over().await;
    assert!(flows.is_empty());
    assert_eq!(workload.connect("waits", address), "None");
    assert_eq!(elsewhere.connect("waits", address), "None");
    let Bench { kernel, events, pins } = bench;
    drop((kernel, events));
    assert_eq!(workload.connect("waits still", address), "None");

    let (kernel, events) = Kernel::load(&pins.options()).unwrap();
    let kernel = Arc::new(kernel);
    let mut listener = Listener::go_on(Arc::clone(&kernel), ProxyAddresses::default(), sockets).unwrap();
    assert_eq!(listener.addresses(), before);
    let mut pids = Vec::new();
    for _ in 0..3 {
        let flow = flow(&mut listener).await;
        assert_eq!(flow.original, Place::Network(address));
        pids.push(flow.origin.tgid);
    }
    pids.sort_unstable();
    let mut expected = [workload.pid(), workload.pid(), elsewhere.pid()];
    expected.sort_unstable();
    assert_eq!(pids, expected);
    assert_eq!(listener.unexplained(), 0);
    assert_eq!(
        server.accept().unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    // A connection of before names its peer as it did.
    assert_eq!(
        workload.tell("S['accepted'].getpeername()[1]"),
        address.port().to_string()
    );
    drop((workload, elsewhere, taken, events, cgroup, pins));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_accepted_while_it_is_handed_over_is_not_lost() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let mut stand = Stand::new(Egress::Allow, &[address]);
    let mut workload = Workload::inside(&stand.cgroup);
    // More than may wait for the engine, so that a task is stuck with one that it has accepted.
    for n in 0..300 {
        assert_eq!(workload.connect(&format!("s{n}"), address), "None");
    }
    let mut served = 0;
    while served < 20 {
        drop(flow(&mut stand.listener).await);
        served += 1;
    }
    let (sockets, flows) = stand.listener.hand_over().await;
    served += flows.len();
    let mut listener = Listener::go_on(
        Arc::clone(&stand.bench.kernel),
        ProxyAddresses::default(),
        sockets,
    )
    .unwrap();
    while served < 300 {
        drop(flow(&mut listener).await);
        served += 1;
    }
    assert_eq!(listener.unexplained(), 0);
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_that_are_not_the_agents_are_closed() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let stand = Stand::new(Egress::Allow, &[address]);
    let thief = TcpListener::bind("127.0.0.1:0").unwrap();
    let v6 = TcpListener::bind("[::1]:0").unwrap();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(thief.local_addr().unwrap()).unwrap();
    let thiefs = thief.local_addr().unwrap();
    let before = stand.listener.addresses();
    let strangers: Vec<OwnedFd> = vec![
        thief.into(),
        v6.into(),
        datagrams.into(),
        connected.into(),
        std::fs::File::open("/dev/null").unwrap().into(),
    ];
    let mut stand = succeed(stand, strangers).await;
    assert_eq!(stand.listener.addresses(), before);
    let refused = TcpStream::connect_timeout(&thiefs, std::time::Duration::from_secs(5)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let mut workload = Workload::inside(&stand.cgroup);
    assert_eq!(workload.connect("s", address), "None");
    assert_eq!(stand.flow().await.original, Place::Network(address));
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_that_the_configuration_does_not_name_any_more_are_given_up() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let stand = Stand::new(Egress::Allow, &[address]);
    let (sockets, _flows) = stand.listener.hand_over().await;
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wanted = ProxyAddresses {
        v4: free.port(),
        ..ProxyAddresses::default()
    };
    let mut listener = Listener::go_on(Arc::clone(&stand.bench.kernel), wanted, sockets).unwrap();
    assert_eq!(listener.addresses().v4_address(), free);
    let mut workload = Workload::inside(&stand.cgroup);
    assert_eq!(workload.connect("s", address), "None");
    assert_eq!(flow(&mut listener).await.original, Place::Network(address));
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_anything_handed_over_listens_where_the_one_before_did() {
    if !privileged() {
        return;
    }
    let (_server, address) = server("127.0.0.1:0");
    let stand = Stand::new(Egress::Allow, &[address]);
    let before = stand.listener.addresses();
    let (sockets, _flows) = stand.listener.hand_over().await;
    drop(sockets);
    let listener = Listener::bind(Arc::clone(&stand.bench.kernel), ProxyAddresses::default()).unwrap();
    assert_eq!(listener.addresses(), before);
}
