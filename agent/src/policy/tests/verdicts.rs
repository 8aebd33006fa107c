use std::sync::Arc;
use std::time::Duration;

use super::super::{Ruling, ServicePolicy};
use super::{command, compile, on, plain, rule, table, word};
use crate::config::{TablePattern, load_policy};
use crate::model::{Action, Command, Effect, ObjectKind, RuleName, Schema};

use Effect::{
    BulkExport, Delete, Lock, Modify, Procedural, Read, SchemaDestroy, Session, Transaction, Unknown, Write,
};

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn verdicts_over_rule_sets() {
    let reads = rule("reads", "allow", "effects = [\"read\", \"transaction\"]");
    let only_orders = rule(
        "orders",
        "allow",
        "effects = [\"read\"]\ntables = [\"orders\", \"sales.*\"]",
    );
    let any_schema = rule("any", "allow", "effects = [\"read\"]\ntables = [\"*.orders\"]");
    let no_salaries = rule(
        "no salaries",
        "deny",
        "effects = [\"read\"]\ntables = [\"hr.salaries\"]",
    );
    let ask_salaries = rule(
        "ask",
        "approve",
        "effects = [\"read\"]\ntables = [\"hr.salaries\"]",
    );
    let drops = rule("drops", "allow", "effects = [\"schema_destroy\"]");
    let keep_audit = rule(
        "keep audit",
        "deny",
        "effects = [\"schema_destroy\"]\ntables = [\"audit.*\"]",
    );
    let functions = rule(
        "functions",
        "allow",
        "effects = [\"procedural\"]\nfunctions = [\"reporting.*\"]",
    );
    let dropped = |kind, name: &str| {
        let schema = Schema::Named(if kind == ObjectKind::Table {
            "audit".into()
        } else {
            Arc::from("")
        });
        on(SchemaDestroy, kind, schema, name)
    };
    let called = |schema: &str, name: &str| {
        on(
            Procedural,
            ObjectKind::Function,
            Schema::Named(schema.into()),
            name,
        )
    };

    let cases: Vec<(&str, Vec<&String>, Vec<Action>, &str)> = vec![
        ("nothing is allowed by nobody", vec![], vec![plain(Read)], "deny"),
        ("an empty query does nothing", vec![], vec![], "allow"),
        (
            "a rule without tables is of any object",
            vec![&reads],
            vec![table(Read, "x.y"), plain(Transaction)],
            "allow",
        ),
        (
            "one uncovered action refuses all",
            vec![&reads],
            vec![table(Read, "a.b"), table(Delete, "a.b")],
            "deny",
        ),
        (
            "the schema is public if left out",
            vec![&only_orders],
            vec![table(Read, "public.orders")],
            "allow",
        ),
        (
            "and no other",
            vec![&only_orders],
            vec![table(Read, "hr.orders")],
            "deny",
        ),
        (
            "a rule with tables is of tables alone",
            vec![&only_orders],
            vec![plain(Lock)],
            "deny",
        ),
        (
            "but what reads nothing that is stored is covered by whatever may be read",
            vec![&only_orders],
            vec![plain(Read)],
            "allow",
        ),
        (
            "of tables, not of functions",
            vec![&only_orders],
            vec![on(
                Read,
                ObjectKind::Function,
                Schema::Named("public".into()),
                "orders",
            )],
            "deny",
        ),
        (
            "a name that is not resolved could be anywhere",
            vec![&only_orders],
            vec![table(Read, "orders")],
            "deny",
        ),
        (
            "any schema covers that",
            vec![&any_schema],
            vec![table(Read, "orders")],
            "allow",
        ),
        (
            "every possible schema is covered",
            vec![&only_orders],
            vec![table(Read, "public|sales.orders")],
            "allow",
        ),
        (
            "one is not",
            vec![&only_orders],
            vec![table(Read, "public|hr.orders")],
            "deny",
        ),
        (
            "deny goes before allow",
            vec![&reads, &no_salaries],
            vec![table(Read, "hr.salaries")],
            "deny",
        ),
        (
            "what is denied may be named without schema",
            vec![&reads, &no_salaries],
            vec![table(Read, "salaries")],
            "deny",
        ),
        (
            "or be one of several",
            vec![&reads, &no_salaries],
            vec![table(Read, "public|hr.salaries")],
            "deny",
        ),
        (
            "not if it cannot be",
            vec![&reads, &no_salaries],
            vec![table(Read, "public|ops.salaries")],
            "allow",
        ),
        (
            "approve goes before allow",
            vec![&reads, &ask_salaries],
            vec![table(Read, "hr.salaries")],
            "hold",
        ),
        (
            "also where it only could concern",
            vec![&reads, &ask_salaries],
            vec![table(Read, "salaries")],
            "hold",
        ),
        (
            "an approve rule alone does not cover what it only could",
            vec![&ask_salaries],
            vec![table(Read, "salaries")],
            "deny",
        ),
        (
            "deny goes before approve",
            vec![&ask_salaries, &no_salaries],
            vec![table(Read, "hr.salaries")],
            "deny",
        ),
        (
            "a held action does not carry an uncovered one",
            vec![&ask_salaries],
            vec![table(Read, "hr.salaries"), plain(Lock)],
            "deny",
        ),
        (
            "a schema takes its tables with it",
            vec![&drops, &keep_audit],
            vec![dropped(ObjectKind::Schema, "audit")],
            "deny",
        ),
        (
            "another schema does not",
            vec![&drops, &keep_audit],
            vec![dropped(ObjectKind::Schema, "scratch")],
            "allow",
        ),
        (
            "a database takes everything",
            vec![&drops, &keep_audit],
            vec![dropped(ObjectKind::Database, "orders")],
            "deny",
        ),
        (
            "functions by name",
            vec![&functions],
            vec![called("reporting", "monthly")],
            "allow",
        ),
        (
            "in their schema",
            vec![&functions],
            vec![called("public", "monthly")],
            "deny",
        ),
        (
            "a function of no known schema",
            vec![&functions],
            vec![on(
                Procedural,
                ObjectKind::Function,
                Schema::Unresolved,
                "monthly",
            )],
            "deny",
        ),
        (
            "a DO block names none",
            vec![&functions],
            vec![plain(Procedural)],
            "deny",
        ),
        (
            "an unknown schema that turned out empty is unknown",
            vec![&only_orders],
            vec![on(Read, ObjectKind::Table, Schema::AnyOf(Arc::new([])), "orders")],
            "deny",
        ),
    ];
    for (what, rules, actions, verdict) in cases {
        let text: String = rules.into_iter().map(String::as_str).collect();
        let ruling = compile(&text).judge(&command(actions));
        assert_eq!(word(&ruling), verdict, "{what}: {ruling:?}");
    }
}

#[test]
fn whoever_may_read_a_table_may_select_what_is_stored_nowhere() {
    let of_tables = r#"effects = ["read"]
tables  = ["public.*"]"#;
    let allowed = compile(&rule("tables", "allow", of_tables));
    assert_eq!(word(&allowed.judge(&command(vec![plain(Effect::Read)]))), "allow");
    assert_eq!(word(&allowed.judge(&command(vec![plain(Effect::Lock)]))), "deny");
    let denied = format!(
        "{}{}",
        rule("all", "allow", r#"effects = ["read"]"#),
        rule("none", "deny", of_tables)
    );
    assert_eq!(
        word(&compile(&denied).judge(&command(vec![plain(Effect::Read)]))),
        "allow"
    );
}

#[test]
fn rules_on_where_ask_for_the_flag() {
    let policy = compile(
        &(rule("changes", "approve", "effects = [\"delete\"]")
            + &rule(
                "no wipes",
                "deny",
                "effects = [\"delete\"]\nwithout_where = true\nhint = \"name the rows\"",
            )),
    );
    let mut wipe = command(vec![table(Delete, "public.orders")]);
    assert_eq!(word(&policy.judge(&wipe)), "hold");
    wipe.without_where = true;
    let Ruling::Deny(denied) = policy.judge(&wipe) else {
        panic!("a wipe was not refused");
    };
    assert_eq!(denied.rules, [RuleName::from("no wipes")]);
    assert_eq!(
        denied.message,
        "tollgate: delete on public.orders is refused by rule \"no wipes\""
    );
    assert_eq!(denied.hint, "name the rows");

    let narrow = compile(&rule(
        "careful",
        "allow",
        "effects = [\"delete\"]\nwithout_where = false",
    ));
    assert_eq!(word(&narrow.judge(&wipe)), "deny");
}

#[test]
fn several_approve_rules_give_the_shortest_wait_and_all_their_approvers() {
    let policy = compile(
        r#"
[[service.rule]]
name = "changes"
effects = ["modify", "delete"]
verdict = "approve"
approvers = ["dba", "lead"]
timeout = "10m"
[[service.rule]]
name = "audit"
effects = ["delete"]
tables = ["audit.*"]
verdict = "approve"
approvers = ["auditor", "dba"]
timeout = "2m"
[[service.rule]]
name = "elsewhere"
effects = ["delete"]
tables = ["other.*"]
verdict = "approve"
approvers = ["nobody"]
timeout = "1s"
"#,
    );
    let Ruling::Hold(terms) = policy.judge(&command(vec![table(Delete, "audit.log"), table(Modify, "a.b")]))
    else {
        panic!("not held");
    };
    assert_eq!(terms.rules, [RuleName::from("changes"), RuleName::from("audit")]);
    assert_eq!(terms.approvers, ["dba", "lead", "auditor"]);
    assert_eq!(terms.timeout, Duration::from_mins(2));
    assert_eq!(terms.approved().rules(), terms.rules);
}

#[test]
fn an_authorization_names_the_rules_that_gave_it() {
    let policy = compile(
        &(rule("reads", "allow", "effects = [\"read\"]")
            + &rule("writes", "allow", "effects = [\"write\"]")
            + &rule("tx", "allow", "effects = [\"transaction\"]")),
    );
    let Ruling::Allow(authorized) = policy.judge(&command(vec![plain(Transaction), table(Read, "a.b")]))
    else {
        panic!("not allowed");
    };
    assert_eq!(
        authorized.rules(),
        [RuleName::from("reads"), RuleName::from("tx")]
    );
}

/// `config` refuses malformed patterns; should one get past it, the rule has to fail closed.
#[test]
fn a_malformed_pattern_allows_nothing_and_denies_everything() {
    let judged = |verdict: &str| {
        let mut doc = super::document(
            &(rule("r", verdict, "effects = [\"read\"]\ntables = [\"a.b\"]")
                + &rule("writes", "allow", "effects = [\"read\"]\ntables = [\"x.y\"]")),
        );
        doc.services[0].rules[0].tables = vec![TablePattern {
            schema: "[".into(),
            table: "*".into(),
        }];
        let policy = ServicePolicy::compile(&doc.services[0]);
        (
            word(&policy.judge(&command(vec![table(Read, "a.b")]))),
            word(&policy.judge(&command(vec![table(Read, "x.y")]))),
        )
    };
    assert_eq!(judged("allow"), ("deny", "allow"));
    assert_eq!(judged("approve"), ("deny", "hold"));
    assert_eq!(judged("deny"), ("deny", "deny"));
}

#[test]
fn the_shipped_policies_judge_as_their_comments_say() {
    let judged = |file: &str, actions: Vec<Action>, without_where| {
        let path = format!("{}/../policies/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        let doc = load_policy(path.as_ref()).unwrap();
        let command = Command {
            without_where,
            ..command(actions)
        };
        word(&ServicePolicy::compile(&doc.services[0]).judge(&command))
    };
    for (file, actions, without_where, verdict) in [
        (
            "ci-report",
            vec![table(Read, "public.orders"), plain(Transaction)],
            false,
            "allow",
        ),
        ("ci-report", vec![table(Delete, "public.orders")], false, "hold"),
        ("ci-report", vec![table(Modify, "public.orders")], true, "deny"),
        ("ci-report", vec![table(Write, "public.orders")], false, "deny"),
        (
            "ci-report",
            vec![table(Effect::SchemaDestroy, "public.orders")],
            false,
            "deny",
        ),
        ("ci-report", vec![plain(Unknown)], false, "deny"),
        (
            "nightly-backup",
            vec![plain(Session), plain(Transaction)],
            false,
            "allow",
        ),
        (
            "nightly-backup",
            vec![table(Read, "pg_catalog.pg_class")],
            false,
            "allow",
        ),
        (
            "nightly-backup",
            vec![table(Lock, "public.orders"), table(Lock, "sales.orders")],
            false,
            "allow",
        ),
        (
            "nightly-backup",
            vec![table(BulkExport, "public.orders"), table(Read, "public.orders")],
            false,
            "allow",
        ),
        (
            "nightly-backup",
            vec![table(BulkExport, "hr.salaries"), table(Read, "hr.salaries")],
            false,
            "deny",
        ),
        (
            "nightly-backup",
            vec![table(Write, "public.orders")],
            false,
            "deny",
        ),
        (
            "nightly-backup",
            vec![table(Effect::BulkLoad, "public.orders")],
            false,
            "deny",
        ),
        ("nightly-backup", vec![plain(Procedural)], false, "deny"),
    ] {
        let shown = format!("{file}: {actions:?}");
        assert_eq!(judged(file, actions, without_where), verdict, "{shown}");
    }
}
