//! A refusal by policy against the server's own refusal at the same place: status, visibility and every later answer.

use super::super::JudgedAt;
use super::fixture::{
    Answers, Direct, Message, Server, Through, bind, execute, extended, parse, query, server, sync,
};
use super::{Batches, TestMasks, by_word};

/// How the refused message is made.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// A simple query.
    Query,
    /// `Parse` fails.
    Parse,
    /// `Bind` fails.
    Bind,
}

/// Prepares a session: an empty table, and in it the open transaction if there is to be one.
fn setting(begin: bool) -> Vec<u8> {
    let begin = if begin { "BEGIN" } else { "SELECT" };
    let texts = [
        "ROLLBACK",
        "DROP TABLE IF EXISTS t",
        "CREATE TEMP TABLE t (n int)",
        begin,
    ];
    texts.into_iter().flat_map(query).collect()
}

/// A pipeline of `length` messages (groups of three, extended) with the refusal at `at`; `refused`: the text of it.
fn pipeline(place: Place, length: usize, at: usize, refused: &str) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let mut ready = 0;
    for position in 0..length {
        let text = format!("INSERT INTO t VALUES ({position})");
        let text = if position == at { refused } else { &text };
        if place == Place::Query {
            bytes.extend(query(text));
            ready += 1;
        } else {
            bytes.extend(extended(text, &[]));
        }
    }
    if place != Place::Query {
        bytes.extend(sync());
        ready += 1;
    }
    (bytes, ready)
}

/// What a client can tell one refusal from another by, apart from its code and texts.
fn shape(messages: &[Message]) -> Vec<Message> {
    messages
        .iter()
        .map(|(tag, body)| (*tag, if *tag == b'E' { Vec::new() } else { body.clone() }))
        .collect()
}

fn later() -> Vec<Vec<u8>> {
    vec![
        query("SELECT count(*) FROM t"),
        query("COMMIT"),
        query("SELECT count(*) FROM t"),
        [extended("INSERT INTO t VALUES (99)", &[]), sync()].concat(),
        query("SELECT n + 0 FROM t ORDER BY n"),
    ]
}

/// Pipelines of 1 to 10 messages, the refusal at each position, in a transaction and out of one.
fn compare(server: &Server, place: Place) {
    // The server's own refusal: of analysis at Parse, of privileges at Bind.
    let own = if place == Place::Parse {
        "SELECT * FROM missing"
    } else {
        "SELECT * FROM closed"
    };
    let ours = "SELECT 1 -- forbidden";
    let masks = TestMasks::default();
    let answers = Answers {
        judge: Box::new(move |command, judged| match (place, judged) {
            (Place::Bind, JudgedAt::Parse) => super::allow(),
            _ => by_word(command),
        }),
        ..Answers::default()
    };
    let mut direct = Direct::open(server, "job");
    let mut through = Through::open(server, "job", &masks, Batches::default(), answers);
    for (length, at) in (1..=10).flat_map(|length| (0..length).map(move |at| (length, at))) {
        for begin in [false, true] {
            let what = format!("{place:?}, {length} messages, refusal at {at}, transaction {begin}");
            direct.exchange(&setting(begin), 4);
            through.exchange(&setting(begin), 4);

            let (bytes, ready) = pipeline(place, length, at, own);
            let expected = direct.exchange(&bytes, ready);
            let (bytes, ready) = pipeline(place, length, at, ours);
            let given = through.exchange(&bytes, ready);
            assert_eq!(shape(&given), shape(&expected), "{what}");

            // The first error is the refusal, in our words.
            let error = given.iter().find(|message| message.0 == b'E').unwrap();
            let text = String::from_utf8_lossy(&error.1).into_owned();
            assert!(
                text.contains("C42501\0Mrefused by rule no\0Hask\0"),
                "{what}: {text}"
            );
            for bytes in later() {
                assert_eq!(
                    through.exchange(&bytes, 1),
                    direct.exchange(&bytes, 1),
                    "{what}, afterwards"
                );
            }
        }
    }
}

fn with_roles() -> Option<Server> {
    let server = server()?;
    let mut admin = Direct::open(&server, "postgres");
    for text in ["CREATE ROLE job LOGIN", "CREATE TABLE closed (n int)"] {
        let given = admin.query(text);
        assert!(given.iter().all(|message| message.0 != b'E'));
    }
    Some(server)
}

#[test]
fn a_refusal_leaves_the_session_as_the_servers_own_does() {
    let Some(server) = with_roles() else { return };
    for place in [Place::Query, Place::Parse, Place::Bind] {
        compare(&server, place);
    }
}

#[test]
fn a_failed_transaction_stays_failed_and_says_so() {
    let Some(server) = with_roles() else { return };
    let masks = TestMasks::default();
    let judge = Box::new(|command: &_, _| by_word(command));
    let answers = Answers {
        judge,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "job", &masks, Batches::default(), answers);
    through.query("BEGIN");
    through.query("SELECT 1 -- forbidden");
    let given = through.query("SELECT 2 -- forbidden");
    assert!(String::from_utf8_lossy(&given[0].1).contains("C25P02"));
    let given = through.exchange(&[parse("", "SELECT 2 -- forbidden"), sync()].concat(), 1);
    assert!(String::from_utf8_lossy(&given[0].1).contains("C25P02"));
    let given = through.query("ROLLBACK");
    assert_eq!(given.last().unwrap().1, b"I");
}

#[test]
fn a_refused_portal_that_was_bound_before_leaves_its_transaction_failed() {
    let Some(server) = with_roles() else { return };
    let masks = TestMasks::default();
    let mut executes = 0;
    let judge = Box::new(move |_: &_, at| {
        executes += u32::from(at == JudgedAt::Execute);
        if executes > 1 {
            crate::policy::Ruling::Deny(super::denied())
        } else {
            super::allow()
        }
    });
    let answers = Answers {
        judge,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "job", &masks, Batches::default(), answers);
    through.query("BEGIN");
    let text = "SELECT generate_series(1, 100)";
    let first = [
        parse("s", text),
        bind("p", "s", &[], &[]),
        execute("p", 2),
        sync(),
    ]
    .concat();
    let tags = |messages: Vec<Message>| messages.iter().map(|message| message.0).collect::<Vec<_>>();
    assert_eq!(tags(through.exchange(&first, 1)), b"12DDsZ");
    let next = [execute("p", 2), sync()].concat();
    assert_eq!(tags(through.exchange(&next, 1)), b"DDsZ");
    let given = through.exchange(&next, 1);
    assert_eq!(given[0].0, b'E');
    assert_eq!(given[1], (b'Z', b"E".to_vec()));
}

#[test]
fn copy_in_by_both_protocols_and_the_syncs_that_drivers_send_too_much() {
    let Some(server) = with_roles() else { return };
    let masks = TestMasks::default();
    let mut direct = Direct::open(&server, "job");
    let mut through = Through::open(&server, "job", &masks, Batches::default(), Answers::default());
    let mut data = Vec::new();
    super::super::super::wire::frame(&mut data, b'd', |out| out.extend_from_slice(b"1\n2\n"));
    let mut done = Vec::new();
    super::super::super::wire::frame(&mut done, b'c', |_| ());
    let mut fail = Vec::new();
    super::super::super::wire::frame(&mut fail, b'f', |out| out.extend_from_slice(b"no\0"));
    let text = "COPY t FROM STDIN";
    let scripts = [
        (query("CREATE TEMP TABLE t (n int)"), 1),
        ([query(text), data.clone(), done.clone()].concat(), 1),
        ([query(text), data.clone(), fail.clone()].concat(), 1),
        // As libpq does: a Sync that the COPY swallows, and one behind the data.
        (
            [extended(text, &[]), sync(), data.clone(), done.clone(), sync()].concat(),
            1,
        ),
        (
            [extended(text, &[]), sync(), data.clone(), fail.clone(), sync()].concat(),
            1,
        ),
        (
            [
                query("SELECT 1"),
                extended(text, &[]),
                data,
                done,
                sync(),
                query("SELECT n + 0 FROM t"),
            ]
            .concat(),
            3,
        ),
    ];
    for (script, ready) in scripts {
        assert_eq!(through.exchange(&script, ready), direct.exchange(&script, ready));
    }
}
