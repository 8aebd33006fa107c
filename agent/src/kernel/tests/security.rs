//! What programs on security hooks refuse to workloads, and that nobody else notices them.
//!
//! They need a kernel that asks them: on others each test says so, and fails where `TOLLGATE_TEST_LSM` demands them.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use super::super::generation::Generation;
use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{EventKind, Tier, UnixTreatment};
use super::server;
use crate::config::Egress;
use crate::model::SocketPath;

/// System calls by number, since Python has not all of them.
const CALLS: &str = "import ctypes, struct, signal, fcntl, select; L = ctypes.CDLL(None, use_errno=True)";
/// A call of the C library: its result, or the error as everywhere.
const CALL: &str =
    "exec('def call(f, *a):\\n r = f(*a)\\n if r < 0: raise OSError(ctypes.get_errno(), \"\")\\n return r')";

/// Takes what has come to the socket `s` by `getsockopt(TCP_ZEROCOPY_RECEIVE)`, whose structure says where to.
const RECEIVE: &str = "exec('def receive():\\n b = ctypes.create_string_buffer(16)\\n \
    z = struct.pack(\"=QIIIiQiIQQII\", 0, 0, 0, 0, 0, ctypes.addressof(b), 16, 0, 0, 0, 0, 0)\\n \
    z = ctypes.create_string_buffer(z, 64)\\n \
    call(L.getsockopt, S[\"s\"].fileno(), 6, 35, z, ctypes.byref(ctypes.c_int(64)))\\n return b.value')";

/// A kernel side with every program on security hooks, and a workload. `None`: this kernel does not ask them, and says so.
fn scene(protected: &[SocketAddr]) -> Option<(Bench, TestCgroup, Workload)> {
    if !privileged() {
        return None;
    }
    let bench = Bench::new();
    if let Some(lack) = bench.kernel.lacks_tier(Tier::Lsm) {
        assert!(
            std::env::var_os("TOLLGATE_TEST_LSM").is_none(),
            "{}: {}",
            lack.program,
            lack.reason
        );
        // Not by the macro, whose words are lost when a test passes.
        let said = format!(
            "*** NOT TESTED: security hooks: {}: {} ***\n",
            lack.program, lack.reason
        );
        std::io::stderr().write_all(said.as_bytes()).unwrap();
        return None;
    }
    let cgroup = TestCgroup::new();
    bench.manage(&cgroup, Egress::Allow, protected);
    let mut workload = Workload::outside();
    assert_eq!(workload.tell(CALLS), "None");
    assert_eq!(workload.tell(CALL), "None");
    Some((bench, cgroup, workload))
}

#[tokio::test]
async fn workloads_have_no_sockets_of_families_without_addresses() {
    let Some((mut bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let packet = "open_('p', socket.AF_PACKET, socket.SOCK_RAW, 0x0300)";
    assert_eq!(workload.tell(packet), "None");
    assert_eq!(workload.tell("open_('v', socket.AF_VSOCK)"), "None");
    workload.enter(&cgroup);
    assert_eq!(workload.tell(packet), "EPERM");
    assert_eq!(workload.tell("open_('w', socket.AF_VSOCK)"), "EPERM");
    let pid = Some(workload.pid());
    bench
        .event(|event| event.tgid == pid && event.kind == EventKind::FamilyRefused)
        .await;
    for family in ["AF_UNIX", "AF_INET6", "AF_NETLINK"] {
        let kind = if family == "AF_NETLINK" {
            "SOCK_RAW"
        } else {
            "SOCK_STREAM"
        };
        let open = format!("open_('x', socket.{family}, socket.{kind})");
        assert_eq!(workload.tell(&open), "None", "{family}");
    }
    // A network namespace has sockets of the kernel's own.
    assert_eq!(workload.tell("call(L.unshare, 0x40000000)"), "0");
    // Made before.
    assert_eq!(workload.tell("S['p'].recv(1, socket.MSG_DONTWAIT)"), "EPERM");
}

#[tokio::test]
async fn a_connection_from_before_is_of_no_use_to_a_workload() {
    let (protected, address) = server();
    let (open, elsewhere) = server();
    let Some((mut bench, cgroup, mut workload)) = scene(&[address]) else {
        return;
    };
    let connect = |workload: &mut Workload, name, address, listener: &TcpListener| {
        assert_eq!(workload.connect(name, address), "None");
        listener.accept().unwrap().0
    };
    let mut stream = connect(&mut workload, "s", address, &protected);
    let _other = connect(&mut workload, "o", elsewhere, &open);
    // With a time limit, Python waits for bytes before it asks for them.
    workload.tell("S['s'].setblocking(False)");
    workload.tell("S['f'] = open('/etc/hostname', 'rb')");
    workload.tell("S['r'], S['w'] = os.pipe()");
    workload.tell("os.write(S['w'], b'piped')");
    workload.tell("_, S['v'] = os.pipe()");
    workload.tell(RECEIVE);
    let arrive = |workload: &mut Workload, stream: &mut TcpStream| {
        stream.write_all(b"abc").unwrap();
        workload.tell("select.select([S['s']], [], [], 20)[0] != []")
    };
    assert_eq!(arrive(&mut workload, &mut stream), "True");
    assert_eq!(workload.tell("receive()"), "b'abc'");
    assert_eq!(arrive(&mut workload, &mut stream), "True");
    workload.enter(&cgroup);
    for (way, expected) in [
        ("S['s'].send(b'x')", "EPERM"),
        ("S['s'].sendmsg([b'x'])", "EPERM"),
        ("os.write(S['s'].fileno(), b'x')", "EPERM"),
        ("os.sendfile(S['s'].fileno(), S['f'].fileno(), 0, 5)", "EPERM"),
        (
            "call(L.splice, S['r'], None, S['s'].fileno(), None, 5, 0)",
            "EPERM",
        ),
        ("S['s'].recv(1)", "EPERM"),
        ("receive()", "EPERM"),
        (
            "call(L.splice, S['s'].fileno(), None, S['v'], None, 5, 0)",
            "EPERM",
        ),
        ("os.read(S['s'].fileno(), 1)", "EPERM"),
        ("S['o'].send(b'x')", "1"),
        ("os.sendfile(S['o'].fileno(), S['f'].fileno(), 0, 1)", "1"),
    ] {
        assert_eq!(workload.tell(way), expected, "{way}");
    }
    let pid = Some(workload.pid());
    let event = bench
        .event(|event| event.tgid == pid && event.kind == EventKind::UseRefused)
        .await;
    assert_eq!(event.address, address);
    stream.set_nonblocking(true).unwrap();
    let nothing = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn a_raw_socket_from_before_is_of_no_use_to_a_workload() {
    let Some((_bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    workload.tell("open_('r', socket.AF_INET, socket.SOCK_RAW, 17)");
    let send = "S['r'].sendto(bytes(8), ('127.0.0.1', 0))";
    assert_eq!(workload.tell(send), "8");
    workload.enter(&cgroup);
    assert_eq!(workload.tell(send), "EPERM");
}

#[tokio::test]
async fn a_workload_takes_over_nobody_but_its_own() {
    let Some((_bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let outside = Workload::outside();
    let attach = |pid: u32| format!("call(L.ptrace, 0x4206, {pid}, 0, 0)");
    let detach = |pid: u32| format!("(os.waitpid({pid}, 0x40000000), call(L.ptrace, 17, {pid}, 0, 0))[1]");
    assert_eq!(workload.tell(&attach(outside.pid())), "0");
    workload.tell(&format!("os.kill({}, signal.SIGSTOP)", outside.pid()));
    assert_eq!(workload.tell(&detach(outside.pid())), "0");
    workload.tell(&format!("os.kill({}, signal.SIGCONT)", outside.pid()));
    workload.enter(&cgroup);
    assert_eq!(workload.tell(&attach(outside.pid())), "EPERM");
    let steal = format!("call(L.syscall, 438, os.pidfd_open({}), 0, 0)", outside.pid());
    assert_eq!(workload.tell(&steal), "EPERM");
    let memory = format!("open('/proc/{}/mem', 'rb')", outside.pid());
    assert_eq!(workload.tell(&memory), "EACCES");
    // Looking is as on any host, but for the agent, whose environment may hold a credential.
    let environ = |pid: u32| format!("len(open('/proc/{pid}/environ').read()) > 0");
    assert_eq!(workload.tell(&environ(outside.pid())), "True");
    assert_eq!(workload.tell(&environ(std::process::id())), "EACCES");

    let mut own = Workload::inside(&cgroup);
    assert_eq!(workload.tell(&attach(own.pid())), "0");
    workload.tell(&format!("os.kill({}, signal.SIGSTOP)", own.pid()));
    assert_eq!(workload.tell(&detach(own.pid())), "0");
    workload.tell(&format!("os.kill({}, signal.SIGCONT)", own.pid()));
    assert_eq!(own.tell("2"), "2");
}

#[tokio::test]
async fn a_workload_cannot_kill_the_agent() {
    let Some((mut bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let outside = Workload::outside();
    // Ignored by everybody who asks for nothing else.
    let signal = |pid: u32| format!("os.kill({pid}, signal.SIGURG)");
    assert_eq!(workload.tell(&signal(std::process::id())), "None");
    workload.enter(&cgroup);
    assert_eq!(workload.tell(&signal(std::process::id())), "EPERM");
    let by_descriptor = format!(
        "signal.pidfd_send_signal(os.pidfd_open({}), signal.SIGURG)",
        std::process::id()
    );
    assert_eq!(workload.tell(&by_descriptor), "EPERM");
    assert_eq!(workload.tell(&signal(outside.pid())), "None");
    let pid = Some(workload.pid());
    bench
        .event(|event| event.tgid == pid && event.kind == EventKind::SignalRefused)
        .await;
}

#[tokio::test]
async fn of_bpf_a_workload_has_device_rules_and_of_the_kernel_what_lockdown_leaves() {
    let Some((bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let pinned = bench.pins.dir().join("x");
    workload.tell("S['c'] = os.open('/sys/fs/cgroup', os.O_RDONLY)");
    workload.tell(&format!(
        "S['n'] = ctypes.create_string_buffer({pinned:?}.encode())"
    ));
    let bpf = |command: u32, attributes: &str| {
        format!("call(L.syscall, 321, {command}, ctypes.create_string_buffer({attributes}, 128), 128)")
    };
    // An array of one number; the programs of a cgroup's devices, and of its sockets.
    let make = bpf(0, "struct.pack('=5I', 2, 4, 4, 1, 0)");
    let devices = bpf(16, "struct.pack('=II', S['c'], 6)");
    let sockets = bpf(16, "struct.pack('=II', S['c'], 2)");
    let kernel_memory = "os.open('/proc/kcore', os.O_RDONLY) > 0";
    for call in [&devices, &sockets] {
        assert_eq!(workload.tell(call), "0", "{call}");
    }
    assert_eq!(workload.tell(kernel_memory), "True");
    workload.enter(&cgroup);
    assert_eq!(workload.tell(&make), "EPERM");
    assert_eq!(workload.tell(&sockets), "EPERM");
    assert_eq!(workload.tell(&devices), "0");
    assert_eq!(workload.tell(kernel_memory), "EPERM");
}

#[tokio::test]
async fn a_workload_stays_in_its_cgroup_and_has_what_is_below() {
    let Some((_bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let outside = TestCgroup::new();
    let procs = |directory: &std::path::Path| format!("{}/cgroup.procs", directory.display());
    let escape = procs(outside.directory());
    let enter = |file: &str| format!("open({file:?}, 'w').write('0\\n')");
    let clone = |directory: &std::path::Path| {
        // CLONE_INTO_CGROUP with SIGCHLD; the child is gone at once.
        format!(
            "exec('d = os.open({:?}, os.O_PATH)\\np = call(L.syscall, 435, \
             ctypes.create_string_buffer(struct.pack(\"=11Q\", 1 << 33, 0, 0, 0, 17, 0, 0, 0, 0, 0, d), 88), 88)\\n\
             os._exit(0) if p == 0 else os.waitpid(p, 0)')",
            directory.display()
        )
    };
    workload.tell(&format!("S['before'] = os.open({escape:?}, os.O_WRONLY)"));
    assert_eq!(workload.tell(&clone(outside.directory())), "None");
    workload.enter(&cgroup);
    for (way, expected) in [
        (enter(&escape), "EPERM"),
        ("os.write(S['before'], b'0')".to_owned(), "EPERM"),
        (clone(outside.directory()), "EPERM"),
        (
            format!("os.mkdir('{}/new')", outside.directory().display()),
            "EPERM",
        ),
        // What a container manager does inside.
        (
            format!("os.mkdir('{}/inner')", cgroup.directory().display()),
            "None",
        ),
        (clone(&cgroup.directory().join("inner")), "None"),
        (enter(&procs(&cgroup.directory().join("inner"))), "2"),
        (enter(&procs(cgroup.directory())), "2"),
        (
            format!("os.rmdir('{}/inner')", cgroup.directory().display()),
            "None",
        ),
    ] {
        assert_eq!(workload.tell(&way), expected, "{way}");
    }
    // Reading is everybody's.
    assert_eq!(workload.tell(&format!("len(open({escape:?}).read())")), "0");
}

#[tokio::test]
async fn a_workload_cannot_remove_pins() {
    let Some((mut bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let pin = Generation::all(&bench.pins.dir())
        .pop()
        .unwrap()
        .link("tollgate_connect4");
    workload.enter(&cgroup);
    assert_eq!(workload.tell(&format!("os.unlink({pin:?})")), "EPERM");
    assert_eq!(
        workload.tell(&format!("os.rename({pin:?}, {pin:?} + 'x')")),
        "EPERM"
    );
    assert!(pin.exists());
    bench.kernel.check_links().unwrap();
    let pid = Some(workload.pid());
    bench
        .event(|event| event.tgid == pid && event.kind == EventKind::PinRefused)
        .await;
}

#[tokio::test]
async fn a_unix_socket_is_known_by_its_servers_name_whatever_the_link() {
    let Some((mut bench, cgroup, mut workload)) = scene(&[]) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let _server = UnixListener::bind(path(".s.PGSQL.5432")).unwrap();
    let _other = UnixListener::bind(path("other")).unwrap();
    std::fs::hard_link(path(".s.PGSQL.5432"), path("link")).unwrap();
    let wanted = BTreeMap::from([(
        SocketPath::parse(path(".s.PGSQL.5432").to_str().unwrap()).unwrap(),
        UnixTreatment::Absent,
    )]);
    bench.kernel.set_unix(POLICY, &wanted).unwrap();
    let connect = |workload: &mut Workload, name: &str| {
        workload.tell("open_('u', socket.AF_UNIX)");
        workload.tell(&format!("S['u'].connect({:?})", path(name)))
    };
    assert_eq!(connect(&mut workload, "link"), "None");
    workload.enter(&cgroup);
    assert_eq!(connect(&mut workload, "link"), "EPERM");
    assert_eq!(connect(&mut workload, "other"), "None");
    let pid = Some(workload.pid());
    bench
        .event(|event| event.tgid == pid && event.kind == EventKind::UnixLinkRefused)
        .await;
}
