//! New cgroups: classified by the kernel side itself, before anybody is in them.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{CgroupPattern, EventKind, Patterns, Standing};
use crate::config::Egress;
use crate::model::{CgroupPath, PolicyId};

fn server() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn patterns(parent: &TestCgroup, below: &[(&str, PolicyId)]) -> Patterns {
    let mut patterns = Patterns::default();
    for (below, policy) in below {
        let pattern = format!("{}/{below}", parent.path);
        patterns.add(CgroupPattern::new(&pattern).unwrap(), *policy);
    }
    patterns
}

/// A bench where cgroups below the given one are watched, and nobody looks at them.
fn watching(parent: &TestCgroup, below: &[(&str, PolicyId)], protected: SocketAddr) -> Bench {
    let bench = Bench::new();
    bench.kernel.set_policy(POLICY, Egress::Allow).unwrap();
    bench.protect(&[protected]);
    let undecided = bench.kernel.set_patterns(&patterns(parent, below)).unwrap();
    assert!(undecided.is_empty());
    bench
        .kernel
        .classify(parent.id(), &parent.path, Standing::Unmanaged { watched: true })
        .unwrap();
    bench
}

fn classified(bench: &Bench) -> usize {
    bench.kernel.maps.lock().cgroups.keys().count()
}

/// What a managed process sees where no listener of the agent's is; a pending one would see EPERM.
const MANAGED: &str = "ECONNREFUSED";

#[tokio::test]
async fn the_first_process_of_a_new_cgroup_is_under_its_policy_at_once() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let parent = TestCgroup::new();
    let bench = watching(&parent, &[("job-*", POLICY), ("**/deep", POLICY)], address);
    let mut workload = Workload::outside();
    for (path, expected) in [
        ("job-1", MANAGED),
        ("job-1/inside", MANAGED),
        ("other", "None"),
        ("other/deep", MANAGED),
        ("other/deep/deeper", MANAGED),
        ("other/shallow", "None"),
    ] {
        let made = TestCgroup::at(&format!("{}/{path}", parent.path));
        workload.enter(&made);
        assert_eq!(workload.connect(path, address), expected, "{path}");
        // The parents go with the first one.
        std::mem::forget(made);
    }
    assert_eq!(bench.kernel.stats().unwrap().count(EventKind::PendingRefused), 0);
    // The parent, and of those made the ones whose parent does not decide.
    assert_eq!(classified(&bench), 5);
    drop(workload);
    drop(parent);
    assert_eq!(classified(&bench), 0, "what is removed is forgotten");
}

#[tokio::test]
async fn new_cgroups_are_classified_while_no_agent_runs() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let parent = TestCgroup::new();
    let Bench { kernel, events, pins } = watching(&parent, &[("job-*", POLICY)], address);
    drop((kernel, events));
    let (job, other) = (parent.child("job-1"), parent.child("other"));
    assert_eq!(Workload::inside(&job).connect("s", address), MANAGED);
    assert_eq!(Workload::inside(&other).connect("s", address), "None");
    drop((job, other));
    drop((parent, pins));
}

#[tokio::test]
async fn patterns_that_replace_others_count_from_then_on() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let parent = TestCgroup::new();
    let bench = watching(&parent, &[("job-*", POLICY)], address);
    for (turn, globs) in ["a-*", "b-*", "c-*"].into_iter().enumerate() {
        let before = parent.child(&format!("job-{turn}"));
        bench
            .kernel
            .set_patterns(&patterns(&parent, &[(globs, POLICY)]))
            .unwrap();
        let (now, not) = (
            parent.child(&globs.replace('*', "1")),
            parent.child(&format!("job-x{turn}")),
        );
        assert_eq!(Workload::inside(&now).connect("s", address), MANAGED);
        assert_eq!(Workload::inside(&not).connect("s", address), "None");
        drop((before, now, not));
    }
}

#[tokio::test]
async fn a_pattern_that_the_kernel_side_has_no_room_for_leaves_its_cgroups_pending() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let parent = TestCgroup::new();
    let bench = watching(&parent, &[], address);
    // Which of the last twenty bytes of a name was an `a` are more states than the automaton of a level may have.
    let wide = format!("*a{}", "?".repeat(20));
    let undecided = bench
        .kernel
        .set_patterns(&patterns(&parent, &[("job-*", POLICY), (&wide, POLICY)]))
        .unwrap();
    assert_eq!(undecided, [format!("{}/{wide}", parent.path)]);
    let job = parent.child("other");
    assert_eq!(Workload::inside(&job).connect("s", address), "EPERM");
    drop(job);
}

#[tokio::test]
async fn cgroups_of_other_hierarchies_are_not_taken_for_those_of_cgroup2() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let parent = TestCgroup::new();
    let bench = watching(&parent, &[("job-*", POLICY)], address);
    let before = classified(&bench);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for mount in mounts.lines().filter(|line| line.contains(" - cgroup ")) {
        let twin = PathBuf::from(format!("{}{}", mount.split(' ').nth(4).unwrap(), parent.path));
        // Read-only or without the right controllers: nobody else can make one there either.
        if std::fs::create_dir(&twin).is_ok() {
            let job = twin.join("job-1");
            let made = std::fs::create_dir(&job);
            let count = classified(&bench);
            std::fs::remove_dir(&job).ok();
            std::fs::remove_dir(&twin).unwrap();
            made.unwrap();
            assert_eq!(count, before, "{mount}");
        }
    }
}

#[tokio::test]
async fn a_removed_workloads_socket_that_was_passed_on_stays_closed() {
    if !privileged() {
        return;
    }
    let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_nonblocking(true).unwrap();
    let address = server.local_addr().unwrap();
    let parent = TestCgroup::new();
    let bench = watching(&parent, &[("job-*", POLICY)], address);
    let job = parent.child("job-1");
    let mut workload = Workload::inside(&job);
    workload.tell("open_('u', socket.AF_INET, socket.SOCK_DGRAM)");
    // It takes the socket out of the cgroup, which is then removed.
    let root = TestCgroup::new();
    workload.enter(&root);
    drop(job);
    let port = address.port();
    let sent = workload.tell(&format!("S['u'].sendto(b'x', ('127.0.0.1', {port}))"));
    assert_eq!(sent, "EPERM");
    assert_eq!(
        server.recv(&mut [0; 8]).unwrap_err().kind(),
        std::io::ErrorKind::WouldBlock
    );
    drop((workload, bench));
}

#[tokio::test]
async fn what_the_strictest_policy_refuses_is_refused_to_a_cgroup_that_is_not_classified() {
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
    let pending = parent.child("new");
    let mut workload = Workload::inside(&pending);
    assert_eq!(workload.connect("protected", protected), "EPERM");
    assert_eq!(workload.connect("allowed", open), "None");
    let strict = PolicyId(POLICY.0 + 1);
    bench.kernel.set_policy(strict, Egress::Deny).unwrap();
    assert_eq!(workload.connect("denied", open), "EPERM");
    workload.tell("open_('u', socket.AF_INET, socket.SOCK_DGRAM)");
    assert_eq!(workload.tell("S['u'].sendto(b'x', ('127.0.0.1', 443))"), "EPERM");
    assert_eq!(workload.tell("S['u'].sendto(b'x', ('127.0.0.1', 53))"), "EPERM");
    bench.kernel.remove_policy(strict).unwrap();
    assert_eq!(workload.connect("allowed again", open), "None");
    drop(workload);
    drop(pending);
}

#[tokio::test]
async fn what_is_said_of_the_root_holds_for_everybody_below_it() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let bench = Bench::new();
    bench.kernel.set_policy(POLICY, Egress::Allow).unwrap();
    bench.protect(&[address]);
    // The security hooks keep whoever is pending from bpf(2): this process too, if nobody says what it is.
    let own = bench.kernel.cgroup2().own().unwrap();
    if let Some(top) = own.as_str().split('/').find(|level| !level.is_empty()) {
        let path = CgroupPath(format!("/{top}").into());
        let id = bench.kernel.cgroup2().id_of(&path).unwrap();
        let free = Standing::Unmanaged { watched: false };
        bench.kernel.classify(id, &path, free).unwrap();
    }
    let path = CgroupPath("/".into());
    let root = bench.kernel.cgroup2().id_of(&path).unwrap();
    let say = |watched| {
        let standing = Standing::Unmanaged { watched };
        bench.kernel.classify(root, &path, standing).unwrap();
    };
    let (job, other) = (TestCgroup::new(), TestCgroup::new());
    bench
        .kernel
        .classify(job.id(), &job.path, Standing::Managed(POLICY))
        .unwrap();
    let (mut managed, mut unknown) = (Workload::inside(&job), Workload::inside(&other));
    let mut connect = |name: &str| (managed.connect(name, address), unknown.connect(name, address));
    let both = |managed: &str, unknown: &str| (managed.to_owned(), unknown.to_owned());

    assert_eq!(connect("unknown root"), both(MANAGED, "None"));
    say(true);
    assert_eq!(connect("watched root"), both(MANAGED, "EPERM"));
    say(false);
    assert_eq!(connect("nothing can match"), both("None", "None"));
    bench.kernel.forget(root).unwrap();
    assert_eq!(connect("forgotten root"), both(MANAGED, "None"));
    drop((managed, unknown));
}
