//! The way of a datagram to a nameserver through a real kernel: to the agent and back.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::Egress;
use crate::flow::{Listener, Query};
use crate::kernel::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use crate::kernel::{EventKind, ProxyAddresses, Rules};

/// A bench whose policy steers DNS, and the agent's end.
struct Stand {
    bench: Bench,
    listener: Listener,
    queries: mpsc::Receiver<Query>,
    cgroup: TestCgroup,
}

impl Stand {
    fn new(egress: Egress) -> Self {
        let bench = Bench::new();
        let mut listener = Listener::bind(Arc::clone(&bench.kernel), ProxyAddresses::default()).unwrap();
        let cgroup = TestCgroup::new();
        bench.manage(&cgroup, egress, &[]);
        bench
            .kernel
            .set_policy(POLICY, Rules { egress, dns: true })
            .unwrap();
        let queries = listener.take_queries().unwrap();
        Self {
            bench,
            listener,
            queries,
            cgroup,
        }
    }

    async fn query(&mut self) -> Query {
        tokio::time::timeout(Duration::from_secs(20), self.queries.recv())
            .await
            .expect("no query came")
            .unwrap()
    }
}

fn nameserver(query: &Query) -> SocketAddr {
    query.origin.original.0
}

fn open(workload: &mut Workload, name: &str, family: &str) {
    let made = workload.tell(&format!("open_({name:?}, socket.{family}, socket.SOCK_DGRAM)"));
    assert_eq!(made, "None");
    workload.tell(&format!("S[{name:?}].settimeout(20)"));
}

const FAMILIES: [(&str, &str, &str); 3] = [
    ("AF_INET", "192.0.2.53", "192.0.2.53"),
    ("AF_INET6", "2001:db8::53", "2001:db8::53"),
    ("AF_INET6", "::ffff:192.0.2.53", "192.0.2.53"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_unconnected_socket_hears_from_the_nameserver_that_it_asked() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Deny);
    let mut workload = Workload::inside(&stand.cgroup);
    for (name, (family, host, canonical)) in ["a", "b", "c"].into_iter().zip(FAMILIES) {
        open(&mut workload, name, family);
        let sent = workload.tell(&format!("S[{name:?}].sendto(b'query', ({host:?}, 53))"));
        assert_eq!(sent, "5", "{host}");
        let query = stand.query().await;
        assert_eq!(query.bytes, b"query");
        assert_eq!(
            nameserver(&query),
            SocketAddr::new(canonical.parse().unwrap(), 53)
        );
        assert_eq!(query.origin.policy, POLICY);
        assert_eq!(query.origin.managed_cgroup, stand.cgroup.id());
        assert_eq!(query.origin.tgid, workload.pid());
        assert_eq!(query.origin.comm, "python3");
        query.answer(b"answer").unwrap();
        let heard = workload.tell(&format!(
            "(lambda got: (got[0], got[1][:2]))(S[{name:?}].recvfrom(99))"
        ));
        assert_eq!(heard, format!("(b'answer', ('{host}', 53))"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connected_socket_is_connected_to_the_nameserver() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::inside(&stand.cgroup);
    for (name, (family, host, canonical)) in ["a", "b", "c"].into_iter().zip(FAMILIES) {
        open(&mut workload, name, family);
        assert_eq!(
            workload.tell(&format!("S[{name:?}].connect(({host:?}, 53))")),
            "None"
        );
        // The second one from the same socket, while the first is on its way.
        assert_eq!(workload.tell(&format!("S[{name:?}].send(b'one')")), "3");
        assert_eq!(workload.tell(&format!("S[{name:?}].send(b'two')")), "3");
        let queries = [stand.query().await, stand.query().await];
        for query in &queries {
            assert_eq!(nameserver(query).ip(), canonical.parse::<IpAddr>().unwrap());
        }
        let peer = workload.tell(&format!("S[{name:?}].getpeername()[:2]"));
        assert_eq!(peer, format!("('{host}', 53)"));
        queries[1].answer(b"answer").unwrap();
        let heard = workload.tell(&format!(
            "(lambda got: (got[0], got[1][:2]))(S[{name:?}].recvfrom(99))"
        ));
        assert_eq!(heard, format!("(b'answer', ('{host}', 53))"));
    }
}

/// musl asks every nameserver at once, from one socket, with one and the same query.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_several_nameservers_to_one_socket_are_told_apart() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::inside(&stand.cgroup);
    open(&mut workload, "s", "AF_INET6");
    let hosts = [
        "::ffff:192.0.2.1",
        "2001:db8::1",
        "::ffff:192.0.2.2",
        "2001:db8::2",
    ];
    for host in hosts {
        assert_eq!(
            workload.tell(&format!("S['s'].sendto(b'same', ({host:?}, 53))")),
            "4"
        );
    }
    let mut queries = Vec::new();
    for _ in hosts {
        queries.push(stand.query().await);
    }
    // Answered in another order than asked, each with the name of the one who was asked.
    queries.reverse();
    for query in &queries {
        query
            .answer(nameserver(query).ip().to_string().as_bytes())
            .unwrap();
    }
    for _ in hosts {
        let heard = workload
            .tell("(lambda got: got[0].decode() == got[1][0].removeprefix('::ffff:'))(S['s'].recvfrom(99))");
        assert_eq!(heard, "True");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_asks_too_many_nameservers_is_refused_the_next_and_keeps_the_others() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::inside(&stand.cgroup);
    open(&mut workload, "s", "AF_INET");
    for round in 0..2 {
        for last in 1..=8 {
            let sent = workload.tell(&format!("S['s'].sendto(b'{round}', ('192.0.2.{last}', 53))"));
            assert_eq!(sent, "1");
            let query = stand.query().await;
            assert_eq!(nameserver(&query), SocketAddr::from(([192, 0, 2, last], 53)));
        }
        assert_eq!(
            workload.tell("S['s'].sendto(b'x', ('192.0.2.9', 53))"),
            "ECONNREFUSED"
        );
    }
    // Another socket has slots of its own.
    open(&mut workload, "t", "AF_INET");
    assert_eq!(workload.tell("S['t'].sendto(b'x', ('192.0.2.9', 53))"), "1");
    assert_eq!(
        nameserver(&stand.query().await),
        SocketAddr::from(([192, 0, 2, 9], 53))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_from_before_ask_the_agent_or_nobody() {
    if !privileged() {
        return;
    }
    let server = UdpSocket::bind("127.0.0.83:53").unwrap();
    server.set_nonblocking(true).unwrap();
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::outside();
    // Its socket stays in the cgroup where it was made.
    open(&mut workload, "made outside", "AF_INET");
    workload.enter(&stand.cgroup);
    for send in [
        "S['made outside'].sendto(b'x', ('127.0.0.83', 53))",
        "S['made outside'].connect(('127.0.0.83', 53)) or S['made outside'].send(b'x')",
    ] {
        assert_eq!(workload.tell(send), "1");
        let query = stand.query().await;
        assert_eq!(nameserver(&query), SocketAddr::from(([127, 0, 0, 83], 53)));
        assert_eq!(query.origin.tgid, workload.pid());
    }
    // Connected while its cgroup was not managed: it cannot be steered any more.
    let late = TestCgroup::new();
    let mut workload = Workload::inside(&late);
    open(&mut workload, "s", "AF_INET");
    assert_eq!(workload.tell("S['s'].connect(('127.0.0.83', 53))"), "None");
    stand
        .bench
        .kernel
        .classify(late.id(), &late.path, crate::kernel::Standing::Managed(POLICY))
        .unwrap();
    assert_eq!(workload.tell("S['s'].send(b'x')"), "EPERM");
    let event = stand
        .bench
        .event(|event| event.kind == EventKind::PacketDropped)
        .await;
    assert_eq!(event.address, SocketAddr::from(([127, 0, 0, 83], 53)));
    assert_eq!(
        server.recv(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_agents_sockets_dns_is_refused_and_the_ports_are_nobodys() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow);
    let ports: Vec<u16> = stand.listener.addresses().dns_ports().collect();
    assert_eq!(ports.len(), 8);
    let Stand {
        bench,
        listener,
        queries,
        cgroup,
    } = stand;
    drop((listener, queries));
    let mut workload = Workload::inside(&cgroup);
    let mut squatter = Workload::outside();
    for (name, (family, host, _)) in ["a", "b", "c"].into_iter().zip(FAMILIES) {
        open(&mut workload, name, family);
        let sent = workload.tell(&format!("S[{name:?}].sendto(b'x', ({host:?}, 53))"));
        assert_eq!(sent, "ECONNREFUSED", "{host}");
        let connected = workload.tell(&format!("S[{name:?}].connect(({host:?}, 53))"));
        assert_eq!(connected, "ECONNREFUSED", "{host}");
    }
    for (number, port) in ports.iter().enumerate() {
        let name = format!("squatter {number}");
        open(&mut squatter, &name, "AF_INET");
        assert_eq!(
            squatter.tell(&format!("S[{name:?}].bind(('127.0.0.1', {port}))")),
            "EPERM"
        );
    }
    // Somebody has the port all the same, as its first datagram could have got it: it is not the agent's.
    let squatting = bench
        .kernel
        .with_proxy_ports(|| UdpSocket::bind(("127.0.0.1", ports[0])))
        .unwrap()
        .unwrap();
    squatting.set_nonblocking(true).unwrap();
    open(&mut workload, "d", "AF_INET");
    assert_eq!(
        workload.tell("S['d'].sendto(b'x', ('192.0.2.53', 53))"),
        "ECONNREFUSED"
    );
    assert_eq!(
        squatting.recv(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    // A process outside goes its own way.
    let server = UdpSocket::bind("127.0.0.84:53").unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(
        squatter.tell("S['squatter 0'].sendto(b'x', ('127.0.0.84', 53))"),
        "1"
    );
    assert_eq!(server.recv(&mut [0; 8]).unwrap(), 1);
    drop(workload);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_the_socket_that_asked_and_no_other_on_its_port() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::inside(&stand.cgroup);
    open(&mut workload, "first", "AF_INET");
    workload.tell("S['first'].bind(('127.0.0.1', 0))");
    assert_eq!(workload.tell("S['first'].sendto(b'x', ('192.0.2.1', 53))"), "1");
    let late = stand.query().await;
    let port = workload.tell("S['first'].getsockname()[1]");
    workload.tell("S.pop('first').close()");
    open(&mut workload, "second", "AF_INET");
    workload.tell(&format!("S['second'].bind(('127.0.0.1', {port}))"));
    assert_eq!(workload.tell("S['second'].sendto(b'y', ('192.0.2.2', 53))"), "1");
    let query = stand.query().await;
    late.answer(b"late").unwrap();
    query.answer(b"right").unwrap();
    assert_eq!(
        workload.tell("S['second'].recvfrom(99)"),
        "(b'right', ('192.0.2.2', 53))"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_ports_in_two_namespaces_are_two_clients() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let expander = stand.listener.expander();
    let mut inside = Workload::in_new_namespace();
    inside.enter(&stand.cgroup);
    open(&mut inside, "s", "AF_INET");
    assert_eq!(inside.tell("S['s'].bind(('127.0.0.1', 0))"), "None");
    // No socket of the agent's is there yet; the report of that brings it.
    assert_eq!(
        inside.tell("S['s'].sendto(b'x', ('192.0.2.1', 53))"),
        "ECONNREFUSED"
    );
    let event = stand
        .bench
        .event(|event| event.kind == EventKind::NoListener)
        .await;
    expander.heed(&event).unwrap();
    let port = inside.tell("S['s'].getsockname()[1]");
    let mut host = Workload::inside(&stand.cgroup);
    open(&mut host, "s", "AF_INET");
    assert_eq!(host.tell(&format!("S['s'].bind(('127.0.0.1', {port}))")), "None");
    assert_eq!(inside.tell("S['s'].sendto(b'in', ('192.0.2.1', 53))"), "2");
    assert_eq!(host.tell("S['s'].sendto(b'out', ('192.0.2.2', 53))"), "3");
    for _ in 0..2 {
        let query = stand.query().await;
        let (nameserver_last, pid) = match query.bytes.as_slice() {
            b"in" => (1, inside.pid()),
            _ => (2, host.pid()),
        };
        assert_eq!(
            nameserver(&query),
            SocketAddr::from(([192, 0, 2, nameserver_last], 53))
        );
        assert_eq!(query.origin.tgid, pid);
        assert_eq!(query.origin.netns, query.netns.cookie());
        query.answer(&query.bytes).unwrap();
    }
    assert_eq!(inside.tell("S['s'].recvfrom(99)"), "(b'in', ('192.0.2.1', 53))");
    assert_eq!(host.tell("S['s'].recvfrom(99)"), "(b'out', ('192.0.2.2', 53))");
}

/// A stub resolver keeps its connected socket over a restart of the agent's.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_asked_before_a_restart_goes_on_asking() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let mut workload = Workload::inside(&stand.cgroup);
    open(&mut workload, "s", "AF_INET");
    assert_eq!(workload.tell("S['s'].connect(('192.0.2.1', 53))"), "None");
    assert_eq!(workload.tell("S['s'].send(b'before')"), "6");
    stand.query().await;
    let Stand {
        bench,
        listener,
        queries,
        cgroup,
    } = stand;
    drop((listener, queries));
    let kernel = Arc::clone(&bench.kernel);
    // The sockets are closed when their tasks have ended.
    let mut listener = loop {
        let known = kernel.proxy().unwrap();
        match Listener::bind(
            Arc::clone(&kernel),
            ProxyAddresses {
                dns: known.dns,
                ..ProxyAddresses::default()
            },
        ) {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let mut queries = listener.take_queries().unwrap();
    assert_eq!(workload.tell("S['s'].send(b'after')"), "5");
    let query = tokio::time::timeout(Duration::from_secs(20), queries.recv())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (query.bytes.as_slice(), nameserver(&query).to_string().as_str()),
        (&b"after"[..], "192.0.2.1:53")
    );
    query.answer(b"answer").unwrap();
    assert_eq!(workload.tell("S['s'].recv(99)"), "b'answer'");
    drop((workload, cgroup));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_datagram_straight_to_the_agents_port_is_dropped() {
    if !privileged() {
        return;
    }
    let mut stand = Stand::new(Egress::Allow);
    let port = stand.listener.addresses().dns;
    let mut workload = Workload::inside(&stand.cgroup);
    open(&mut workload, "s", "AF_INET");
    assert_eq!(
        workload.tell(&format!("S['s'].sendto(b'x', ('127.0.0.1', {port}))")),
        "1"
    );
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(b"y", ("127.0.0.1", port))
        .unwrap();
    while stand.listener.unexplained() < 2 {
        tokio::task::yield_now().await;
    }
    assert!(stand.queries.try_recv().is_err());
    drop(workload);
}
