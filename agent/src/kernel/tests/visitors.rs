//! Visitors beside an agent that classifies.

use std::sync::Arc;

use super::super::testing::{Bench, POLICY, TestCgroup, Workload, privileged};
use super::super::{CgroupKeeper, CgroupPattern, Patterns, Protected, Standing, Visit};
use super::server;
use crate::config::Egress;

/// Patterns that match `cgroup` and everything below it.
fn matching(cgroup: &TestCgroup) -> Patterns {
    let mut patterns = Patterns::default();
    for pattern in [cgroup.path.to_string(), format!("{}/**", cgroup.path)] {
        patterns.add(CgroupPattern::new(&pattern).unwrap(), POLICY);
    }
    patterns
}

/// A pattern that matches nothing: below the root some cgroup might have to be managed.
fn elsewhere() -> Patterns {
    let mut patterns = Patterns::default();
    patterns.add(CgroupPattern::new("/tollgate-test/nothing").unwrap(), POLICY);
    patterns
}

#[tokio::test]
async fn a_visitors_cgroup_stays_as_the_visitor_said_however_often_the_agent_classifies() {
    if !privileged() {
        return;
    }
    let (_server, address) = server();
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let job = cgroup.child("job");
    let mut visit = Visit::open(&bench.pins.dir()).unwrap().unwrap();
    visit.set_policy(Egress::Allow.into()).unwrap();
    let destination = Protected {
        network: address.ip().into(),
        port: address.port(),
    };
    visit.protect(&destination).unwrap();
    visit.leave_free(cgroup.id(), true).unwrap();
    visit.manage(job.id()).unwrap();

    bench.kernel.set_policy(POLICY, Egress::Allow).unwrap();
    let keeper = CgroupKeeper::start(Arc::clone(&bench.kernel), elsewhere()).unwrap();
    let managed = keeper.managed();
    let visitors = Some(Standing::Managed(visit.policy()));
    // By patterns that say nothing of it, by such that match it, and by the first again.
    for patterns in [elsewhere(), matching(&cgroup), elsewhere()] {
        keeper.classify_by(patterns).unwrap();
        let free = Some(Standing::Unmanaged { watched: true });
        assert_eq!(visit.standing_of(cgroup.id()).unwrap(), free);
        assert_eq!(visit.standing_of(job.id()).unwrap(), visitors);
        assert!(managed.borrow().is_empty());
        assert_eq!(Workload::inside(&job).connect("s", address), "ECONNREFUSED");
    }
    // Made before the agent looks, marked after it has.
    keeper.classify_by(matching(&cgroup)).unwrap();
    let late = cgroup.child("late");
    visit.manage(late.id()).unwrap();
    keeper.classify_by(matching(&cgroup)).unwrap();
    assert_eq!(visit.standing_of(late.id()).unwrap(), visitors);

    // The visit is over: it is a cgroup like any other.
    drop(visit);
    keeper.classify_by(matching(&cgroup)).unwrap();
    assert_eq!(
        managed.borrow().keys().copied().collect::<Vec<_>>(),
        [cgroup.id()]
    );
}

#[tokio::test]
async fn what_a_killed_visitor_said_is_forgotten_when_its_cgroup_is_gone() {
    if !privileged() {
        return;
    }
    let bench = Bench::new();
    let cgroup = TestCgroup::new();
    let id = cgroup.id();
    let mut visit = Visit::open(&bench.pins.dir()).unwrap().unwrap();
    visit.leave_free(id, true).unwrap();
    // As when it is killed.
    std::mem::forget(visit);
    let keeper = CgroupKeeper::start(Arc::clone(&bench.kernel), elsewhere()).unwrap();
    let known = || bench.kernel.is_visitors(id).unwrap();
    assert!(known());
    // Or the kernel side forgets it by itself.
    bench.without("tollgate_rmdir");
    drop(cgroup);
    keeper.classify_by(elsewhere()).unwrap();
    assert!(!known());
}
