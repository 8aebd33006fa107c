use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::{At, Exchange, Exchanges, har, show};
use crate::model::Direction::{self, ToClient, ToServer};
use crate::protocol::http::record::{Part, mark};

/// A session that is being made up: a part every 10 ms.
struct Tape {
    exchanges: Exchanges,
    done: Vec<Exchange>,
    at: u64,
}

impl Tape {
    fn new(keep: usize) -> Self {
        Self {
            exchanges: Exchanges::new(keep),
            done: Vec::new(),
            at: 0,
        }
    }

    fn part(
        &mut self,
        direction: Direction,
        number: u64,
        (part, last): (Part, bool),
        bytes: &str,
    ) -> &mut Self {
        self.at += 10;
        let start: DateTime<Utc> = "2026-03-01T02:03:04Z".parse().unwrap();
        let at = At {
            elapsed: Duration::from_millis(self.at),
            time: start + TimeDelta::milliseconds(i64::try_from(self.at).unwrap()),
        };
        let payload = [&mark(number, part, last)[..], bytes.as_bytes()].concat();
        // As the recorder cuts what is long.
        let (first, rest) = payload.split_at(payload.len().min(20));
        if rest.is_empty() {
            self.exchanges
                .push(at, direction, (first, false), &mut self.done)
                .unwrap();
        } else {
            self.exchanges
                .push(at, direction, (first, true), &mut self.done)
                .unwrap();
            self.exchanges
                .push(at, direction, (rest, false), &mut self.done)
                .unwrap();
        }
        self
    }
}

/// Two exchanges side by side, and one that is broken off.
fn session() -> Tape {
    let mut tape = Tape::new(1024);
    tape.part(
        ToServer,
        1,
        (Part::Head, false),
        "POST https://api.acme.test/v1/users?team=a%20b HTTP/2\r\ncontent-type: application/json\r\ncookie: id=…\r\n\r\n",
    )
    .part(ToServer, 2, (Part::Head, true), "GET https://api.acme.test/logo HTTP/2\r\naccept: */*\r\n\r\n")
    .part(ToServer, 1, (Part::Body, true), r#"{"name":"Ada"}"#)
    .part(ToClient, 1, (Part::Head, false), "HTTP/2 100 Continue\r\n\r\n")
    .part(ToClient, 2, (Part::Head, false), "HTTP/2 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    .part(ToClient, 1, (Part::Head, false), "HTTP/2 201 Created\r\ncontent-type: application/json\r\nlocation: /v1/users/7\r\n\r\n")
    .part(ToClient, 2, (Part::Body, false), "lo")
    .part(ToClient, 1, (Part::Body, true), r#"{"id":7}"#)
    .part(ToClient, 2, (Part::Body, true), "go")
    .part(ToServer, 3, (Part::Head, true), "DELETE https://api.acme.test/v1/users/7 HTTP/2\r\n\r\n");
    tape
}

#[test]
fn exchanges_that_are_side_by_side_are_taken_apart() {
    let mut tape = session();
    let numbers: Vec<u64> = tape.done.iter().map(|exchange| exchange.number).collect();
    assert_eq!(numbers, [1, 2]);
    let first = &tape.done[0];
    assert_eq!(
        first.asked(),
        ("POST", "https://api.acme.test/v1/users?team=a%20b", "HTTP/2")
    );
    assert_eq!(first.answered(), ("HTTP/2", 201, "Created"));
    assert_eq!(first.request.body.kept, br#"{"name":"Ada"}"#);
    assert_eq!(tape.done[1].response.body.kept, b"logo");
    let left = tape.exchanges.finish();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].answered().1, 0);
}

#[test]
fn an_exchange_is_shown_with_its_fields_and_its_json_laid_out() {
    let tape = session();
    let mut out = Vec::new();
    show(&mut out, "+0.010s", &tape.done[0]).unwrap();
    let shown = anstream::adapter::strip_bytes(&out).into_vec();
    assert_eq!(
        String::from_utf8(shown).unwrap(),
        "   +0.010s  exchange 1  POST https://api.acme.test/v1/users?team=a%20b  201 Created  HTTP/2 in 70.0 ms
            > content-type: application/json
            > cookie: id=…
            {
              \"name\": \"Ada\"
            }
            < content-type: application/json
            < location: /v1/users/7
            {
              \"id\": 7
            }
"
    );
}

#[test]
fn what_a_workload_sent_cannot_drive_the_terminal() {
    let mut tape = Tape::new(1024);
    tape.part(
        ToServer,
        1,
        (Part::Head, true),
        "GET https://a.test/\u{1b}[2J HTTP/1.1\r\nx: \u{9b}31m\r\n\r\n",
    )
    .part(
        ToClient,
        1,
        (Part::Head, false),
        "HTTP/1.1 200 \u{1b}]0;x\u{7}\r\n\r\n",
    )
    .part(ToClient, 1, (Part::Body, true), "\u{1b}[2J");
    let mut out = Vec::new();
    show(&mut out, "+0.010s", &tape.done[0]).unwrap();
    let shown = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();
    assert!(
        !shown.contains('\u{1b}') && !shown.contains('\u{9b}'),
        "{shown:?}"
    );
    assert!(shown.contains("\\u{1b}[2J"), "{shown}");
}

#[test]
fn the_messages_of_a_websocket_are_kept_both_ways() {
    let mut tape = Tape::new(1024);
    tape.part(
        ToServer,
        1,
        (Part::Head, true),
        "GET https://a.test/ws HTTP/1.1\r\nupgrade: websocket\r\n\r\n",
    )
    .part(
        ToClient,
        1,
        (Part::Head, false),
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    )
    .part(ToServer, 1, (Part::Text, false), "hello")
    .part(ToClient, 1, (Part::Binary, false), "\u{1}\u{2}");
    let left = tape.exchanges.finish();
    let archive = har::archive(&left, "");
    let messages = &archive["log"]["entries"][0]["_webSocketMessages"];
    assert_eq!(messages[0]["type"], "send");
    assert_eq!(messages[0]["data"], "hello");
    assert_eq!(
        (&messages[1]["opcode"], &messages[1]["data"]),
        (&2.into(), &"AQI=".into())
    );
}

/// Every object has the members that HAR 1.2 asks for, of their types.
fn has(object: &Value, members: &[(&str, fn(&Value) -> bool)]) {
    for (name, is) in members {
        let member = object.get(name);
        assert!(member.is_some_and(is), "{name} of {object}");
    }
}

#[test]
fn an_archive_has_what_har_asks_for() {
    let mut tape = session();
    let mut all = std::mem::take(&mut tape.done);
    all.extend(tape.exchanges.finish());
    let archive = har::archive(&all, "a session");
    let log = &archive["log"];
    has(
        log,
        &[
            ("version", Value::is_string),
            ("creator", Value::is_object),
            ("entries", Value::is_array),
        ],
    );
    has(
        &log["creator"],
        &[("name", Value::is_string), ("version", Value::is_string)],
    );
    let entries = log["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 3);
    for entry in entries {
        has(
            entry,
            &[
                ("startedDateTime", Value::is_string),
                ("time", Value::is_number),
                ("request", Value::is_object),
                ("response", Value::is_object),
                ("cache", Value::is_object),
                ("timings", Value::is_object),
            ],
        );
        let started = entry["startedDateTime"].as_str().unwrap();
        assert!(DateTime::parse_from_rfc3339(started).is_ok(), "{started}");
        has(
            &entry["request"],
            &[
                ("method", Value::is_string),
                ("url", Value::is_string),
                ("httpVersion", Value::is_string),
                ("cookies", Value::is_array),
                ("headers", Value::is_array),
                ("queryString", Value::is_array),
                ("headersSize", Value::is_i64),
                ("bodySize", Value::is_number),
            ],
        );
        has(
            &entry["response"],
            &[
                ("status", Value::is_number),
                ("statusText", Value::is_string),
                ("httpVersion", Value::is_string),
                ("cookies", Value::is_array),
                ("headers", Value::is_array),
                ("content", Value::is_object),
                ("redirectURL", Value::is_string),
                ("headersSize", Value::is_i64),
                ("bodySize", Value::is_number),
            ],
        );
        has(
            &entry["response"]["content"],
            &[("size", Value::is_number), ("mimeType", Value::is_string)],
        );
        let timings = &entry["timings"];
        has(
            timings,
            &[
                ("send", Value::is_number),
                ("wait", Value::is_number),
                ("receive", Value::is_number),
            ],
        );
        let sum: f64 = ["send", "wait", "receive"]
            .iter()
            .map(|part| timings[part].as_f64().unwrap())
            .sum();
        assert!((sum - entry["time"].as_f64().unwrap()).abs() < 0.01, "{entry}");
    }
    let first = &entries[0];
    assert_eq!(first["request"]["queryString"][0]["value"], "a b");
    assert_eq!(first["request"]["postData"]["text"], r#"{"name":"Ada"}"#);
    assert_eq!(first["response"]["redirectURL"], "/v1/users/7");
    assert_eq!(first["response"]["content"]["text"], r#"{"id":7}"#);
    assert_eq!(entries[2]["comment"], "it was broken off");
}

#[test]
fn a_body_that_is_no_text_is_base64_and_a_long_one_is_cut_where_it_is_shown() {
    let mut tape = Tape::new(4);
    tape.part(
        ToServer,
        1,
        (Part::Head, true),
        "GET https://a.test/ HTTP/1.1\r\n\r\n",
    )
    .part(ToClient, 1, (Part::Head, false), "HTTP/1.1 200 OK\r\n\r\n")
    .part(ToClient, 1, (Part::Body, true), "abcdefgh");
    let body = &tape.done[0].response.body;
    assert_eq!(
        (body.bytes, body.kept.as_slice(), body.is_whole()),
        (8, &b"abcd"[..], false)
    );
    let mut whole = tape.done.remove(0);
    whole.response.body.kept = vec![0xff, 0xfe];
    let archive = har::archive(&[whole], "");
    let content = &archive["log"]["entries"][0]["response"]["content"];
    assert_eq!(
        (&content["encoding"], &content["text"]),
        (&"base64".into(), &"//4=".into())
    );
}
