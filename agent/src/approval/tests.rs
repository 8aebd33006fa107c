use std::sync::Arc;
use std::time::Duration;

use super::{Approver, DecideError, Decision, HoldEnd, HoldInfo, Holds, Requester};
use crate::model::{Command, HoldId, Parameter, ServiceName, SessionId, WorkloadName};
use crate::policy::HoldTerms;
use crate::protocol::HoldOutcome;

const JOB_UID: u32 = 1001;
const STARTER_UID: u32 = 1002;
const DBA_UID: u32 = 2001;
const LONG: Duration = Duration::from_mins(10);

fn info(timeout: Duration) -> HoldInfo {
    HoldInfo {
        session: SessionId::new(),
        requester: Requester {
            summary: "report-1.service, /usr/bin/psql".into(),
            uid: JOB_UID,
            login_uid: Some(STARTER_UID),
        },
        workload: WorkloadName::from("ci-report"),
        service: ServiceName::from("orders-db"),
        command: Arc::new(Command::unknown("DELETE FROM orders WHERE id = $1", "test")),
        parameters: vec![Parameter {
            shown: Some("42".into()),
        }],
        binding: [7; 32],
        terms: HoldTerms {
            rules: vec!["deletes".into()],
            approvers: vec!["dba".into(), "erin".into()],
            timeout,
        },
        writing_since: None,
    }
}

fn account(uid: u32, user: &str, groups: &[&str]) -> Approver {
    Approver::new(
        uid,
        Some(user.into()),
        groups.iter().map(ToString::to_string).collect(),
    )
}

fn dba() -> Approver {
    account(DBA_UID, "dora", &["staff", "dba"])
}

fn approve() -> Decision {
    Decision::Approve { binding: None }
}

fn deny() -> Decision {
    Decision::Deny {
        reason: "not on a Friday".into(),
    }
}

#[tokio::test]
async fn an_approval_wakes_the_session_with_name_and_binding() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().clone();
    let shown = holds.decide(&id, approve(), &dba()).unwrap();
    assert_eq!(shown.id, id);
    let end = held.wait().await;
    assert_eq!(
        end,
        HoldEnd::Approved {
            by: "dora".into(),
            binding: [7; 32]
        }
    );
    let outcome = end.outcome(&id, &info(LONG).terms);
    assert!(matches!(outcome, HoldOutcome::Approved(authorized, binding)
        if authorized.rules() == ["deletes".into()] && binding == [7; 32]));
    assert!(holds.list().is_empty());
}

#[tokio::test]
async fn a_refusal_carries_who_and_why_to_the_client() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().clone();
    holds.decide(&id, deny(), &dba()).unwrap();
    let HoldOutcome::Refused(denied) = held.wait().await.outcome(&id, &info(LONG).terms) else {
        panic!("a refusal became an approval");
    };
    assert!(
        denied.message.contains("dora") && denied.message.contains("not on a Friday"),
        "{}",
        denied.message
    );
}

#[tokio::test]
async fn a_hold_that_nobody_decides_on_times_out_as_a_refusal() {
    let holds = Holds::new();
    let held = holds.place(info(Duration::from_millis(5)));
    let id = held.id().clone();
    let end = held.wait().await;
    assert_eq!(end, HoldEnd::TimedOut);
    assert!(matches!(
        end.outcome(&id, &info(LONG).terms),
        HoldOutcome::Refused(_)
    ));
    let late = holds.decide(&id, approve(), &dba()).unwrap_err();
    assert!(late.to_string().contains("timed out"), "{late}");
}

#[tokio::test]
async fn dropping_withdraws_and_a_later_decision_is_told_so() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().clone();
    drop(held);
    assert!(holds.list().is_empty());
    let error = holds.decide(&id, approve(), &dba()).unwrap_err();
    assert!(error.to_string().contains("withdrawn"), "{error}");
}

#[tokio::test]
async fn dropping_the_wait_withdraws_too() {
    let holds = Holds::new();
    let mut wait = Box::pin(holds.place(info(LONG)).wait());
    assert!(futures_util::poll!(&mut wait).is_pending());
    assert_eq!(holds.list().len(), 1);
    drop(wait);
    assert!(holds.list().is_empty());
}

#[tokio::test]
async fn only_those_named_decide() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().clone();
    for nobody in [
        account(3001, "mallory", &["staff", "dbas", "DBA"]),
        account(3002, "erin2", &[]),
        Approver::new(3003, None, Vec::new()),
    ] {
        for decision in [approve(), deny()] {
            let error = holds.decide(&id, decision, &nobody).unwrap_err();
            assert!(matches!(error, DecideError::NotAnApprover { .. }), "{nobody:?}");
            assert!(error.to_string().contains("dba, erin"), "{error}");
        }
    }
    assert_eq!(
        holds.list().len(),
        1,
        "a decision that does not count leaves it waiting"
    );
    holds.decide(&id, approve(), &account(3004, "erin", &[])).unwrap();
}

#[tokio::test]
async fn whoever_asks_cannot_answer() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    for uid in [JOB_UID, STARTER_UID] {
        let error = holds
            .decide(held.id(), approve(), &account(uid, "erin", &["dba"]))
            .unwrap_err();
        assert!(matches!(error, DecideError::SelfApproval { .. }), "uid {uid}");
    }
}

#[tokio::test]
async fn root_outside_managed_cgroups_decides_even_for_a_root_job() {
    let holds = Holds::new();
    let mut asked = info(LONG);
    asked.requester.uid = 0;
    let held = holds.place(asked);
    let root = account(0, "root", &["root"]);
    holds.decide(held.id(), approve(), &root).unwrap();
}

#[tokio::test]
async fn an_approval_of_other_bytes_is_void_and_the_command_goes_on_waiting() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().clone();
    let mut seen = [7; 32];
    seen[31] = 8;
    let error = holds
        .decide(&id, Decision::Approve { binding: Some(seen) }, &dba())
        .unwrap_err();
    assert_eq!(error, DecideError::Changed { id: id.clone() });
    holds
        .decide(
            &id,
            Decision::Approve {
                binding: Some([7; 32]),
            },
            &dba(),
        )
        .unwrap();
}

#[tokio::test]
async fn the_second_decision_is_told_of_the_first() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    holds.decide(held.id(), deny(), &dba()).unwrap();
    let error = holds
        .decide(held.id(), approve(), &account(3004, "erin", &[]))
        .unwrap_err();
    assert!(error.to_string().contains("was refused by dora"), "{error}");
    assert!(matches!(held.wait().await, HoldEnd::Denied { .. }));
}

#[tokio::test]
async fn an_unknown_id_is_said_to_be_unknown() {
    let error = Holds::new()
        .decide(&HoldId::from("nosuchid"), approve(), &dba())
        .unwrap_err();
    assert!(matches!(error, DecideError::Gone { became: None, .. }));
}

#[tokio::test]
async fn stopping_takes_every_hold_back() {
    let holds = Holds::new();
    let (one, two) = (holds.place(info(LONG)), holds.place(info(LONG)));
    holds.cancel_all("the agent stops");
    for held in [one, two] {
        assert!(matches!(held.wait().await, HoldEnd::Cancelled { .. }));
    }
}

#[tokio::test]
async fn watchers_wake_when_a_hold_comes_and_when_it_goes() {
    let holds = Holds::new();
    let mut changes = holds.changes();
    let held = holds.place(info(LONG));
    changes.changed().await.unwrap();
    drop(held);
    changes.changed().await.unwrap();
}

#[tokio::test]
async fn a_decision_that_counts_is_always_seen_by_the_session() {
    // The time-out and the decision race; whoever was told "approved" must have been approved.
    let holds = Holds::new();
    for _ in 0..200 {
        let held = holds.place(info(Duration::from_micros(200)));
        let id = held.id().clone();
        let decider = {
            let holds = Arc::clone(&holds);
            std::thread::spawn(move || holds.decide(&id, approve(), &dba()))
        };
        let end = held.wait().await;
        let counted = decider.join().unwrap().is_ok();
        assert_eq!(counted, matches!(end, HoldEnd::Approved { .. }), "{end:?}");
    }
}

#[tokio::test]
async fn ids_are_eight_letters_that_can_be_typed() {
    let holds = Holds::new();
    let held = holds.place(info(LONG));
    let id = held.id().as_str();
    assert_eq!(id.len(), 8);
    assert!(
        id.bytes()
            .all(|letter| letter.is_ascii_lowercase() || (b'2'..=b'7').contains(&letter)),
        "{id}"
    );
}

#[tokio::test]
async fn a_hold_is_shown_to_those_who_may_decide_alone() {
    let holds = Holds::new();
    let _held = holds.place(info(LONG));
    for (approver, sees) in [
        (dba(), 1),
        (account(0, "root", &[]), 1),
        (account(3004, "erin", &[]), 1),
        (account(3001, "mallory", &["staff"]), 0),
    ] {
        assert_eq!(holds.list_for(&approver).len(), sees, "{approver:?}");
    }
}

#[test]
fn accounts_come_from_the_hosts_user_database() {
    let root = Approver::look_up(0).unwrap();
    assert_eq!(root.name(), "root");
    // No host gives this one away.
    let nobody = Approver::look_up(3_999_999_999).unwrap();
    assert_eq!(nobody.name(), "uid 3999999999");
}
