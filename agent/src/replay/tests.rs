//! Whole sessions, from frames to what a person sees.

mod postgres;
mod tape;

use serde_json::json;

use super::*;
use crate::model::{Direction, FrameKind};
use tape::*;

#[test]
fn a_session_reads_as_a_conversation() {
    let mut tape = Tape::new("postgres");
    let select = "SELECT name, total\n  FROM customers";
    tape.client(&[text(b'Q', &[select])]);
    tape.command(1, select, "read", Some("customers"));
    tape.verdict(1, "allow", "reads");
    tape.server(&[
        columns(&[("name", 25, 0), ("total", 1700, 0)]),
        row(&[Some("Grace".as_bytes()), Some(b"99.00")]),
        row(&[Some("山田".as_bytes()), Some(b"5.00")]),
        row(&[None, Some(b"-1.50")]),
        row(&[Some(b"x"), None]),
        row(&[Some(b"y"), None]),
        text(b'C', &["SELECT 5"]),
        ready(),
    ]);
    tape.json(
        FrameKind::Mask,
        &json!({"number": 1, "column": "public.customers.name", "count": 4}),
    );
    tape.client(&[text(b'Q', &["DELETE FROM orders"])]);
    tape.command(2, "DELETE FROM orders", "delete", Some("orders"));
    tape.verdict(2, "hold", "deletes need a DBA");
    tape.json(
        FrameKind::Approval,
        &json!({"hold": "abcd2345", "number": 2, "state": "requested"}),
    );
    tape.json(
        FrameKind::Approval,
        &json!({"hold": "abcd2345", "number": 2, "state": "denied", "by": "alice", "reason": "not today"}),
    );
    tape.server(&[error("refused by alice", "ask again tomorrow"), ready()]);
    tape.close();
    assert_eq!(
        tape.screen(100),
        "\
Session 01980000-0000-7000-8000-000000000001
       who  ci-report · psql (pid 4711)
            cgroup /actions.slice/report-1.service
            process.cmdline psql -c x
            process.exe /usr/bin/psql
            process.pid 4711
     where  orders-db (postgres) · 10.0.0.5:41234 → 10.0.4.7:5432
      when  2026-03-01 02:03:04.000 UTC on runner-1
    policy  abcdef012345 · enforce

   +0.021s  #1  SELECT name, total
              FROM customers
            read public.customers
            ✓ allowed by “reads”
            name  │ total
            ──────┼──────
            Grace │ 99.00
            山田  │  5.00
            NULL  │ -1.50
            … 2 more rows (--rows)
            SELECT 5
            masked: public.customers.name × 4

   +0.056s  #2  DELETE FROM orders
            delete public.orders · without WHERE
            ‖ held by “deletes need a DBA”: waits for a person
   +0.070s  ‖ hold abcd2345
   +0.077s  ✗ refused abcd2345 by alice: not today
            ERROR 42501: refused by alice
            HINT: ask again tomorrow

   +0.091s  end  the client closed the connection
            2 commands · 1 allowed · 1 refused · 2 rows
"
    );
}

#[test]
fn nothing_that_was_recorded_reaches_the_terminal_as_a_command() {
    let evil = "\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}";
    let mut tape = Tape::new("postgres");
    tape.client(&[text(b'Q', &[&format!("SELECT '{evil}'")])]);
    tape.command(1, &format!("SELECT '{evil}'\r\n--\u{1b}[2J"), "read", Some(evil));
    tape.verdict(1, "allow", evil);
    tape.json(
        FrameKind::Approval,
        &json!({"hold": evil, "number": 1, "state": "denied", "by": evil, "reason": evil}),
    );
    tape.json(FrameKind::Mask, &json!({"number": 1, "column": evil, "count": 1}));
    tape.json(
        FrameKind::Lease,
        &json!({"state": "failed", "source": evil, "reason": evil}),
    );
    tape.json(
        FrameKind::Identity,
        &json!({"number": 1, "state": "revoked", "identity": {"summary": evil}, "reason": evil}),
    );
    tape.json(FrameKind::Error, &json!({"fault": "agent", "message": evil}));
    tape.json(FrameKind::Gap, &json!({"reason": evil}));
    tape.server(&[
        columns(&[(evil, 25, 0)]),
        row(&[Some(evil.as_bytes())]),
        row(&[Some(b"\xff\x1b[3m")]),
        text(b'C', &[evil]),
        message(b'N', format!("S{evil}\0M{evil}\0H{evil}\0\0").as_bytes()),
        message(b'A', format!("\0\0\0\x01{evil}\0{evil}\0").as_bytes()),
        message(b'H', b"\0\0\0"),
        message(b'd', format!("{evil}\n").as_bytes()),
        error(evil, evil),
        ready(),
    ]);
    tape.json(FrameKind::Close, &json!({"reason": evil}));
    let screen = tape.screen(80);
    let hidden: Vec<char> = screen
        .chars()
        .filter(|c| *c != '\n' && clean::is_hidden(*c))
        .collect();
    assert!(hidden.is_empty(), "{hidden:?} in\n{screen}");
    // With its own colours: none but them.
    let coloured = tape.coloured(80);
    for sequence in ["\u{1b}]", "\u{1b}[2J", "\u{1b}[3m", "\u{9b}", "\u{202e}"] {
        assert!(!coloured.contains(sequence), "{sequence:?} in\n{screen}");
    }
    assert!(screen.contains("\\u{1b}]0;owned\\u{7}"));
    for step in tape.steps() {
        let line = json_line(&step).unwrap();
        assert!(!line.chars().any(clean::is_hidden), "{line}");
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }
}

#[test]
fn json_has_one_object_a_step() {
    let mut tape = Tape::new("postgres");
    tape.client(&[text(b'Q', &["SELECT 1;"])]);
    tape.command(1, "SELECT 1;", "read", None);
    tape.verdict(1, "allow", "reads");
    tape.server(&[
        columns(&[("n", 23, 0)]),
        row(&[Some(b"1")]),
        row(&[None]),
        text(b'C', &["SELECT 2"]),
        ready(),
    ]);
    tape.close();
    let lines: Vec<serde_json::Value> = tape
        .steps()
        .iter()
        .map(|step| serde_json::from_str(&json_line(step).unwrap()).unwrap())
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|line| line["step"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["open", "command", "verdict", "result", "close"]);
    assert_eq!(lines[1]["command"]["text"], "SELECT 1;");
    assert_eq!(lines[1]["at_ms"], 21.0);
    assert_eq!(lines[3]["number"], 1);
    assert_eq!(lines[3]["rows"], json!([["1"], [null]]));
    assert_eq!(lines[3]["end"], json!({"complete": "SELECT 2"}));
}

#[test]
fn copies_both_ways_are_shown_with_their_size() {
    let mut tape = Tape::new("postgres");
    tape.client(&[text(b'Q', &["COPY t TO STDOUT"])]);
    let lines: Vec<Vec<u8>> = (0..5)
        .map(|n| message(b'd', format!("{n}\tx\n").as_bytes()))
        .collect();
    tape.server(&[
        message(b'H', b"\0\0\x02\0\0\0\0"),
        lines.concat(),
        message(b'c', b""),
        text(b'C', &["COPY 5"]),
        ready(),
    ]);
    tape.client(&[text(b'Q', &["COPY t FROM STDIN"])]);
    tape.server(&[message(b'G', b"\0\0\x02\0\0\0\0")]);
    tape.client(&[message(b'd', b"1\ty\n2\tz\n"), message(b'c', b"")]);
    tape.server(&[text(b'C', &["COPY 2"]), ready()]);
    let screen = tape.screen(80);
    let expected = "\
            ← 0\\tx
            ← 1\\tx
            ← 2\\tx
            ← 20 bytes of COPY data
            COPY 5
            → 1\\ty
            → 2\\tz
            → 8 bytes of COPY data
            COPY 2
";
    assert!(screen.ends_with(expected), "{screen}");
}

#[test]
fn wide_results_are_cut_to_the_terminal() {
    let mut tape = Tape::new("postgres");
    let names: Vec<String> = (0..30).map(|n| format!("column_{n}")).collect();
    let described: Vec<(&str, u32, i16)> = names.iter().map(|name| (name.as_str(), 25, 0)).collect();
    let long = "長".repeat(30);
    let values: Vec<Option<&[u8]>> = names.iter().map(|_| Some(long.as_bytes())).collect();
    tape.client(&[text(b'Q', &["TABLE wide"])]);
    tape.server(&[
        columns(&described),
        row(&values),
        text(b'C', &["SELECT 1"]),
        ready(),
    ]);
    let screen = tape.screen(80);
    for line in screen.lines() {
        assert!(unicode_width::UnicodeWidthStr::width(line) <= 80, "{line}");
    }
    assert!(screen.contains("more columns (--json has them)"), "{screen}");
    assert!(screen.contains("長…"), "{screen}");
}

#[test]
fn other_protocols_are_shown_as_bytes() {
    let mut tape = Tape::new("opaque");
    tape.frame(FrameKind::ClientBytes, Direction::ToServer, b"EHLO x\r\n");
    tape.frame(FrameKind::ServerBytes, Direction::ToClient, &[0xff; 100]);
    let screen = tape.screen(100);
    assert!(screen.contains("→ 8 bytes  EHLO x\\r\\n"), "{screen}");
    assert!(screen.contains("← 100 bytes  \\xff"), "{screen}");
}

#[test]
fn a_result_that_the_record_cuts_off_is_shown_as_far_as_it_goes() {
    let mut tape = Tape::new("postgres");
    tape.client(&[text(b'Q', &["SELECT v"])]);
    tape.server(&[columns(&[("v", 25, 0)]), row(&[Some(b"first")])]);
    tape.json(
        FrameKind::Close,
        &json!({"reason": crate::record::meta::CloseMeta::KILLED}),
    );
    let screen = tape.screen(80);
    let result = screen.find("first").unwrap();
    assert!(result < screen.find("the agent was killed").unwrap(), "{screen}");
    assert!(
        screen.contains("(the record ends within this result)"),
        "{screen}"
    );
}

mod harmless {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_replayed(pieces in prop::collection::vec((any::<bool>(), any::<Vec<u8>>()), 0..20)) {
            let mut tape = Tape::new("postgres");
            for (client, bytes) in pieces {
                let tag = bytes.first().copied().unwrap_or(b'D');
                let whole = message(tag, &bytes);
                if client {
                    tape.client(&[whole]);
                } else {
                    tape.server(&[whole]);
                }
            }
            let screen = tape.screen(60);
            prop_assert!(!screen.chars().any(|c| c != '\n' && clean::is_hidden(c)));
        }

        #[test]
        fn any_messages_are_replayed(
            messages in prop::collection::vec(
                (prop::sample::select(b"TDCIsEZNAGHdntQPBEDSC".to_vec()), any::<bool>(), any::<Vec<u8>>()),
                0..40,
            )
        ) {
            let mut tape = Tape::new("postgres");
            for (tag, client, body) in messages {
                let whole = message(tag, &body);
                if client { tape.client(&[whole]) } else { tape.server(&[whole]) }
            }
            tape.screen(60);
        }
    }
}
