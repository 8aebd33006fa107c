//! What the kernel side refuses, drops and reports, on a real kernel. Redirection is tested with the flow stage.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

mod asked;
mod new_cgroups;
mod restart;
mod security;
mod unix;
mod visitors;

use agent_common::ip_protocol;

use super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::{EventKind, Hook, Kernel, KernelError, ProcessStanding, Standing, Tier};
use crate::config::Egress;
use crate::model::{CgroupId, CgroupPath, PolicyId};

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A program that the kernel refuses where it has the hook is a mistake of the program, though the agent can do without it.
#[tokio::test]
async fn the_kernel_takes_every_program_that_it_has_a_hook_for() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    for lack in bench.kernel.lacking() {
        let hook = super::programs::PROGRAMS
            .iter()
            .find(|spec| spec.name == lack.program)
            .map(|spec| spec.hook);
        let is_missing = match hook {
            Some(Hook::Unix(_)) => lack.reason.contains("it takes Linux 6.7"),
            // Whether they are asked for is the host's to say; the tests' own machines demand them.
            Some(Hook::Lsm(_)) => std::env::var_os("TOLLGATE_TEST_LSM").is_none(),
            _ => false,
        };
        assert!(is_missing, "{}: {}", lack.program, lack.reason);
    }
}

#[tokio::test]
async fn egress_mode_decides_what_no_service_names() {
    if !privileged() {
        return;
    }
    let (_server, open) = server();
    let mut bench = Bench::new();
    let cgroup = TestCgroup::new();
    let mut workload = Workload::inside(&cgroup);
    let protected = "192.0.2.1:5432".parse().unwrap();
    let pid = Some(workload.pid());

    bench.manage(&cgroup, Egress::Allow, &[protected]);
    assert_eq!(workload.connect("allowed", open), "None");

    bench.manage(&cgroup, Egress::Observe, &[protected]);
    assert_eq!(workload.connect("observed", open), "None");
    let event = bench
        .event(|event| event.tgid == pid && event.kind == EventKind::EgressObserved)
        .await;
    assert_eq!(
        (event.address, event.policy, event.cgroup),
        (open, Some(POLICY), cgroup.id())
    );

    bench.manage(&cgroup, Egress::Deny, &[protected]);
    assert_eq!(workload.connect("denied", open), "EPERM");
    let event = bench
        .event(|event| event.tgid == pid && event.kind == EventKind::EgressRefused)
        .await;
    assert_eq!((event.address, event.comm.as_str()), (open, "python3"));
    workload.tell("open_('udp', socket.AF_INET, socket.SOCK_DGRAM)");
    assert_eq!(workload.tell("S['udp'].connect(('127.0.0.1', 443))"), "EPERM");
    assert_eq!(
        workload.tell("S['udp'].sendto(b'x', ('127.0.0.1', 443))"),
        "EPERM"
    );
    assert_eq!(workload.tell("S['udp'].sendto(b'x', ('127.0.0.1', 53))"), "EPERM");
    assert_eq!(workload.tell("S['udp'].connect(('127.0.0.1', 53))"), "EPERM");

    bench.kernel.remove_policy(POLICY).unwrap();
    assert_eq!(workload.connect("no policy", open), "EPERM");
}

#[tokio::test]
async fn protected_destinations_follow_what_is_set() {
    if !privileged() {
        return;
    }
    let (_one, one) = server();
    let (_two, two) = server();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let mut workload = Workload::inside(&cgroup);
    bench.manage(&cgroup, Egress::Allow, &[one]);
    // No listener of the agent's is there, so what is protected is refused.
    assert_eq!(
        (workload.connect("a", one), workload.connect("b", two)),
        ("ECONNREFUSED".into(), "None".into())
    );
    bench.protect(&[one, two]);
    assert_eq!(
        (workload.connect("c", one), workload.connect("d", two)),
        ("ECONNREFUSED".into(), "ECONNREFUSED".into())
    );
    bench.protect(&[two]);
    assert_eq!(
        (workload.connect("e", one), workload.connect("f", two)),
        ("None".into(), "ECONNREFUSED".into())
    );
    assert_eq!(bench.kernel.stats().unwrap().count(EventKind::NoListener), 4);
    bench.kernel.forget(cgroup.id()).unwrap();
    assert_eq!(workload.connect("g", two), "None");
    drop(workload);
}

#[tokio::test]
async fn datagrams_to_a_protected_destination_do_not_leave() {
    if !privileged() {
        return;
    }
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    let mut bench = Bench::new();
    let cgroup = TestCgroup::new();
    bench.manage(&cgroup, Egress::Allow, &[address]);
    let mut workload = Workload::inside(&cgroup);
    workload.tell("open_('u', socket.AF_INET, socket.SOCK_DGRAM)");
    let port = address.port();
    assert_eq!(
        workload.tell(&format!("S['u'].connect(('127.0.0.1', {port}))")),
        "EPERM"
    );
    assert_eq!(
        workload.tell(&format!("S['u'].sendto(b'x', ('127.0.0.1', {port}))")),
        "EPERM"
    );
    workload.tell("open_('six', socket.AF_INET6, socket.SOCK_DGRAM)");
    assert_eq!(
        workload.tell(&format!("S['six'].sendto(b'x', ('::ffff:127.0.0.1', {port}))")),
        "EPERM"
    );
    for kind in [
        EventKind::ProtocolRefused,
        EventKind::DatagramRefused,
        EventKind::DatagramRefused,
    ] {
        let event = bench.event(|event| event.kind == kind).await;
        assert_eq!(
            (event.address, event.protocol, event.tgid, event.comm.as_str()),
            (address, ip_protocol::UDP, Some(workload.pid()), "python3")
        );
    }
    assert_eq!(
        server.recv(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(workload);
}

#[tokio::test]
async fn datagrams_to_many_are_reported_once_for_each() {
    if !privileged() {
        return;
    }
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    bench.manage(&cgroup, Egress::Observe, &[]);
    let mut workload = Workload::inside(&cgroup);
    workload.tell("open_('u', socket.AF_INET, socket.SOCK_DGRAM)");
    for host in ["127.0.0.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"] {
        assert_eq!(
            workload.tell(&format!("S['u'].sendto(b'x', ('{host}', {port}))")),
            "1"
        );
    }
    assert_eq!(bench.kernel.stats().unwrap().count(EventKind::EgressObserved), 2);
    drop(workload);
}

#[tokio::test]
async fn a_connection_from_before_the_cgroup_was_managed_is_cut_off() {
    if !privileged() {
        return;
    }
    let (server, address) = server();
    let mut bench = Bench::new();
    let cgroup = TestCgroup::new();
    let mut workload = Workload::inside(&cgroup);
    assert_eq!(workload.connect("s", address), "None");
    let (mut stream, _) = server.accept().unwrap();
    assert_eq!(workload.tell("S['s'].send(b'before')"), "6");
    let mut received = [0; 6];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"before");

    bench.manage(&cgroup, Egress::Allow, &[address]);
    // The kernel takes the bytes; they do not leave. Where security hooks are asked, it does not take them.
    let refused = bench.kernel.lacks_tier(Tier::Lsm).is_none();
    let (answer, kind) = if refused {
        ("EPERM", EventKind::UseRefused)
    } else {
        ("5", EventKind::PacketDropped)
    };
    assert_eq!(workload.tell("S['s'].send(b'after')"), answer);
    let event = bench.event(|event| event.kind == kind).await;
    assert_eq!(
        (event.address, event.policy, event.cgroup),
        (address, Some(POLICY), cgroup.id())
    );
    stream.set_nonblocking(true).unwrap();
    assert_eq!(
        stream.read(&mut received).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop(workload);
}

#[tokio::test]
async fn workloads_have_no_sockets_that_go_around() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    bench.manage(&cgroup, Egress::Allow, &[]);
    let mut workload = Workload::inside(&cgroup);
    for (socket, expected) in [
        ("socket.AF_INET, socket.SOCK_STREAM, 262", "EPROTONOSUPPORT"),
        ("socket.AF_INET6, socket.SOCK_STREAM, 262", "EPROTONOSUPPORT"),
        ("socket.AF_INET, socket.SOCK_RAW, 6", "EPERM"),
        ("socket.AF_INET6, socket.SOCK_RAW, 255", "EPERM"),
        ("socket.AF_INET, socket.SOCK_STREAM", "None"),
        ("socket.AF_INET6, socket.SOCK_DGRAM", "None"),
        ("socket.AF_UNIX, socket.SOCK_STREAM", "None"),
    ] {
        assert_eq!(
            workload.tell(&format!("open_('s', {socket})")),
            expected,
            "{socket}"
        );
    }
    drop(workload);
}

#[tokio::test]
async fn a_cgroup_that_is_not_classified_is_refused_what_is_protected_and_nothing_else() {
    if !privileged() {
        return;
    }
    let (_protected, protected) = server();
    let (_open, open) = server();
    let bench = Bench::new();
    let parent = TestCgroup::new();
    bench.kernel.set_policy(POLICY, Egress::Allow).unwrap();
    bench.protect(&[protected]);
    bench
        .kernel
        .classify(parent.id(), &parent.path, Standing::Unmanaged { watched: true })
        .unwrap();
    let child = parent.child("new");
    let inner = child.child("inner");
    let mut workload = Workload::inside(&inner);
    assert_eq!(workload.connect("a", protected), "EPERM");
    assert_eq!(workload.connect("b", open), "None");
    assert_eq!(
        bench.kernel.standing_of(&inner.path).unwrap(),
        ProcessStanding::Pending
    );
    bench
        .kernel
        .classify(child.id(), &child.path, Standing::Unmanaged { watched: false })
        .unwrap();
    assert_eq!(workload.connect("c", protected), "None");
    assert_eq!(
        bench.kernel.standing_of(&inner.path).unwrap(),
        ProcessStanding::Free
    );
    bench
        .kernel
        .classify(child.id(), &child.path, Standing::Managed(POLICY))
        .unwrap();
    assert_eq!(workload.connect("d", protected), "ECONNREFUSED");
    assert_eq!(
        bench.kernel.standing_of(&inner.path).unwrap(),
        ProcessStanding::Managed(POLICY)
    );
    drop(workload);
    drop(inner);
}

#[tokio::test]
async fn the_agents_own_cgroup_and_what_is_out_of_reach_cannot_be_managed() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let own = bench.kernel.cgroup2().own().unwrap();
    let managed = Standing::Managed(PolicyId(1));
    let error = bench.kernel.classify(CgroupId(1), &own, managed).unwrap_err();
    assert!(matches!(error, KernelError::OwnCgroup { .. }), "{error}");
    let deep = CgroupPath("/x".repeat(33).into());
    let error = bench
        .kernel
        .classify(CgroupId(u64::MAX), &deep, managed)
        .unwrap_err();
    assert!(matches!(error, KernelError::TooDeep { .. }), "{error}");
    let path = CgroupPath("/tollgate-test".into());
    let error = bench
        .kernel
        .classify(CgroupId(1), &path, Standing::Managed(PolicyId(0)))
        .unwrap_err();
    assert!(matches!(error, KernelError::PolicyZero), "{error}");
}

#[tokio::test]
async fn ids_and_paths_of_cgroups_lead_to_one_another() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let cgroup2 = bench.kernel.cgroup2();
    let cgroup = TestCgroup::new();
    let id = cgroup.id();
    let workload = Workload::inside(&cgroup);
    assert_eq!(cgroup2.path_of(id).as_ref(), Some(&cgroup.path));
    assert_eq!(cgroup2.of_process(workload.pid()).as_ref(), Some(&cgroup.path));
    drop((workload, cgroup));
    assert_eq!(cgroup2.path_of(id), None);
}

#[tokio::test]
async fn uninstall_leaves_nothing_and_opens_what_was_closed() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let Bench { kernel, events, pins } = Bench::new();
    let cgroup = TestCgroup::new();
    let mut workload = Workload::inside(&cgroup);
    kernel.set_policy(POLICY, Egress::Deny).unwrap();
    kernel
        .classify(cgroup.id(), &cgroup.path, Standing::Managed(POLICY))
        .unwrap();
    kernel.check_links().unwrap();
    assert_eq!(workload.connect("a", address), "EPERM");
    drop((kernel, events));
    assert_eq!(workload.connect("b", address), "EPERM");

    Kernel::uninstall(&pins.options()).unwrap();
    assert_eq!(workload.connect("c", address), "None");
    assert_eq!(
        workload.tell("open_('raw', socket.AF_INET, socket.SOCK_RAW, 1)"),
        "None"
    );
    assert!(!pins.dir().exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(pins.dir().to_str().unwrap()));
    Kernel::uninstall(&pins.options()).unwrap();
    drop(workload);
}

#[tokio::test]
async fn a_program_that_somebody_detached_is_noticed() {
    if !privileged() {
        return;
    }
    let detach = |link: &Path| super::link::PinnedLink::open(link).unwrap().detach().unwrap();
    let unpin = |link: &Path| std::fs::remove_file(link).unwrap();
    for sabotage in [&detach as &dyn Fn(&Path), &unpin] {
        let bench = Bench::new();
        bench.kernel.check_links().unwrap();
        let link = bench.pins.dir().join("1-1/link_tollgate_connect4");
        sabotage(&link);
        let message = bench.kernel.check_links().unwrap_err().to_string();
        assert!(message.contains(link.to_str().unwrap()), "{message}");
    }
}

#[tokio::test]
async fn a_pin_directory_that_is_not_tollgates_is_left_alone() {
    if !privileged() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "mine").unwrap();
    let options = super::KernelOptions {
        pin_dir: dir.path().to_owned(),
    };
    let message = Kernel::load(&options).unwrap_err().to_string();
    assert!(message.contains("not empty"), "{message}");
    assert!(Path::new(&dir.path().join("file")).exists());
}
