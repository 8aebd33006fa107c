//! What an agent does with the pins of one before it.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::link::PinnedLink;
use super::super::testing::{Bench, POLICY, Pins, TestCgroup, Workload, privileged};
use super::super::{Kernel, KernelError, ProcessStanding, Standing};
use super::server;
use crate::config::Egress;
use crate::model::PolicyId;

/// A managed cgroup, closed by an agent that is gone.
struct Left {
    pins: Pins,
    cgroup: TestCgroup,
    workload: Workload,
    protected: SocketAddr,
    server: std::net::TcpListener,
}

impl Left {
    fn new() -> Self {
        let (server, protected) = server();
        let Bench { kernel, events, pins } = Bench::new();
        let cgroup = TestCgroup::new();
        kernel.set_policy(POLICY, Egress::Deny).unwrap();
        let bench = Bench {
            kernel: Arc::clone(&kernel),
            events,
            pins,
        };
        bench.manage(&cgroup, Egress::Allow, &[protected]);
        let mut workload = Workload::inside(&cgroup);
        assert_eq!(workload.connect("first", protected), "ECONNREFUSED");
        let Bench { pins, .. } = bench;
        Self {
            pins,
            cgroup,
            workload,
            protected,
            server,
        }
    }

    fn is_closed(&mut self) -> bool {
        match self.workload.connect("s", self.protected).as_str() {
            "None" => false,
            "ECONNREFUSED" | "EPERM" => true,
            other => panic!("{other}"),
        }
    }

    fn load(&self) -> Kernel {
        Kernel::load(&self.pins.options()).unwrap().0
    }

    fn pin(&self, name: &str) -> PathBuf {
        self.pins.dir().join("1-1").join(name)
    }

    /// Directories of generations that are there.
    fn generations(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.pins.dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            // The kernel's own files on a bpffs.
            .filter(|name| !name.contains("debug"))
            .collect();
        names.sort();
        names
    }
}

impl Drop for Left {
    /// The process before its cgroup.
    fn drop(&mut self) {
        self.workload = Workload::outside();
    }
}

#[tokio::test]
async fn a_restarted_agent_works_on_with_what_is_pinned() {
    if !privileged() {
        return;
    }
    let mut left = Left::new();
    let kernel = left.load();
    assert!(kernel.is_adopted());
    assert_eq!(left.generations(), ["1-1"]);
    kernel.check_links().unwrap();
    assert_eq!(
        kernel.standing_of(&left.cgroup.path).unwrap(),
        ProcessStanding::Managed(POLICY)
    );
    // Nothing has been said to this one, and what was closed is; what was counted is still counted.
    assert!(left.is_closed());
    assert_eq!(kernel.stats().unwrap().count(super::EventKind::NoListener), 2);
    // It knows what is protected, so it can take it back.
    kernel.set_protected(POLICY, &BTreeSet::new()).unwrap();
    assert!(!left.is_closed());
}

#[tokio::test]
async fn policies_and_cgroups_that_are_gone_are_forgotten_and_others_kept() {
    if !privileged() {
        return;
    }
    let left = Left::new();
    let kernel = left.load();
    let dead = crate::model::CgroupId(1 << 60);
    kernel
        .classify(dead, &left.cgroup.path, Standing::Managed(POLICY))
        .unwrap();
    kernel.set_policy(PolicyId(7), Egress::Allow).unwrap();
    assert!(kernel.classified().unwrap().contains(&dead));
    let gone = kernel.retain_policies(&BTreeSet::from([POLICY])).unwrap();
    assert_eq!(gone, [PolicyId(7)]);
    assert_eq!(kernel.retain_policies(&BTreeSet::new()).unwrap(), [POLICY]);
    let keeper =
        crate::kernel::CgroupKeeper::start(Arc::new(kernel), super::super::Patterns::default()).unwrap();
    let kernel = left.load();
    let classified = kernel.classified().unwrap();
    assert!(!classified.contains(&dead) && !classified.contains(&left.cgroup.id()));
    drop(keeper);
}

#[tokio::test]
async fn programs_are_replaced_without_a_moment_in_which_none_is_there() {
    if !privileged() {
        return;
    }
    let mut left = Left::new();
    let over = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&over);
    let address = left.protected;
    let mut inside = Workload::inside(&left.cgroup);
    let mut outside = Workload::outside();
    let accepting = left.server.try_clone().unwrap();
    let asking = std::thread::spawn(move || {
        let mut asked = 0;
        while !stop.load(Ordering::Relaxed) {
            asked += 1;
            assert_eq!(inside.connect(&format!("s{asked}"), address), "ECONNREFUSED");
            assert_eq!(outside.connect("s", address), "None");
            accepting.accept().unwrap();
            outside.tell("S.clear()");
        }
        asked
    });
    for _ in 0..8 {
        left.load().check_links().unwrap();
    }
    over.store(true, Ordering::Relaxed);
    assert!(asking.join().unwrap() > 100);
    assert!(left.is_closed());
}

#[tokio::test]
async fn half_made_pins_are_repaired() {
    if !privileged() {
        return;
    }
    let unpin = |path: PathBuf| fs::remove_file(path).unwrap();
    let mut left = Left::new();
    // Killed before it had pinned everything; while it replaced a link; and somebody detached a program.
    unpin(left.pin("link_tollgate_connect6"));
    unpin(left.pin("STATS"));
    fs::rename(
        left.pin("link_tollgate_peer4"),
        left.pin("link_tollgate_peer4_new"),
    )
    .unwrap();
    fs::rename(
        left.pin("link_tollgate_bind4"),
        left.pin("link_of_another_version"),
    )
    .unwrap();
    PinnedLink::open(&left.pin("link_tollgate_bind6"))
        .unwrap()
        .detach()
        .unwrap();
    let kernel = left.load();
    assert!(kernel.is_adopted());
    kernel.check_links().unwrap();
    assert!(left.is_closed());
    let names: Vec<_> = fs::read_dir(left.pin(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names.iter().all(|name| {
            let name = name.to_str().unwrap();
            !name.ends_with("_new") && !name.contains("another")
        }),
        "{names:?}"
    );

    // An empty directory of a start that was killed at once.
    fs::create_dir(left.pins.dir().join("1-2")).unwrap();
    let kernel = left.load();
    assert!(left.is_closed());
    kernel.take_over().unwrap();
    kernel.check_links().unwrap();
}

#[tokio::test]
async fn pins_of_an_older_layout_are_closed_until_this_agent_has_taken_over() {
    if !privileged() {
        return;
    }
    let mut left = Left::new();
    fs::rename(left.pins.dir().join("1-1"), left.pins.dir().join("1")).unwrap();
    let kernel = left.load();
    assert!(!kernel.is_adopted());
    assert!(left.is_closed());
    // It failed: what was closed stays so.
    kernel.abandon().unwrap();
    assert_eq!(left.generations(), ["1"]);
    assert!(left.is_closed());

    let kernel = left.load();
    assert_eq!(left.generations(), ["1", "1-1"]);
    kernel.take_over().unwrap();
    assert_eq!(left.generations(), ["1-1"]);
    // It was told of nobody.
    assert!(!left.is_closed());
}

#[tokio::test]
async fn maps_of_other_sizes_or_gone_are_not_adopted() {
    if !privileged() {
        return;
    }
    let sizes = |left: &Left| fs::rename(left.pin("STATS"), left.pin("POLICIES")).unwrap();
    let gone = |left: &Left| fs::remove_file(left.pin("CGROUPS")).unwrap();
    for sabotage in [&sizes as &dyn Fn(&Left), &gone] {
        let mut left = Left::new();
        sabotage(&left);
        let kernel = left.load();
        assert!(!kernel.is_adopted());
        assert_eq!(left.generations(), ["1-1", "1-2"]);
        assert!(left.is_closed());
        kernel.take_over().unwrap();
        assert_eq!(left.generations(), ["1-2"]);
    }
}

#[tokio::test]
async fn pins_of_a_newer_layout_are_left_alone_and_the_agent_says_what_to_do() {
    if !privileged() {
        return;
    }
    let mut left = Left::new();
    let newer = left.pins.dir().join("99-1");
    fs::create_dir(&newer).unwrap();
    for error in [
        Kernel::load(&left.pins.options()).map(drop).unwrap_err(),
        Kernel::check(&left.pins.options()).unwrap_err(),
    ] {
        assert!(
            matches!(error, KernelError::NewerLayout { layout: 99, .. }),
            "{error}"
        );
        let told = error.to_string();
        assert!(
            told.contains(newer.to_str().unwrap()) && told.contains("tollgate uninstall"),
            "{told}"
        );
    }
    assert_eq!(left.generations(), ["1-1", "99-1"]);
    assert!(left.is_closed());

    Kernel::uninstall(&left.pins.options()).unwrap();
    assert!(!left.pins.dir().exists());
    assert!(!left.is_closed());
}

#[tokio::test]
async fn a_check_changes_nothing() {
    if !privileged() {
        return;
    }
    let pins = Pins::new();
    Kernel::check(&pins.options()).unwrap();
    assert!(!pins.dir().exists());
}
