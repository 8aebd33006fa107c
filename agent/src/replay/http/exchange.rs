//! One request and its answer.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::At;
use crate::model::Direction;
use crate::replay::clean;

/// One request and its answer, as far as they are on record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Exchange {
    /// Its number in the session, from 1.
    pub number: u64,
    /// Milliseconds from the session's begin to its own.
    #[serde(rename = "begun_ms", serialize_with = "super::super::step::milliseconds")]
    pub begun: Duration,
    /// When it began.
    pub started: DateTime<Utc>,
    /// What was asked.
    pub request: Message,
    /// What was answered.
    pub response: Message,
    /// Messages of a WebSocket, both ways.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<WebSocketMessage>,
}

/// A request or an answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Message {
    /// Its first line, without the line's end; empty: there was none.
    pub line: String,
    /// Fields, in their order.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Body,
    /// Fields behind the body.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trailers: Vec<(String, String)>,
    /// It was broken off.
    pub cut: bool,
    /// Bytes of what the connection was upgraded to.
    pub tunnelled: u64,
    /// When its head came, since the session began.
    #[serde(skip)]
    pub came: Option<Duration>,
    /// When it was complete.
    #[serde(skip)]
    pub ended: Option<Duration>,
}

/// A body.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Body {
    /// How long it is.
    pub bytes: u64,
    /// The beginning of it, or all.
    #[serde(serialize_with = "text")]
    pub kept: Vec<u8>,
}

/// One message of a WebSocket.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebSocketMessage {
    /// When.
    pub time: DateTime<Utc>,
    /// Which way.
    pub direction: Direction,
    /// Text, or binary.
    pub text: bool,
    /// What.
    pub body: Body,
}

impl Exchange {
    pub(super) fn begun(number: u64, at: At) -> Self {
        Self {
            number,
            begun: at.elapsed,
            started: at.time,
            request: Message::default(),
            response: Message::default(),
            messages: Vec::new(),
        }
    }

    /// Method, URL and version, as far as the record has them.
    pub fn asked(&self) -> (&str, &str, &str) {
        let mut words = self.request.line.splitn(2, ' ');
        let method = words.next().unwrap_or_default();
        let rest = words.next().unwrap_or_default();
        let (url, version) = rest.rsplit_once(' ').unwrap_or((rest, ""));
        (method, url, version)
    }

    /// Version, status and reason; status 0: there was no answer.
    pub fn answered(&self) -> (&str, u16, &str) {
        let mut words = self.response.line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|status| status.parse().ok()).unwrap_or(0);
        (version, status, words.next().unwrap_or_default())
    }

    pub(super) fn is_over(&self) -> bool {
        let (_, status, _) = self.answered();
        let preliminary = (100..200).contains(&status) && status != 101;
        self.request.ended.is_some() && self.response.ended.is_some() && !preliminary
    }

    pub(super) fn say(&mut self, at: At, direction: Direction, text: bool, bytes: &[u8], keep: usize) {
        let mut body = Body::default();
        body.add(bytes, keep);
        self.messages.push(WebSocketMessage {
            time: at.time,
            direction,
            text,
            body,
        });
    }
}

impl Message {
    pub(super) fn head(&mut self, at: At, bytes: &[u8]) {
        let text = clean::text(bytes);
        let (line, rest) = text.split_once("\r\n").unwrap_or((&text, ""));
        line.clone_into(&mut self.line);
        self.headers = fields(rest);
        self.came = Some(at.elapsed);
    }

    pub(super) fn body(&mut self, bytes: &[u8], keep: usize) {
        self.body.add(bytes, keep);
    }

    pub(super) fn trailers(&mut self, bytes: &[u8]) {
        self.trailers = fields(&clean::text(bytes));
    }

    pub(super) fn tunnelled(&mut self, bytes: &[u8]) {
        self.tunnelled += bytes.len() as u64;
    }

    /// The first field of a name, which is lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self
            .headers
            .iter()
            .filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value.as_str())
    }

    /// Whether its body is not compressed.
    pub(super) fn is_plain(&self) -> bool {
        self.field("content-encoding")
            .is_none_or(|coding| coding == "identity")
    }
}

impl Body {
    fn add(&mut self, bytes: &[u8], keep: usize) {
        self.bytes += bytes.len() as u64;
        let room = keep.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Whether all of it is there.
    pub fn is_whole(&self) -> bool {
        self.kept.len() as u64 == self.bytes
    }
}

fn fields(text: &str) -> Vec<(String, String)> {
    let lines = text.split("\r\n").filter_map(|line| line.split_once(": "));
    lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn text<S: serde::Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&clean::text(bytes))
}
