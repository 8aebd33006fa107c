//! The way of a connection through a real kernel: from `connect()` to [`Flow`].

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Egress;
use crate::flow::{Flow, Listener};
use crate::kernel::ProxyAddresses;
use crate::kernel::testing::{Bench, POLICY, TestCgroup, Workload, privileged};

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
        Self { bench, listener, cgroup }
    }

    async fn flow(&mut self) -> Flow {
        flow(&mut self.listener).await
    }
}

async fn flow(listener: &mut Listener) -> Flow {
    tokio::time::timeout(Duration::from_secs(20), listener.accept()).await.expect("no flow came").unwrap()
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
        ("unspecified", "0.0.0.0".to_owned(), SocketAddr::new([0, 0, 0, 0].into(), v4.port())),
    ] {
        assert_eq!(workload.connect_to(name, &host, asked.port()), "None", "{name}");
        let flow = stand.flow().await;
        assert_eq!(flow.original.0, asked, "{name}");
        assert_eq!(flow.origin.policy, POLICY);
        assert_eq!(flow.origin.managed_cgroup, stand.cgroup.id());
        assert_eq!(flow.origin.cgroup, stand.cgroup.id());
        assert_eq!(flow.origin.tgid, workload.pid());
        assert_eq!(flow.origin.uid, 0);
        assert_eq!(flow.origin.comm, "python3");
        assert_eq!(flow.origin.netns, stand.listener.host_namespace().cookie());
        assert_eq!(flow.client.0.port().to_string(), workload.tell(&format!("S[{name:?}].getsockname()[1]")));
        let peer = workload.tell(&format!("S[{name:?}].getpeername()[:2]"));
        assert_eq!(peer, format!("('{host}', {})", asked.port()), "{name}");
    }
    assert_eq!(stand.bench.kernel.stats().unwrap().redirected, 4);
}
