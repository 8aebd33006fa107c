//! Cgroups whose path does not tell whose they are: nothing passes before it is known.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{CgroupKeeper, CgroupPattern, Decide, Decided, Patterns};
use crate::config::Egress;
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// What is known, by cgroup.
#[derive(Debug, Default)]
struct Book(Mutex<BTreeMap<CgroupId, Decided>>);

impl Decide for Book {
    fn decide(&self, id: CgroupId, _path: &CgroupPath, among: &[PolicyId]) -> Decided {
        assert_eq!(among, [POLICY]);
        self.0.lock().get(&id).cloned().unwrap_or(Decided::NotYet)
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const MANAGED: &str = "ECONNREFUSED";
const PENDING: &str = "EPERM";
const FREE: &str = "None";

#[tokio::test]
async fn nothing_passes_before_it_is_known_whose_a_cgroup_is() {
    if !privileged() {
        return;
    }
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let parent = TestCgroup::new();
    let bench = Bench::new();
    bench.kernel.set_policy(POLICY, Egress::Allow).unwrap();
    bench.protect(&[address]);
    let book = Arc::new(Book::default());
    let patterns = || {
        let mut patterns = Patterns::default();
        let pattern = format!("{}/c-*", parent.path);
        patterns.ask(CgroupPattern::new(&pattern).unwrap(), POLICY);
        patterns.ask_at(Arc::clone(&book) as _);
        // Whom nobody asks for is under what the path says.
        let by_path = format!("{}/c-by-path", parent.path);
        patterns.add(CgroupPattern::new(&by_path).unwrap(), POLICY);
        patterns
    };
    let there = parent.child("c-0");
    assert_eq!(
        patterns()
            .not_decided(bench.kernel.cgroup2())
            .into_keys()
            .collect::<Vec<_>>(),
        [there.id()]
    );
    let keeper = CgroupKeeper::start(Arc::clone(&bench.kernel), patterns()).unwrap();
    let (managed, awaited) = (keeper.managed(), keeper.awaited());
    let (job, other) = (parent.child("c-1"), parent.child("c-2"));
    let by_path = parent.child("c-by-path");
    let is_awaited = |cgroup: &TestCgroup| awaited.borrow().contains_key(&cgroup.id());
    for cgroup in [&there, &job, &other, &by_path] {
        assert_eq!(Workload::inside(cgroup).connect("s", address), PENDING);
        eventually("it is waited for", || is_awaited(cgroup));
        assert_eq!(
            Workload::inside(cgroup).connect("s", address),
            PENDING,
            "also when it was seen"
        );
    }
    // Whoever is in it does not get around it by a name of his own.
    let inner = TestCgroup::at(&format!("{}/c-2/free", parent.path));
    assert_eq!(Workload::inside(&inner).connect("s", address), PENDING);

    let by: Arc<str> = "label a".into();
    book.0
        .lock()
        .insert(job.id(), Decided::Under(POLICY, Arc::clone(&by)));
    book.0.lock().insert(other.id(), Decided::NoneOfThem);
    book.0.lock().insert(by_path.id(), Decided::NoneOfThem);
    keeper.look_again();
    eventually("they are known", || {
        !is_awaited(&job) && !is_awaited(&other) && !is_awaited(&by_path)
    });
    assert_eq!(Workload::inside(&by_path).connect("s", address), MANAGED);
    assert_eq!(Workload::inside(&job).connect("s", address), MANAGED);
    assert_eq!(Workload::inside(&other).connect("s", address), FREE);
    assert_eq!(Workload::inside(&inner).connect("s", address), FREE);
    assert_eq!(Workload::inside(&there).connect("s", address), PENDING);
    assert_eq!(managed.borrow()[&job.id()].by, by);

    // Nothing is known any more: what was found out stays for those that are under a policy, and for nobody else.
    book.0.lock().clear();
    keeper.classify_by(patterns()).unwrap();
    assert_eq!(Workload::inside(&job).connect("s", address), MANAGED);
    assert_eq!(Workload::inside(&other).connect("s", address), PENDING);
    assert!(is_awaited(&job) && is_awaited(&other));
    let gone = other.id();
    drop((inner, other));
    eventually("what is gone is not waited for", || {
        !awaited.borrow().contains_key(&gone)
    });

    // Policies that ask for nobody leave everybody alone.
    keeper.classify_by(Patterns::default()).unwrap();
    assert!(awaited.borrow().is_empty() && managed.borrow().is_empty());
    assert_eq!(Workload::inside(&there).connect("s", address), FREE);
}
