//! What a workload is told of a refusal.

use super::super::Ruling;
use super::{command, compile, on, plain, rule, table, word};
use crate::model::Effect::{Delete, Lock, Privilege, Session};
use crate::model::{Action, Command, ObjectKind, Schema};

#[test]
fn refusals_explain_themselves() {
    let policy = compile(&rule("no sessions", "deny", "effects = [\"session\", \"lock\"]"));
    let denied = |actions: Vec<Action>| match policy.judge(&command(actions)) {
        Ruling::Deny(denied) => denied,
        other => panic!("{other:?}"),
    };
    let one = denied(vec![table(Delete, "public.orders")]);
    assert!(one.rules.is_empty());
    assert_eq!(one.message, "tollgate: no rule allows delete on public.orders");
    assert_eq!(
        one.hint,
        "ask the owner of policy job.toml to add a rule with effects = [\"delete\"] for public.orders"
    );
    let many = denied(vec![plain(Session), table(Lock, "a.b"), plain(Session)]);
    assert_eq!(
        many.message,
        "tollgate: session and 2 other actions are refused by rule \"no sessions\""
    );
    assert_eq!(
        many.hint,
        "ask the owner of policy job.toml to change rule \"no sessions\" if this job has to do it"
    );
    let role = denied(vec![on(
        Privilege,
        ObjectKind::Role,
        Schema::Named("".into()),
        "admin",
    )]);
    assert_eq!(role.message, "tollgate: no rule allows privilege on role admin");

    // Names come from the client: they must neither drive a terminal nor flood it.
    let odd = denied(vec![table(
        Delete,
        &format!("public.\u{1b}[2J{}", "x".repeat(500)),
    )]);
    assert!(!odd.message.contains('\u{1b}'));
    assert!(odd.message.chars().count() < 250, "{}", odd.message);
}

#[test]
fn what_is_not_understood_says_why() {
    let policy = compile(&rule("reads", "allow", "effects = [\"read\"]"));
    let Ruling::Deny(denied) = policy.judge(&Command::unknown("VACUUM (oops", "the statement does not end"))
    else {
        panic!("unknown was not refused");
    };
    assert_eq!(
        denied.message,
        "tollgate: no rule allows a command that is not understood (the statement does not end)"
    );
    assert!(denied.hint.contains("effects = [\"unknown\"]"), "{}", denied.hint);

    // A command that says it is not understood is unknown, whatever else it holds.
    let mut empty = Command::unknown("?", "why");
    empty.actions.clear();
    assert_eq!(word(&policy.judge(&empty)), "deny");
    assert_eq!(
        word(&compile(&rule("all", "allow", "effects = [\"unknown\"]")).judge(&empty)),
        "allow"
    );
}
