//! Network namespaces that are new to the agent: what the first connect in each meets.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::{Stand, flow};
use crate::config::Egress;
use crate::flow::listener::Namespace;
use crate::flow::{Expander, Listener};
use crate::kernel::testing::{Bench, Workload, privileged};
use crate::kernel::{EventKind, EventStream};
use crate::model::Place;

fn targets() -> [SocketAddr; 2] {
    ["192.0.2.1:5432", "[2001:db8::1]:5432"].map(|target| target.parse().unwrap())
}

/// Listens where it is asked to, as the agent does.
fn attend(mut events: EventStream, expander: Expander) -> JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            let event = events.next().await.unwrap();
            // Whoever asked may be gone already.
            let _gone = expander.heed(&event);
        }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_connect_in_a_new_namespace_is_redirected() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow, &targets());
    let (Bench { kernel, events, pins }, mut listener, cgroup) = (stand.bench, stand.listener, stand.cgroup);
    let attending = attend(events, listener.expander());
    for target in targets().into_iter().cycle().take(6) {
        let mut workload = Workload::in_new_namespace();
        workload.enter(&cgroup);
        assert_eq!(workload.connect("s", target), "None", "{target}");
        let flow = flow(&mut listener).await;
        assert_eq!(
            (flow.original.clone(), flow.origin.tgid),
            (Place::Network(target), workload.pid())
        );
        assert_ne!(flow.netns.cookie(), listener.host_namespace().cookie());
    }
    assert_eq!(kernel.stats().unwrap().count(EventKind::NoListener), 0);
    attending.abort();
    drop((listener, kernel, pins));
}

/// Until the agent has come, however slow it is, the connection's packets go nowhere; then it is as any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_goes_on_waiting_for_an_agent_that_is_slow() {
    if !privileged() {
        return;
    }
    for target in targets() {
        let mut stand = Stand::new(Egress::Allow, &targets());
        let mut workload = Workload::in_new_namespace();
        workload.enter(&stand.cgroup);
        let family = if target.is_ipv6() { "6" } else { "" };
        workload.tell(&format!("open_('s', socket.AF_INET{family})"));
        workload.tell("S['s'].setblocking(False)");
        let ip = target.ip();
        let tried = workload.tell(&format!("S['s'].connect(('{ip}', {}))", target.port()));
        assert_eq!(tried, "EINPROGRESS");
        let pid = Some(workload.pid());
        let event = stand
            .bench
            .event(|event| {
                event.kind == EventKind::ListenerAwaited && event.tgid == pid && event.address == target
            })
            .await;
        assert_eq!(
            workload.tell("__import__('select').select([], [S['s']], [], 0)[1] == []"),
            "True"
        );
        stand.listener.expander().heed(&event).unwrap();
        let flow = stand.flow().await;
        assert_eq!(
            (flow.original.clone(), flow.origin.tgid),
            (Place::Network(target), workload.pid())
        );
        workload.tell("S['s'].settimeout(20)");
        drop(flow);
        assert_eq!(workload.tell("S['s'].recv(1)"), "b''", "{target}");
    }
}

/// A connect that is held back is sent again within milliseconds and not after TCP's own second, as soon as the agent has
/// heard of a network namespace that is new to it, and not at all times: what does it costs every connection of the host.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_waits_is_sent_again_soon_once_a_new_namespace_was_heard_of() {
    /// `tcpi_rto` of `struct tcp_info` (linux/tcp.h), microseconds.
    const SOON: &str = "int.from_bytes(S['s'].getsockopt(6, 11, 12)[8:12], 'little') < 500_000";
    if !privileged() {
        return;
    }
    for target in targets() {
        let mut stand = Stand::new(Egress::Allow, &targets());
        let family = if target.is_ipv6() { "6" } else { "" };
        let connect = format!("S['s'].connect(('{}', {}))", target.ip(), target.port());
        let waiting = |stand: &Stand| {
            let mut workload = Workload::in_new_namespace();
            workload.enter(&stand.cgroup);
            workload.tell(&format!("open_('s', socket.AF_INET{family})"));
            workload.tell("S['s'].setblocking(False)");
            assert_eq!(workload.tell(&connect), "EINPROGRESS");
            workload
        };
        let mut first = waiting(&stand);
        assert_eq!(first.tell(SOON), "False", "{target}");
        let event = stand
            .bench
            .event(|event| event.kind == EventKind::ListenerAwaited)
            .await;
        stand.listener.expander().heed(&event).unwrap();
        assert_eq!(waiting(&stand).tell(SOON), "True", "{target}");
        let kernel = &stand.bench.kernel;
        kernel.relax_resends(Duration::from_mins(1)).unwrap();
        assert_eq!(waiting(&stand).tell(SOON), "True", "{target}");
        kernel.relax_resends(Duration::ZERO).unwrap();
        assert_eq!(waiting(&stand).tell(SOON), "False", "{target}");
    }
}

/// A process that leaves its namespace by itself, where even the loopback interface is down.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_whose_loopback_is_down_gets_it_up() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow, &targets());
    let (Bench { kernel, events, pins }, mut listener, cgroup) = (stand.bench, stand.listener, stand.cgroup);
    let attending = attend(events, listener.expander());
    for target in targets() {
        let mut workload = Workload::inside(&cgroup);
        assert_eq!(
            workload.tell("__import__('ctypes').CDLL(None).unshare(0x40000000)"),
            "0"
        );
        let mut attempt = 0;
        loop {
            match workload.connect(&format!("s{attempt}"), target).as_str() {
                "None" => break,
                // The agent has not been fast enough, and there is no way to its listener yet.
                "ENETUNREACH" | "EADDRNOTAVAIL" | "ECONNREFUSED" => attempt += 1,
                other => panic!("{target}: {other}"),
            }
            assert!(attempt < 10_000, "never redirected");
        }
        let flow = flow(&mut listener).await;
        assert_eq!(
            (flow.original.clone(), flow.origin.tgid),
            (Place::Network(target), workload.pid())
        );
    }
    attending.abort();
    drop((listener, kernel, pins));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_agent_that_is_gone() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow, &targets());
    drop(stand.listener);
    for target in targets() {
        let mut workload = Workload::in_new_namespace();
        workload.enter(&stand.cgroup);
        assert_eq!(workload.connect("s", target), "ECONNREFUSED");
    }
}

/// A cable from the host's namespace into another one. Its end here goes with the one there.
struct Cable(String);

impl Cable {
    fn into_namespace_of(pid: u32) -> Self {
        let name = format!("tgc{pid}");
        let made = Command::new("ip")
            .args([
                "link",
                "add",
                &name,
                "type",
                "veth",
                "peer",
                "name",
                "tgc0",
                "netns",
                &pid.to_string(),
            ])
            .status();
        assert!(made.unwrap().success());
        Self(name)
    }

    fn is_there(&self) -> bool {
        std::path::Path::new("/sys/class/net").join(&self.0).exists()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        if self.is_there() {
            let _gone = Command::new("ip").args(["link", "delete", &self.0]).status();
        }
    }
}

/// Waits for a condition.
async fn until(condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        tokio::task::yield_now().await;
    }
}

/// Whether the agent listens in a namespace that is not its own, of which `fact` is true.
fn stands(listener: &Listener, fact: impl Fn(&Namespace) -> bool) -> bool {
    let expander = listener.expander();
    let namespaces = expander.0.namespaces.lock();
    namespaces.values().any(|it| !it.netns.is_own() && fact(it))
}

/// Was once left to a look every half a minute.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_ends_with_the_last_process_in_it() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow, &targets());
    let (Bench { kernel, events, pins }, mut listener, cgroup) = (stand.bench, stand.listener, stand.cgroup);
    let attending = attend(events, listener.expander());
    let [target, _] = targets();
    // Its last process ends; or it goes elsewhere and lives on.
    for ends in [true, false] {
        let mut first = Workload::in_new_namespace();
        let cable = Cable::into_namespace_of(first.pid());
        let mut second = Workload::in_namespace_of(first.pid());
        for workload in [&mut first, &mut second] {
            workload.enter(&cgroup);
            assert_eq!(workload.connect("s", target), "None");
            drop(flow(&mut listener).await);
        }
        drop(first);
        // Somebody is still in it, and served as before.
        let known = second.pid();
        until(|| {
            stands(&listener, |it| {
                it.tenant
                    .as_ref()
                    .is_some_and(|tenant| tenant.inhabitant().pid() == known)
            })
        })
        .await;
        assert_eq!(second.connect("again", target), "None");
        drop(flow(&mut listener).await);
        assert!(cable.is_there());
        second.tell("S.clear()");
        if ends {
            drop(second);
        } else {
            assert_eq!(
                second.tell("__import__('ctypes').CDLL(None).unshare(0x40000000)"),
                "0"
            );
        }
        until(|| !cable.is_there()).await;
    }
    attending.abort();
    drop((listener, kernel, pins));
}

/// A namespace that a mount keeps, as those of `ip netns` and of pods, is entered again and again, also at the moment at
/// which the agent leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_enters_a_namespace_that_is_being_left_is_served() {
    if !privileged() {
        return;
    }
    let stand = Stand::new(Egress::Allow, &targets());
    let (Bench { kernel, events, pins }, mut listener, cgroup) = (stand.bench, stand.listener, stand.cgroup);
    let attending = attend(events, listener.expander());
    let [target, _] = targets();
    let holder = Workload::in_new_namespace();
    // Opened outside: the security hooks show a workload no descriptors of others.
    let open = format!("setattr(os, 'kept', os.open('/proc/{}/ns/net', 0))", holder.pid());
    let visitors: Vec<_> = (0..4)
        .map(|_| {
            let mut visitor = Workload::outside();
            assert_eq!(visitor.tell(&open), "None");
            visitor.enter(&cgroup);
            visitor
        })
        .collect();
    drop(holder);
    let enter = "__import__('ctypes').CDLL(None).setns(os.kept, 0x40000000)";
    for (number, mut visitor) in visitors.into_iter().enumerate() {
        assert_eq!(visitor.tell(enter), "0");
        assert_eq!(visitor.connect("s", target), "None", "visitor {number}");
        drop(flow(&mut listener).await);
        drop(visitor);
        // The next one comes while it is left, or just when it has been.
        until(|| !stands(&listener, |it| !it.leaving || number % 2 == 0)).await;
    }
    assert_eq!(kernel.stats().unwrap().count(EventKind::NoListener), 0);
    attending.abort();
    drop((listener, kernel, pins));
}
