//! Sessions made up for tests, and the messages in them.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;

use super::super::*;
use crate::model::{Direction, FrameKind};
use crate::record::Frame;

/// A session that is being made up.
pub(super) struct Tape {
    frames: Vec<Frame>,
    milliseconds: u64,
}

impl Tape {
    pub(super) fn new(protocol: &str) -> Self {
        let mut tape = Self {
            frames: Vec::new(),
            milliseconds: 0,
        };
        tape.json(
            FrameKind::Open,
            &json!({
                "session": "01980000-0000-7000-8000-000000000001",
                "started": "2026-03-01T02:03:04Z",
                "host": "runner-1",
                "workload": "ci-report",
                "service": "orders-db",
                "protocol": protocol,
                "policy_hash": "abcdef0123456789abcdef",
                "client": "10.0.0.5:41234",
                "original_destination": "10.0.4.7:5432",
                "identity": {
                    "summary": "psql (pid 4711)",
                    "cgroup": "/actions.slice/report-1.service",
                    "process": {"pid": 4711, "exe": "/usr/bin/psql", "cmdline": ["psql", "-c", "x"]},
                },
                "mode": "enforce",
            }),
        );
        tape
    }

    pub(super) fn frame(&mut self, kind: FrameKind, direction: Direction, bytes: &[u8]) {
        self.milliseconds += 7;
        let start: DateTime<Utc> = "2026-03-01T02:03:04Z".parse().unwrap();
        self.frames.push(Frame {
            number: self.frames.len() as u64,
            elapsed: self.milliseconds * 1_000_000,
            time: start + TimeDelta::milliseconds(i64::try_from(self.milliseconds).unwrap()),
            kind,
            direction,
            continued: false,
            bytes: Bytes::copy_from_slice(bytes),
        });
    }

    pub(super) fn json(&mut self, kind: FrameKind, value: &serde_json::Value) {
        self.frame(kind, Direction::ToServer, value.to_string().as_bytes());
    }

    pub(super) fn command(&mut self, number: u64, text: &str, effect: &str, table: Option<&str>) {
        let object = table.map(|name| json!({"kind": "table", "schema": {"Named": "public"}, "name": name}));
        self.json(
            FrameKind::Command,
            &json!({
                "number": number,
                "command": {
                    "text": text,
                    "actions": [{"effect": effect, "object": object}],
                    "without_where": effect == "delete",
                    "unknown": null,
                },
                "parameters": [],
            }),
        );
    }

    pub(super) fn verdict(&mut self, number: u64, verdict: &str, rule: &str) {
        self.json(
            FrameKind::Verdict,
            &json!({"number": number, "verdict": verdict, "rules": [rule]}),
        );
    }

    pub(super) fn client(&mut self, messages: &[Vec<u8>]) {
        self.frame(FrameKind::ClientBytes, Direction::ToServer, &messages.concat());
    }

    pub(super) fn server(&mut self, messages: &[Vec<u8>]) {
        self.frame(FrameKind::ServerBytes, Direction::ToClient, &messages.concat());
    }

    pub(super) fn close(&mut self) {
        self.json(
            FrameKind::Close,
            &json!({"reason": "the client closed the connection", "commands": 2, "allowed": 1, "denied": 1, "rows": 2}),
        );
    }

    pub(super) fn steps(&self) -> Vec<Step> {
        let mut player = Player::new(Limits { rows: 3, value: 100 });
        let mut steps = Vec::new();
        for frame in &self.frames {
            player.push(frame, &mut steps);
        }
        player.finish(&mut steps);
        steps
    }

    pub(super) fn coloured(&self, width: usize) -> String {
        let mut out = Vec::new();
        let mut screen = Screen::new(width);
        for step in self.steps() {
            screen.step(&mut out, &step).unwrap();
        }
        String::from_utf8(out).unwrap()
    }

    /// What a person sees, without colours.
    pub(super) fn screen(&self, width: usize) -> String {
        anstream::adapter::strip_str(&self.coloured(width)).to_string()
    }
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

pub(super) fn text(tag: u8, parts: &[&str]) -> Vec<u8> {
    let body: Vec<u8> = parts
        .iter()
        .flat_map(|part| [part.as_bytes(), &[0]].concat())
        .collect();
    message(tag, &body)
}

pub(super) fn columns(columns: &[(&str, u32, i16)]) -> Vec<u8> {
    let mut body = i16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
    for (name, type_oid, format) in columns {
        body.extend(name.as_bytes());
        body.extend([0; 7]);
        body.extend(type_oid.to_be_bytes());
        body.extend([0; 6]);
        body.extend(format.to_be_bytes());
    }
    message(b'T', &body)
}

pub(super) fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
    let mut body = i16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
    for value in values {
        match value {
            Some(value) => {
                body.extend(i32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend(*value);
            }
            None => body.extend((-1i32).to_be_bytes()),
        }
    }
    message(b'D', &body)
}

pub(super) fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

pub(super) fn error(message_text: &str, hint: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C42501\0M{message_text}\0H{hint}\0\0");
    message(b'E', fields.as_bytes())
}

/// Parse, Bind with result formats, Describe of the portal, Execute, Sync.
pub(super) fn extended(sql: &str, formats: &[i16]) -> Vec<Vec<u8>> {
    let mut bind = b"\0\0\0\0\0\0".to_vec();
    bind.extend(u16::try_from(formats.len()).unwrap().to_be_bytes());
    bind.extend(formats.iter().flat_map(|format| format.to_be_bytes()));
    vec![
        message(b'P', format!("\0{sql}\0\0\0").as_bytes()),
        message(b'B', &bind),
        message(b'D', b"S\0"),
        message(b'E', b"\0\0\0\0\0"),
        message(b'S', b""),
    ]
}
