//! The server's direction: which answer a message is, and what the client sees of it.

use std::sync::Arc;

use crate::model::Command;

use super::super::wire::{
    ErrorFields, Header, MAX_WHOLE, Notification, ParameterStatus, ReadyForQuery, Target, TransactionStatus,
    is_backend_tag,
};
use super::client::Front;
use super::masking::{Classify, Masking};
use super::queue::{Due, Expect};
use super::server_results::no_rows;
use super::turn::{Event, Turn};
use super::unit::Defined;
use super::{Describing, ProtocolError, Relay, errors, refusal};

/// What became of the server's message at the front.
pub(super) enum Answer {
    /// It goes to the client as it is; so far as it is here, the rest follows.
    Pass,
    /// It is dealt with, whole.
    Done,
    /// This much of it is dealt with; the rest is masked in pieces.
    Part(usize),
    /// More bytes are needed.
    More,
    /// An answer is needed.
    Stop,
}

impl<M: Masking, C: Classify> Relay<'_, M, C> {
    /// Takes bytes of the server. Consumes messages as far as they are there; stops at a question.
    pub fn server(&mut self, input: &[u8], turn: &mut Turn) -> Result<(), ProtocolError> {
        turn.clear();
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            if self.outflow > 0 {
                let count = rest.len().min(self.outflow);
                turn.out.input(at..at + count);
                self.outflow -= count;
                at += count;
                if self.outflow > 0 {
                    break;
                }
                continue;
            }
            if self.copy_left > 0 || self.long_row.is_some() {
                if rest.is_empty() {
                    break;
                }
                at += if self.copy_left > 0 {
                    self.copy_body(rest, turn)?
                } else {
                    self.row_body(rest, at, turn)?
                };
                continue;
            }
            if !self.notices.is_empty() {
                let notices = std::mem::take(&mut self.notices);
                turn.out.make(|out| out.extend_from_slice(&notices));
            }
            if matches!(self.describing, Describing::Asked) {
                break;
            }
            let Some(header) = Header::peek(rest).map_err(ProtocolError::ServerFormat)? else {
                break;
            };
            let front = Front { header, rest, at };
            match self.answer(front, turn)? {
                Answer::Pass => {
                    let here = front.here();
                    turn.out.input(at..at + here);
                    self.outflow = header.size() - here;
                    at += here;
                }
                Answer::Done => at += header.size(),
                Answer::Part(count) => at += count,
                Answer::More | Answer::Stop => break,
            }
        }
        turn.consumed = at;
        Ok(())
    }

    fn answer(&mut self, front: Front<'_>, turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let Header { tag, .. } = front.header;
        match tag {
            b'D' => return self.row(front, turn),
            b'd' => return self.copy_data(front),
            _ if !is_backend_tag(tag) => {
                return Err(ProtocolError::server(format!(
                    "the server sent a message of type {tag:#04x}, which has no place here"
                )));
            }
            b'N' if !errors::reads(self.masks) => return Ok(Answer::Pass),
            b'E' if front.header.size() > MAX_WHOLE && !errors::reads(self.masks) => {
                self.failed(None, turn);
                return Ok(Answer::Pass);
            }
            b'A' if !errors::reads(self.masks) => return Ok(Answer::Pass),
            _ if front.header.size() > MAX_WHOLE => {
                return Err(ProtocolError::server(format!(
                    "the server sent a message of type '{}' of more than 1 MiB",
                    char::from(tag)
                )));
            }
            _ => {}
        }
        let Some((message, body)) = front.whole() else {
            return Ok(Answer::More);
        };
        match tag {
            b'A' => self.notification(body, turn),
            b'N' => self.notice_of_server(tag, body, turn),
            b'S' => self.setting(body, turn),
            b'E' => self.failure(body, turn),
            b'Z' => self.ready(body, turn),
            b'T' => self.description(body, turn),
            b'C' => self.complete(body, turn),
            b'1' => self.parse_complete(),
            b'2' => self.bind_complete(),
            b'3' => self.close_complete(),
            b'G' | b'H' | b'c' => self.copy_response(tag, body, turn),
            _ => self.bare(message, turn),
        }
    }

    pub(super) fn undue(&mut self, what: &str) -> ProtocolError {
        match self.queue.front().map(|due| &due.what) {
            Some(Expect::Refused { .. } | Expect::RefusedQuery { .. }) => ProtocolError::SubstitutePassed,
            _ => ProtocolError::server(format!("the server sent {what} that was not due")),
        }
    }

    /// The text of what the server does now.
    fn said(&mut self) -> Arc<Command> {
        match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { unit, .. } | Expect::Parse { unit, .. }) => Arc::clone(&unit.command),
            Some(
                Expect::Bind { portal, .. }
                | Expect::Execute { portal, .. }
                | Expect::DescribePortal {
                    portal: Some(portal), ..
                },
            ) => Arc::clone(&portal.unit.command),
            _ => Arc::new(Command::unknown("", "")),
        }
    }

    /// Whether what the server does now may touch a masked column.
    fn concerned(&mut self) -> bool {
        use super::lineage::Treat;
        if !self.masks.has_columns() {
            return false;
        }
        let unit = match self.queue.front().map(|due| &due.what) {
            Some(Expect::Query { unit, .. } | Expect::Parse { unit, .. }) => unit,
            Some(
                Expect::Bind { portal, .. }
                | Expect::Execute { portal, .. }
                | Expect::DescribePortal {
                    portal: Some(portal), ..
                },
            ) => &portal.unit,
            // A commit runs what was put off to it, of any statement.
            Some(Expect::Sync { .. }) => return true,
            _ => return false,
        };
        unit.shadows.iter().any(|shadow| shadow.other != Treat::Pass) || unit.traits.transaction
    }

    fn notice_of_server(&mut self, tag: u8, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        if !errors::reads(self.masks) {
            return Ok(Answer::Pass);
        }
        let fields = ErrorFields::decode(body).map_err(ProtocolError::ServerFormat)?;
        let (concerned, said) = (self.concerned(), self.said());
        turn.out
            .make(|out| errors::rewrite(self.masks, tag, &fields, concerned, &said.text, out));
        Ok(Answer::Done)
    }

    /// What another session says: nobody knows of what its payload is made.
    fn notification(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let notification = Notification::decode(body).map_err(ProtocolError::ServerFormat)?;
        let mut found = Vec::new();
        let payload = if self.masks.has_columns() && !notification.payload.is_empty() {
            errors::WITHHELD
        } else if self.masks.detect(notification.payload, &mut found) > 0 {
            found.retain(|byte| *byte != 0);
            &found
        } else {
            return Ok(Answer::Pass);
        };
        turn.out.make(|out| {
            Notification {
                payload,
                ..notification
            }
            .encode(out);
        });
        Ok(Answer::Done)
    }

    fn setting(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let status = ParameterStatus::decode(body).map_err(ProtocolError::ServerFormat)?;
        self.reported(status.name, status.value);
        match status.name {
            b"standard_conforming_strings" | b"client_encoding" => self.lexing_touched = true,
            b"session_authorization" => {
                let status = ParameterStatus {
                    value: &self.user,
                    ..status
                };
                turn.out.make(|out| status.encode(out));
                return Ok(Answer::Done);
            }
            _ => {}
        }
        Ok(Answer::Pass)
    }

    fn failure(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let fields = ErrorFields::decode(body).map_err(ProtocolError::ServerFormat)?;
        let (concerned, said) = (self.concerned(), self.said());
        let refused = self.failed(Some(&fields), turn);
        if let Some(refusal) = refused.filter(|_| refusal::is_expected(&fields)) {
            turn.out.make(|out| refusal.encode(out));
            return Ok(Answer::Done);
        }
        if errors::reads(self.masks) {
            turn.out
                .make(|out| errors::rewrite(self.masks, b'E', &fields, concerned, &said.text, out));
            return Ok(Answer::Done);
        }
        Ok(Answer::Pass)
    }

    /// The server has failed at what was due. Gives the refusal, if that was to happen.
    fn failed(&mut self, fields: Option<&ErrorFields<'_>>, turn: &mut Turn) -> Option<Arc<refusal::Refusal>> {
        self.finish_rows(turn);
        self.copy_ended(turn);
        let code = fields.map_or(&b""[..], ErrorFields::sqlstate);
        let code = String::from_utf8(code.to_vec()).unwrap_or_default();
        turn.events.push(Event::Failed { code });
        let mut refused = None;
        let skips = match self.queue.front().map(|due| &mut due.what) {
            None | Some(Expect::Sync { .. }) => false,
            Some(Expect::Query { index, copying, .. }) => {
                *index = usize::MAX;
                *copying = false;
                self.copy_in = false;
                false
            }
            Some(Expect::RefusedQuery { refusal, failed, .. }) => {
                *failed = true;
                refused = Some(Arc::clone(refusal));
                false
            }
            Some(Expect::Refused { refusal }) => {
                refused = Some(Arc::clone(refusal));
                true
            }
            Some(_) => true,
        };
        if skips {
            self.copy_in = false;
            for due in self.queue.skip() {
                self.skipped(&due);
            }
        }
        refused
    }

    /// Names that an unanswered message would have made are not made.
    fn skipped(&mut self, due: &Due) {
        match &due.what {
            Expect::Parse { name, .. } => self.statements.fail(name, due.serial),
            Expect::Bind { name, .. } => self.portals.fail(name, due.serial),
            Expect::Query { unit, .. } => self.undefined(unit, due.serial),
            Expect::Execute { portal, .. } => self.undefined(&portal.unit, due.serial),
            _ => {}
        }
    }

    fn undefined(&mut self, unit: &super::Unit, serial: u64) {
        for define in &unit.defines {
            let name = super::names::identifier(&define.name);
            match define.what {
                Defined::Statement(_) => self.statements.fail(name, serial),
                Defined::Cursor(_) => self.portals.fail(name, serial),
            }
        }
    }

    fn ready(&mut self, body: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let status = ReadyForQuery::decode(body)
            .map_err(ProtocolError::ServerFormat)?
            .status;
        self.finish_rows(turn);
        self.queue.front();
        let epoch = match self.queue.pop() {
            Some(Due {
                what:
                    Expect::Sync { epoch }
                    | Expect::RefusedQuery {
                        epoch, failed: true, ..
                    },
                ..
            }) => epoch,
            Some(due) => match &due.what {
                Expect::Query { epoch, unit, .. } => {
                    self.undefined(unit, due.serial);
                    *epoch
                }
                Expect::RefusedQuery { .. } => return Err(ProtocolError::SubstitutePassed),
                _ => return Err(self.undue("ReadyForQuery")),
            },
            None => return Err(self.undue("ReadyForQuery")),
        };
        self.settled = epoch + 1;
        self.status = status;
        if status == TransactionStatus::Idle {
            self.wrote = false;
            self.fresh.clear();
            if self.settled == self.epoch {
                self.altered.clear();
            }
            self.portals.keep_confirmed(|_, portal| portal.cursor);
        }
        turn.events.push(Event::Ready(status));
        Ok(Answer::Pass)
    }

    fn parse_complete(&mut self) -> Result<Answer, ProtocolError> {
        match self.queue.front().map(|due| (due.serial, &due.what)) {
            Some((serial, Expect::Parse { name, unit })) => {
                self.statements.confirm(name, unit, serial);
                self.queue.pop();
                Ok(Answer::Pass)
            }
            _ => Err(self.undue("ParseComplete")),
        }
    }

    fn bind_complete(&mut self) -> Result<Answer, ProtocolError> {
        match self.queue.front().map(|due| (due.serial, &due.what)) {
            Some((serial, Expect::Bind { name, portal })) => {
                self.portals.confirm(name, portal, serial);
                self.queue.pop();
                Ok(Answer::Pass)
            }
            _ => Err(self.undue("BindComplete")),
        }
    }

    fn close_complete(&mut self) -> Result<Answer, ProtocolError> {
        match self.queue.front().map(|due| &due.what) {
            Some(Expect::Close { target, name }) => {
                match target {
                    Target::Statement => self.statements.dropped(name),
                    Target::Portal => self.portals.dropped(name),
                }
                self.queue.pop();
                Ok(Answer::Pass)
            }
            _ => Err(self.undue("CloseComplete")),
        }
    }

    /// The messages without a body of interest: `NoData`, `ParameterDescription`, `EmptyQueryResponse`,
    /// `PortalSuspended`.
    fn bare(&mut self, message: &[u8], turn: &mut Turn) -> Result<Answer, ProtocolError> {
        let tag = message.first().copied().unwrap_or_default();
        let (ends, hidden) = match (tag, self.queue.front().map(|due| &due.what)) {
            (b't', Some(Expect::DescribeStatement)) | (b'I', Some(Expect::Query { .. })) => (false, false),
            (b'n', Some(Expect::DescribeStatement)) => (true, false),
            (b'n', Some(Expect::DescribePortal { portal, injected })) => {
                let injected = *injected;
                if let Some(portal) = portal {
                    let _ = portal.formats.set(super::rows::Formats::default());
                    let _ = portal.plan.set(no_rows());
                }
                (true, injected)
            }
            (b'I' | b's', Some(Expect::Execute { .. })) => (true, false),
            (b'n', _) => return Err(self.undue("NoData")),
            (b't', _) => return Err(self.undue("ParameterDescription")),
            (b's', _) => return Err(self.undue("PortalSuspended")),
            _ => return Err(self.undue("EmptyQueryResponse")),
        };
        if ends {
            self.finish_rows(turn);
            self.queue.pop();
        }
        Ok(if hidden { Answer::Done } else { Answer::Pass })
    }
}
