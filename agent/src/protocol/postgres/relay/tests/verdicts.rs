//! Verdicts and holds: nothing runs unjudged, whatever a name stands for, and an approval is of exact bytes.

use std::sync::Arc;
use std::sync::Mutex;

use super::fixture::{Message, bind, execute, extended, parse, query, sync};
use super::script::{Script, complete, error, from_server, ready};
use super::{Batches, TestMasks, allow, batch, by_word, denied, reading, statement, terms, unresolved};
use crate::model::{Action, Effect, Object, ObjectKind, Schema};
use crate::policy::Ruling;
use crate::protocol::HoldOutcome;
use crate::protocol::postgres::catalog::Relation;
use crate::protocol::sql::{SessionChange, Statement};

use super::super::Event;

static NO_MASKS: TestMasks = TestMasks {
    columns: Vec::new(),
    detect: false,
};

fn tags(messages: &[Message]) -> Vec<u8> {
    messages.iter().map(|message| message.0).collect()
}

fn holding(masks: &TestMasks) -> Script<'_> {
    let mut script = Script::new(masks, Batches::default());
    script.judge = Box::new(|command| {
        if command.text.contains("hold") {
            Ruling::Hold(terms())
        } else {
            by_word(command)
        }
    });
    script
}

fn approved(binding: [u8; 32]) -> HoldOutcome {
    HoldOutcome::Approved(terms().approved(), binding)
}

#[test]
fn a_held_query_waits_and_the_client_is_told() {
    let mut script = holding(&NO_MASKS);
    let sent = script.client(&[query("SELECT 1"), query("hold"), query("SELECT 2")].concat());
    assert_eq!(tags(&sent), b"Q", "what is behind waits as well");
    let (binding, ..) = script.held.clone().unwrap();
    // In the middle of a message of the server, the notice waits.
    let row = from_server(b'D', b"\0\x01\0\0\0\x03abc");
    let start = [from_server(b'T', &[0, 0]), row[..6].to_vec()].concat();
    script.run_server(&start).unwrap();
    script.relay.notice("held for approval 7 by dba", "");
    let rest = [row[6..].to_vec(), complete("SELECT 1"), ready(b'I')].concat();
    assert_eq!(tags(&script.server(&rest)), b"TDNCZ");
    script.relay.notice("still held", "wait");
    assert_eq!(
        tags(&script.server(&[])),
        b"N",
        "between messages it goes at once"
    );
    script.end_hold(approved(binding));
    assert_eq!(tags(&script.client(&[])), b"QQ");
}

#[test]
fn a_hold_that_is_refused_is_a_refusal_in_place() {
    let mut script = holding(&NO_MASKS);
    script.client(&query("hold"));
    script.end_hold(HoldOutcome::Refused(denied()));
    let sent = script.client(&[]);
    assert!(sent[0].1.starts_with(b"SELECT 'refused by policy'"));
    let given = script.server(&[error("22P02"), ready(b'I')].concat());
    assert!(String::from_utf8_lossy(&given[0].1).contains("C42501\0Mrefused by rule no"));
}

#[test]
fn an_approval_is_void_for_any_other_byte() {
    // A Parse that would be held passes: it runs nothing. Its Bind is held, with what it will run with.
    for change in [None, Some(3), Some(0), Some(1)] {
        let mut script = holding(&NO_MASKS);
        let sent = script.client(&extended("hold $1", &["4711"]));
        assert_eq!(tags(&sent), b"P");
        let (binding, parameters, _) = script.held.clone().unwrap();
        assert_eq!(parameters[0].shown.as_deref(), Some("4711"));
        script.tamper(|bytes| {
            if let Some(back) = change {
                let at = memchr::memmem::find(bytes, b"4711").unwrap() + back;
                bytes[at] ^= 1;
            }
        });
        script.end_hold(approved(binding));
        let sent = script.client(&sync());
        match change {
            None => assert_eq!(tags(&sent), b"BES"),
            Some(_) => assert_eq!(tags(&sent), b"PS", "the Bind is refused and the Execute skipped"),
        }
    }
    // An approval of one command is none of another.
    let mut script = holding(&NO_MASKS);
    script.client(&query("hold 1"));
    let (binding, ..) = script.held.clone().unwrap();
    script.end_hold(approved(binding));
    script.client(&query("hold 2"));
    script.end_hold(approved(binding));
    assert!(script.client(&[])[0].1.starts_with(b"SELECT 'refused"));
}

#[test]
fn an_approver_is_told_that_the_transaction_has_written() {
    let mut script = holding(&NO_MASKS);
    let insert = "INSERT INTO t VALUES (1)";
    script = {
        let batches = Batches::default().with(insert, batch(insert, &[Effect::Write], vec![statement()]));
        let mut new = Script::new(&NO_MASKS, batches);
        std::mem::swap(&mut new.judge, &mut script.judge);
        new
    };
    script.client(&query("BEGIN"));
    script.server(&[complete("BEGIN"), ready(b'T')].concat());
    script.client(&query("hold"));
    assert!(!script.held.as_ref().unwrap().2);
    script.end_hold(HoldOutcome::Refused(denied()));
    script.client(&[]);
    script.server(&[error("25P02"), ready(b'E')].concat());
    // On its way is as good as written.
    script.client(&[query(insert), query("hold")].concat());
    assert!(script.held.as_ref().unwrap().2);
    script.server(&[complete("INSERT 0 1"), ready(b'I')].concat());
    assert!(!script.relay.has_written(), "committed by itself");
}

/// What was judged, in order.
fn judged(script: &mut Script<'_>) -> Arc<Mutex<Vec<String>>> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&all);
    script.judge = Box::new(move |command| {
        log.lock().unwrap().push(
            command
                .unknown
                .clone()
                .unwrap_or_else(|| command.text.to_string()),
        );
        allow()
    });
    all
}

#[test]
fn a_name_stands_for_what_the_server_will_take_it_for() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let all = judged(&mut script);
    script.client(&[parse("s", "first"), sync()].concat());
    script.server(&[from_server(b'1', &[]), ready(b'I')].concat());
    // The second definition fails for being one; the server runs the first. So the use behind the Sync waits.
    let pipeline = [
        parse("s", "second"),
        sync(),
        bind("", "s", &[], &[]),
        execute("", 0),
        sync(),
    ]
    .concat();
    let sent = script.client(&pipeline);
    assert_eq!(tags(&sent), b"PSH", "a Flush, so that the server answers");
    assert!(script.stalled);
    script.server(&[error("42P05"), ready(b'I')].concat());
    assert_eq!(tags(&script.sent()), b"BES");
    assert_eq!(*all.lock().unwrap(), ["first", "second", "first"]);
    // In one stretch the use is skipped if the definition fails.
    let sent = script.client(&[parse("t", "third"), bind("", "t", &[], &[]), sync()].concat());
    assert_eq!(tags(&sent), b"PBS");
    assert_eq!(all.lock().unwrap().last().unwrap(), "third");
    // What this session has not prepared is unknown.
    script.server(
        &[
            from_server(b'2', &[]),
            complete("SELECT 1"),
            ready(b'I'),
            error("42601"),
            ready(b'I'),
        ]
        .concat(),
    );
    script.client(&[bind("", "t", &[], &[]), execute("elsewhere", 0), sync()].concat());
    let all = all.lock().unwrap();
    assert!(
        all[all.len() - 2].starts_with("Bind of a prepared statement that this session has not"),
        "{all:?}"
    );
    assert!(
        all[all.len() - 1].starts_with("Execute of a portal that this session has not bound"),
        "{all:?}"
    );
}

#[test]
fn execute_is_judged_as_what_it_runs() {
    let name: Arc<str> = "c".into();
    let session = |session| Statement {
        session,
        ..statement()
    };
    let inner = Arc::new(batch("DELETE FROM t", &[Effect::Delete], vec![statement()]));
    let prepare = SessionChange::Prepare {
        name: Arc::clone(&name),
        statement: inner,
    };
    let run = SessionChange::Execute { name };
    let batches = Batches::default()
        .with(
            "PREPARE c",
            batch(
                "PREPARE c",
                &[Effect::Session, Effect::Delete],
                vec![session(prepare)],
            ),
        )
        .with(
            "EXECUTE c",
            batch("EXECUTE c", &[Effect::Session], vec![session(run)]),
        );
    let mut script = Script::new(&NO_MASKS, batches);
    let effects = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&effects);
    script.judge = Box::new(move |command| {
        log.lock()
            .unwrap()
            .push(command.effects().iter().collect::<Vec<_>>());
        allow()
    });
    let last = || effects.lock().unwrap().pop().unwrap();
    script.client(&query("EXECUTE c"));
    assert_eq!(last(), [Effect::Session, Effect::Unknown], "nobody prepared it");
    script.server(&[error("26000"), ready(b'I')].concat());
    // Prepared in a query that is on its way: whether it will be, its answer decides.
    let sent = script.client(&[query("PREPARE c"), query("EXECUTE c")].concat());
    assert_eq!(tags(&sent), b"QH");
    script.server(&[complete("PREPARE"), ready(b'I')].concat());
    assert_eq!(last(), [Effect::Delete, Effect::Session]);
    assert_eq!(tags(&script.sent()), b"Q");
    script.server(&[complete("DELETE 1"), ready(b'I')].concat());
    // Prepared as a statement of its own, and the name then taken by another: judged as unknown.
    script.client(&[parse("p", "EXECUTE c"), sync()].concat());
    script.server(&[from_server(b'1', &[]), ready(b'I')].concat());
    script.client(&query("PREPARE c"));
    script.server(&[complete("PREPARE"), ready(b'I')].concat());
    script.client(&[bind("", "p", &[], &[]), sync()].concat());
    assert_eq!(last(), [Effect::Unknown]);
}

#[test]
fn texts_that_can_be_read_in_two_ways_wait_or_are_unknown() {
    let set = "SET standard_conforming_strings = off";
    let setting = Object {
        kind: ObjectKind::Setting,
        schema: Schema::Named("".into()),
        name: "standard_conforming_strings".into(),
    };
    let mut switching = batch(set, &[], vec![statement()]);
    switching.command.actions.push(Action {
        effect: Effect::Session,
        object: Some(setting),
    });
    let batches = Batches::default().with(set, switching);
    let trick = r"SELECT 'a\'; DELETE FROM t --'";
    let mut script = Script::new(&NO_MASKS, batches.clone());
    let all = judged(&mut script);
    let passed = script.client(&[query(set), query(trick)].concat());
    assert_eq!(tags(&passed), b"QH");
    assert_eq!(all.lock().unwrap().len(), 1);
    let off = from_server(b'S', b"standard_conforming_strings\0off\0");
    script.server(&[complete("SET"), off, ready(b'I')].concat());
    assert_eq!(tags(&script.sent()), b"Q");
    // In one stretch no answer will tell before the text has to be judged.
    let mut script = Script::new(&NO_MASKS, batches);
    let all = judged(&mut script);
    script.client(
        &[
            extended(set, &[]),
            parse("", "SELECT 1"),
            parse("", trick),
            sync(),
        ]
        .concat(),
    );
    let all = all.lock().unwrap();
    assert_eq!(all[2], "SELECT 1", "a text that both ways read alike is judged");
    assert!(
        all[3].starts_with("a statement just before it may change"),
        "{all:?}"
    );
}

#[test]
fn what_is_not_utf8_is_unknown() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let all = judged(&mut script);
    let mut bytes = query("SELECT 'x', PASSWORD 'hunter2'");
    let at = memchr::memchr(b'x', &bytes).unwrap();
    bytes[at] = 0xe9;
    script.client(&bytes);
    assert_eq!(all.lock().unwrap()[0], "it is not valid UTF-8");
    assert!(
        memchr::memmem::find(&script.record, b"hunter2").is_none(),
        "nor is its password recorded"
    );
    script.server(
        &[
            complete("SELECT 1"),
            from_server(b'S', b"client_encoding\0SJIS\0"),
            ready(b'I'),
        ]
        .concat(),
    );
    script.client(&query("SELECT 'é'"));
    assert_eq!(all.lock().unwrap()[1], "its encoding is not UTF-8");
}

#[test]
fn secrets_reach_the_server_and_not_the_record() {
    let text = "ALTER ROLE job PASSWORD 'hunter2'";
    let mut altering = batch(text, &[Effect::Privilege], vec![statement()]);
    altering.secrets.push(24..text.len());
    for bytes in [query(text), parse("", text)] {
        for word in ["nothing", "ALTER"] {
            let batches = Batches::default().with(text, altering.clone());
            let mut script = Script::new(&NO_MASKS, batches);
            script.judge = Box::new(move |command| {
                if command.text.contains(word) {
                    Ruling::Deny(denied())
                } else {
                    allow()
                }
            });
            let sent = script.client(&bytes);
            assert_eq!(
                memchr::memmem::find(&sent[0].1, b"hunter2").is_some(),
                word == "nothing"
            );
            let record = super::fixture::messages(&script.record);
            let recorded = String::from_utf8_lossy(&record[0].1).into_owned();
            assert!(recorded.contains("ALTER ROLE job PASSWORD '***'\0"), "{recorded}");
        }
    }
}

#[test]
fn names_are_found_in_every_schema_and_copies_of_masked_columns_are_declassification() {
    let masks = TestMasks {
        columns: vec![("customers", "email")],
        detect: false,
    };
    let relation = |oid, schema: &str, name: &str, columns: &[&str]| {
        Arc::new(Relation {
            oid,
            schema: schema.into(),
            name: name.into(),
            columns: (1..).zip(columns.iter().map(|column| (*column).into())).collect(),
            ..Relation::default()
        })
    };
    let sink = |outputs: &[&[&str]]| Statement {
        sink: true,
        ..reading("customers", outputs)
    };
    let cases = [
        (
            "INSERT INTO t SELECT email FROM customers",
            sink(&[&["email"]]),
            true,
        ),
        (
            "INSERT INTO t SELECT name FROM customers",
            sink(&[&["name"]]),
            false,
        ),
        (
            "INSERT INTO t SELECT * FROM customers",
            Statement {
                columns_used: None,
                fields: Some(Vec::new()),
                ..sink(&[])
            },
            true,
        ),
        (
            "INSERT INTO t SELECT f()",
            Statement {
                opaque: true,
                sink: true,
                ..statement()
            },
            true,
        ),
        (
            "SELECT email FROM customers",
            reading("customers", &[&["email"]]),
            false,
        ),
    ];
    for (text, statement, declassifies) in cases {
        let mut batch = batch(text, &[], vec![statement]);
        batch.command.actions.push(unresolved("customers", Effect::Read));
        batch.command.actions.push(unresolved("nowhere", Effect::Read));
        let mut script = Script::new(&masks, Batches::default().with(text, batch));
        script.relations = vec![
            relation(1, "public", "customers", &["name", "email"]),
            relation(2, "crm", "customers", &["name"]),
        ];
        let commands = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&commands);
        script.judge = Box::new(move |command| {
            log.lock().unwrap().push(command.clone());
            allow()
        });
        script.client(&query(text));
        let command = commands.lock().unwrap().pop().unwrap();
        assert_eq!(
            command.effects().contains(Effect::Declassify),
            declassifies,
            "{text}"
        );
        let schemas: Vec<_> = command
            .actions
            .iter()
            .filter_map(|action| action.object.as_ref())
            .map(|object| &object.schema)
            .collect();
        assert_eq!(
            schemas,
            [
                &Schema::AnyOf(["crm".into(), "public".into()].into()),
                &Schema::Unresolved
            ]
        );
    }
}

#[test]
fn each_end_of_a_statement_is_told() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    script.client(&[query("a; b"), query("forbidden")].concat());
    script.server(
        &[
            complete("INSERT 0 1"),
            complete("SELECT 5"),
            ready(b'T'),
            error("22P02"),
            ready(b'E'),
        ]
        .concat(),
    );
    let told: Vec<_> = script
        .events
        .iter()
        .map(|event| match event {
            Event::Refused { code, .. } => format!("refused {code}"),
            Event::Completed { tag, .. } => tag.clone(),
            Event::Failed { code } => format!("failed {code}"),
            Event::Ready(status) => format!("{status:?}"),
            Event::Masked { .. } | Event::Terminated => String::new(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "refused 42501",
            "INSERT 0 1",
            "SELECT 5",
            "Open",
            "failed 22P02",
            "Failed"
        ]
    );
}
