//! Scripted conversations: the bytes of both sides are given, the machine's outputs are collected.

use std::sync::Arc;

use super::super::super::catalog::Relation;
use super::super::super::wire::frame;
use super::super::{Ask, Event, ProtocolError, Relay, Turn};
use super::fixture::{Message, bind, describe, execute, extended, messages, parse, query, sync};
use super::{Batches, TestMasks, by_word};
use crate::model::Parameter;
use crate::policy::Ruling;
use crate::protocol::HoldOutcome;

/// Both sides of a session, without any socket.
pub(super) struct Script<'m> {
    pub relay: Relay<'m, TestMasks, Batches>,
    pub judge: Box<dyn FnMut(&crate::model::Command) -> Ruling>,
    pub relations: Vec<Arc<Relation>>,
    pub held: Option<([u8; 32], Vec<Parameter>, bool)>,
    pub events: Vec<Event>,
    pub record: Vec<u8>,
    pub stalled: bool,
    from_client: Vec<u8>,
    from_server: Vec<u8>,
    to_server: Vec<u8>,
    to_client: Vec<u8>,
}

impl<'m> Script<'m> {
    pub(super) fn new(masks: &'m TestMasks, batches: Batches) -> Self {
        let mut relay = Relay::new(masks, batches, b"client");
        relay.reported(b"client_encoding", b"UTF8");
        relay.reported(b"standard_conforming_strings", b"on");
        Self {
            relay,
            judge: Box::new(by_word),
            relations: Vec::new(),
            held: None,
            events: Vec::new(),
            record: Vec::new(),
            stalled: false,
            from_client: Vec::new(),
            from_server: Vec::new(),
            to_server: Vec::new(),
            to_client: Vec::new(),
        }
    }

    pub(super) fn run_client(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.from_client.extend_from_slice(bytes);
        let mut turn = Turn::default();
        loop {
            let given = self.relay.client(&self.from_client, &mut turn);
            turn.out
                .parts(&self.from_client)
                .for_each(|part| self.to_server.extend_from_slice(part));
            turn.record
                .parts(&self.from_client)
                .for_each(|part| self.record.extend_from_slice(part));
            given?;
            self.from_client.drain(..turn.consumed);
            self.events.append(&mut turn.events);
            self.stalled = turn.stalled;
            match turn.ask.take() {
                Some(Ask::Judge { command, .. }) => self.relay.ruled((self.judge)(&command)),
                Some(Ask::Hold {
                    binding,
                    parameters,
                    written,
                    ..
                }) => {
                    self.held = Some((binding, parameters, written));
                    return Ok(());
                }
                Some(Ask::Relations { names, .. }) => {
                    let found = self.relations.iter();
                    let found = found.filter(|relation| names.iter().any(|name| name.name == relation.name));
                    let found = found.cloned().collect();
                    self.relay.resolved(found);
                }
                None => return Ok(()),
            }
        }
    }

    pub(super) fn run_server(&mut self, bytes: &[u8]) -> Result<(), ProtocolError> {
        self.from_server.extend_from_slice(bytes);
        let mut turn = Turn::default();
        loop {
            let given = self.relay.server(&self.from_server, &mut turn);
            turn.out
                .parts(&self.from_server)
                .for_each(|part| self.to_client.extend_from_slice(part));
            given?;
            self.from_server.drain(..turn.consumed);
            self.events.append(&mut turn.events);
            match turn.ask.take() {
                Some(Ask::Relations { oids, .. }) => {
                    let found = self.relations.iter();
                    let found = found
                        .filter(|relation| oids.contains(&relation.oid))
                        .cloned()
                        .collect();
                    self.relay.described(found);
                }
                _ => break,
            }
        }
        self.run_client(&[])
    }

    /// Gives bytes of the client; gives what goes to the server.
    pub(super) fn client(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.run_client(bytes).unwrap();
        messages(&std::mem::take(&mut self.to_server))
    }

    /// Gives bytes of the server; gives what goes to the client.
    pub(super) fn server(&mut self, bytes: &[u8]) -> Vec<Message> {
        self.run_server(bytes).unwrap();
        messages(&std::mem::take(&mut self.to_client))
    }

    /// What went to the server since it was last looked at.
    pub(super) fn sent(&mut self) -> Vec<Message> {
        messages(&std::mem::take(&mut self.to_server))
    }

    pub(super) fn end_hold(&mut self, outcome: HoldOutcome) {
        self.held = None;
        self.relay.hold_ended(outcome);
    }

    /// Changes the client's bytes that still wait.
    pub(super) fn tamper(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        change(&mut self.from_client);
    }

    pub(super) fn outputs(&self) -> (&[u8], &[u8], &[u8]) {
        (&self.to_server, &self.to_client, &self.record)
    }
}

/// A message of the server.
pub(super) fn from_server(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame(&mut out, tag, |out| out.extend_from_slice(body));
    out
}

pub(super) fn ready(status: u8) -> Vec<u8> {
    from_server(b'Z', &[status])
}

pub(super) fn complete(tag: &str) -> Vec<u8> {
    from_server(b'C', format!("{tag}\0").as_bytes())
}

pub(super) fn error(code: &str) -> Vec<u8> {
    from_server(b'E', format!("SERROR\0VERROR\0C{code}\0Mno\0\0").as_bytes())
}

fn tags(messages: &[Message]) -> Vec<u8> {
    messages.iter().map(|message| message.0).collect()
}

fn text(message: &Message) -> String {
    String::from_utf8(message.1.clone()).unwrap()
}

static NO_MASKS: TestMasks = TestMasks {
    columns: Vec::new(),
    detect: false,
};

#[test]
fn a_substitute_that_the_server_runs_ends_the_session() {
    let answers = [
        (query("forbidden"), from_server(b'T', &[0, 0])),
        (query("forbidden"), complete("SELECT 1")),
        (query("forbidden"), ready(b'I')),
        (extended("forbidden", &[]), from_server(b'1', &[])),
    ];
    for (sent, answer) in answers {
        let mut script = Script::new(&NO_MASKS, Batches::default());
        script.run_client(&sent).unwrap();
        assert_eq!(script.run_server(&answer), Err(ProtocolError::SubstitutePassed));
        assert!(script.outputs().1.is_empty(), "the client sees none of it");
    }
}

#[test]
fn nothing_of_a_refused_message_or_of_what_is_skipped_behind_it_reaches_the_server() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let pipeline = [
        extended("SELECT 1", &[]),
        parse("x", "forbidden"),
        bind("", "x", &["poison"], &[]),
        execute("", 0),
        query("DELETE FROM poison"),
        sync(),
        query("SELECT 2"),
    ];
    let sent = script.client(&pipeline.concat());
    assert_eq!(tags(&sent), b"PBEPSQ");
    assert!(!format!("{sent:?}").contains(&format!("{:?}", b"poison")));
    assert!(script.record.ends_with(&query("SELECT 2")));
    assert_eq!(
        script.record,
        pipeline.concat(),
        "all of it is recorded as the client sent it"
    );
}

#[test]
fn the_fast_path_is_refused_at_its_place() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let mut call = Vec::new();
    frame(&mut call, b'F', |out| out.extend_from_slice(&[0; 12]));
    let sent = script.client(&[query("SELECT 1"), call, query("SELECT 2")].concat());
    assert_eq!(tags(&sent), b"QQQ");
    let answers = [
        complete("SELECT 1"),
        ready(b'I'),
        error("22P02"),
        ready(b'I'),
        complete("SELECT 2"),
        ready(b'I'),
    ];
    let given = script.server(&answers.concat());
    assert_eq!(tags(&given), b"CZEZCZ");
    assert!(text(&given[2]).contains("C0A000\0"));
}

#[test]
fn texts_of_more_than_a_megabyte_are_refused_and_the_session_goes_on() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let long = format!("SELECT '{}'", "x".repeat(1 << 20));
    let sent = script.client(&[query(&long), parse("", &long), sync(), query("SELECT 1")].concat());
    assert_eq!(tags(&sent), b"QPSQ");
    assert!(sent.iter().all(|message| message.1.len() < 100));
    let answers = [
        error("22P02"),
        ready(b'I'),
        error("22P02"),
        ready(b'I'),
        complete("SELECT 1"),
        ready(b'I'),
    ];
    let given = script.server(&answers.concat());
    assert_eq!(tags(&given), b"EZEZCZ");
    assert!(text(&given[0]).contains("C54000\0") && text(&given[2]).contains("C54000\0"));
}

#[test]
fn what_breaks_the_protocol_ends_the_session_with_a_sentence() {
    let header = |tag: u8, length: i32| [&[tag][..], &length.to_be_bytes()].concat();
    let cases = [
        (header(b'Q', -1), "length of -1"),
        (header(b'Q', 3), "length of 3"),
        (header(b'Q', i32::MIN), "length of"),
        (header(b'Q', i32::MAX), "more than the 1073741822"),
        (header(b'S', 100_000), "more than the 10000"),
        (header(b'p', 8), "type 0x70"),
        (header(b'd', -5), "length of -5"),
        (
            [header(b'X', 4), query("SELECT 1")].concat(),
            "follow the Terminate",
        ),
        ([header(b'Q', 5), b"x".to_vec()].concat(), "malformed Query"),
        ([header(b'Q', 7), b"a\0b".to_vec()].concat(), "malformed Query"),
        (
            [header(b'B', 8), b"\0\0\0\x02".to_vec()].concat(),
            "malformed Bind",
        ),
        ([header(b'D', 6), b"Q\0".to_vec()].concat(), "malformed Describe"),
    ];
    for (bytes, what) in cases {
        let mut script = Script::new(&NO_MASKS, Batches::default());
        let failed = script.run_client(&bytes).unwrap_err();
        assert!(
            failed.is_clients() && failed.to_string().contains(what),
            "{failed}"
        );
        let mut out = Vec::new();
        failed.encode(&mut out);
        let told = text(&messages(&out)[0]);
        assert!(told.starts_with("SFATAL\0VFATAL\0C08P01\0M"), "{told}");
    }
    let unexpected = [
        from_server(b'W', &[0, 0, 0]),
        from_server(b'V', &[0; 4]),
        from_server(b'R', &[0; 4]),
        from_server(b'D', &[0, 0]),
        ready(b'I'),
        complete("SELECT 1"),
        from_server(b'H', &[0, 0, 0]),
        header(b'Z', -1),
    ];
    for bytes in unexpected {
        let mut script = Script::new(&NO_MASKS, Batches::default());
        let failed = script.run_server(&bytes).unwrap_err();
        assert!(!failed.is_clients(), "{failed}");
    }
}

#[test]
fn what_comes_at_any_time_passes_and_the_injected_user_is_not_shown() {
    let mut script = Script::new(&NO_MASKS, Batches::default());
    let notice = from_server(b'N', b"SNOTICE\0Mhello\0\0");
    let notification = from_server(b'A', b"\0\0\0\x01ch\0payload\0");
    let user = from_server(b'S', b"session_authorization\0injected\0");
    let given = script.server(&[notice.clone(), notification.clone(), user.clone()].concat());
    assert_eq!(tags(&given), b"NAS");
    assert_eq!(text(&given[2]), "session_authorization\0client\0");
    script.client(&query("SELECT 1"));
    let row = from_server(b'D', &[0, 0]);
    let answers = [
        from_server(b'T', &[0, 0]),
        notice,
        row.clone(),
        user,
        row,
        notification,
        complete("SELECT 2"),
        ready(b'I'),
    ];
    assert_eq!(tags(&script.server(&answers.concat())), b"TNDSDACZ");
    assert_eq!(script.relay.rows(), 2);
}

#[test]
fn a_description_that_the_client_did_not_ask_for_is_kept_from_it() {
    let masks = TestMasks {
        columns: vec![("t", "c")],
        detect: false,
    };
    let mut script = Script::new(&masks, Batches::default());
    let sent = script.client(&[extended("SELECT 1", &[]), execute("", 0), sync()].concat());
    assert_eq!(tags(&sent), b"PBDEES", "asked once for the two runs");
    let answers = [
        from_server(b'1', &[]),
        from_server(b'2', &[]),
        from_server(b'T', b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\0\0\0\0\0\0\0\0"),
        from_server(b'D', b"\0\x01\0\0\0\x01a"),
        complete("SELECT 1"),
        complete("SELECT 0"),
        ready(b'I'),
    ];
    assert_eq!(tags(&script.server(&answers.concat())), b"12DCCZ");
    // A second time in another cycle: its shape is known.
    let sent = script.client(&[bind("", "", &[], &[]), describe(b'P', ""), execute("", 0), sync()].concat());
    assert_eq!(tags(&sent), b"BDES");
}
