//! Which answer belongs to which command, and what the client saw.

use serde_json::json;

use super::super::*;
use super::tape::*;
use crate::model::{Direction, FrameKind};

#[test]
fn pipelined_answers_go_to_their_commands() {
    let mut tape = Tape::new("postgres");
    let (a, b) = ("SELECT 'a'", "SELECT 'b'");
    tape.client(&[
        extended(a, &[]).concat(),
        extended(b, &[]).concat(),
        extended(a, &[]).concat(),
    ]);
    // A statement is judged when it is prepared and again when it gets its parameters.
    for (number, sql) in [(1, a), (2, a), (3, b), (4, b), (5, a), (6, a)] {
        tape.command(number, sql, "read", None);
    }
    let answer = |value: &[u8]| {
        [
            message(b'1', b""),
            message(b'2', b""),
            message(b't', b"\0\0"),
            columns(&[("v", 25, 0)]),
            row(&[Some(value)]),
            text(b'C', &["SELECT 1"]),
            ready(),
        ]
        .concat()
    };
    tape.server(&[answer(b"a"), answer(b"b"), answer(b"a2")]);
    let answers: Vec<(Option<u64>, Option<String>)> = tape
        .steps()
        .into_iter()
        .filter_map(|step| match step.event {
            Event::Result(result) => Some((result.number, result.rows[0][0].clone())),
            _ => None,
        })
        .collect();
    assert_eq!(
        answers,
        [
            (Some(2), Some("a".into())),
            (Some(4), Some("b".into())),
            (Some(6), Some("a2".into()))
        ]
    );
    assert!(tape.screen(80).contains("to #2:"));
}

#[test]
fn after_a_failure_the_server_skips_to_the_next_sync() {
    let mut tape = Tape::new("postgres");
    let mut pipeline = extended("SELECT 1/0", &[]);
    pipeline.pop();
    pipeline.extend(extended("SELECT 'skipped'", &[]));
    pipeline.extend(extended("SELECT 'after'", &[]));
    tape.client(&pipeline);
    for (number, sql) in [(1, "SELECT 1/0"), (2, "SELECT 'skipped'"), (3, "SELECT 'after'")] {
        tape.command(number, sql, "read", None);
    }
    tape.server(&[
        message(b'1', b""),
        message(b'2', b""),
        columns(&[("v", 23, 0)]),
        error("division by zero", ""),
        ready(),
        columns(&[("v", 25, 0)]),
        row(&[Some(b"after")]),
        text(b'C', &["SELECT 1"]),
        ready(),
    ]);
    let numbers: Vec<_> = tape
        .steps()
        .into_iter()
        .filter_map(|step| match step.event {
            Event::Failure(failure) => Some(("failure", failure.number)),
            Event::Result(result) => Some(("result", result.number)),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [("failure", Some(1)), ("result", Some(3))]);
}

#[test]
fn binary_values_are_read_in_the_format_that_was_bound() {
    let mut tape = Tape::new("postgres");
    tape.client(&extended("SELECT n, h, t FROM t", &[1]));
    tape.server(&[
        columns(&[
            ("n", 20, 0),
            ("h", 17, 0),
            ("t", 25, 0),
            ("b", 16, 0),
            ("j", 3802, 0),
        ]),
        row(&[
            Some(&(-5i64).to_be_bytes()),
            Some(b"\x00\xff"),
            Some("é".as_bytes()),
            Some(&[1]),
            Some(b"\x01{\"a\": 1}"),
        ]),
        row(&[Some(b"odd"), Some(&[7; 200]), None, None, None]),
        text(b'C', &["SELECT 2"]),
        ready(),
    ]);
    let rows = tape
        .steps()
        .into_iter()
        .find_map(|step| match step.event {
            Event::Result(result) => Some(result.rows),
            _ => None,
        })
        .unwrap();
    let shown = |row: usize| {
        rows[row]
            .iter()
            .map(|value| value.as_deref().unwrap_or("NULL"))
            .collect::<Vec<_>>()
    };
    assert_eq!(shown(0), ["-5", "\\x00ff", "é", "t", "{\"a\": 1}"]);
    let long = format!("\\x{}… (200 bytes)", "07".repeat(50));
    assert_eq!(shown(1), ["\\x6f6464", &long, "NULL", "NULL", "NULL"]);
}

#[test]
fn huge_messages_and_pieces_of_any_size_are_read() {
    let huge = vec![b'x'; 3 * 1024 * 1024];
    let stream = [
        columns(&[("v", 25, 0)]),
        row(&[Some(&huge)]),
        row(&[Some(b"small")]),
        text(b'C', &["SELECT 2"]),
        ready(),
    ]
    .concat();
    for size in [1, 7, 65_536] {
        let mut tape = Tape::new("postgres");
        tape.client(&[text(b'Q', &["SELECT v"])]);
        // Small pieces where messages begin and end, large ones inside the value.
        let (head, rest) = stream.split_at(200);
        let (middle, tail) = rest.split_at(rest.len() - 200);
        for piece in head
            .chunks(size)
            .chain(middle.chunks(65_536))
            .chain(tail.chunks(size))
        {
            tape.frame(FrameKind::ServerBytes, Direction::ToClient, piece);
        }
        let result = tape
            .steps()
            .into_iter()
            .find_map(|step| match step.event {
                Event::Result(result) => Some(result),
                _ => None,
            })
            .unwrap();
        let expected = format!("{}… ({} bytes)", "x".repeat(100), huge.len());
        assert_eq!(result.rows, [[Some(expected)], [Some("small".to_owned())]]);
    }
}

#[test]
fn startup_packets_and_answers_to_ssl_requests_are_passed_over() {
    let mut tape = Tape::new("postgres");
    tape.client(&[b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec()]);
    tape.frame(FrameKind::ServerBytes, Direction::ToClient, b"S");
    tape.client(&[b"\0\0\0\x10\0\x03\0\0user\0a\0\0".to_vec()]);
    tape.server(&[message(b'R', &[0; 4]), text(b'S', &["TimeZone", "UTC"]), ready()]);
    tape.client(&[text(b'Q', &["SELECT 1"])]);
    tape.command(1, "SELECT 1", "read", None);
    tape.server(&[
        columns(&[("v", 23, 0)]),
        row(&[Some(b"1")]),
        text(b'C', &["SELECT 1"]),
        ready(),
    ]);
    let steps = tape.steps();
    assert_eq!(steps.len(), 3, "{steps:?}");
    assert!(matches!(&steps[2].event, Event::Result(result) if result.number == Some(1)));
}

#[test]
fn what_is_no_message_is_said_once() {
    let mut tape = Tape::new("postgres");
    tape.client(&[b"Q\xff\xff\xff\xff".to_vec(), b"garbage".to_vec()]);
    tape.client(&[b"more".to_vec()]);
    tape.server(&[b"T\0\0\0\x02".to_vec()]);
    tape.json(FrameKind::Verdict, &json!({"number": "many"}));
    let kinds: Vec<FrameKind> = tape
        .steps()
        .into_iter()
        .filter_map(|step| match step.event {
            Event::Unreadable { kind, .. } => Some(kind),
            _ => None,
        })
        .collect();
    assert_eq!(
        kinds,
        [FrameKind::ClientBytes, FrameKind::ServerBytes, FrameKind::Verdict]
    );
}
