//! Messages of the server.

use super::super::clean;
use super::super::step::{Column, End, Event, ServerMessage};
use super::framing::Message;
use super::value::{self, Fields};
use super::{Conversation, Due, add_copy, copy};
use crate::model::Direction;

/// More columns than PostgreSQL has are not believed.
const MOST_COLUMNS: usize = 1664;

impl Conversation {
    pub(super) fn server_message(&mut self, message: Message<'_>, events: &mut Vec<Event>) {
        let mut fields = Fields(message.body);
        match message.tag {
            b'T' => self.described(columns(&mut fields)),
            b'n' => self.described(Vec::new()),
            b'D' => self.row(&mut fields),
            b'H' | b'W' => self.result().copy = Some(copy(Direction::ToClient, message.body.first())),
            b'G' => {
                self.result();
                let begun = copy(Direction::ToServer, message.body.first());
                // The client need not have waited for this.
                let binary = begun.binary;
                self.copy_in.get_or_insert(begun).binary = binary;
            }
            b'd' => {
                let limits = self.limits;
                if let Some(copy) = &mut self.result().copy {
                    add_copy(copy, message.body, message.length as u64, limits);
                }
            }
            b'C' | b'I' => {
                self.result();
                let tag = if message.tag == b'C' { fields.string() } else { b"" };
                self.take_result(End::Complete(clean::text(tag)), events);
                self.answered_one();
            }
            b's' => {
                self.take_result(End::Suspended, events);
                self.answered_one();
            }
            b'E' => self.failed(&mut fields, events),
            b'N' => {
                let notice = self.report(&mut fields);
                events.push(Event::Notice(notice));
            }
            b'A' => {
                let _process = fields.i32();
                events.push(Event::Notification {
                    channel: clean::text(fields.string()),
                    payload: clean::text(fields.string()),
                });
            }
            b'Z' => {
                self.take_result(End::Cut, events);
                while let Some(due) = self.due.pop_front() {
                    match due {
                        Due::Query(slot) => {
                            self.settle(&slot);
                            break;
                        }
                        Due::Sync => break,
                        Due::Describe(_) | Due::Execute(_) => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn described(&mut self, columns: Vec<Column>) {
        match self.due.front() {
            Some(Due::Describe(slot)) => {
                if let Some(slot) = slot {
                    slot.set_columns(columns);
                }
                self.due.pop_front();
            }
            _ => self.result().columns = columns,
        }
    }

    fn row(&mut self, fields: &mut Fields<'_>) {
        let limits = self.limits;
        let result = self.result();
        result.row_count += 1;
        if result.rows.len() >= limits.rows {
            return;
        }
        let count = fields.count().unwrap_or(0).min(MOST_COLUMNS);
        let mut row = Vec::with_capacity(count);
        for index in 0..count {
            let column = result.columns.get(index).cloned().unwrap_or_default();
            // A row that is longer than what is kept of a message ends early.
            let Some(value) = fields.value() else { break };
            row.push(value::show(value, &column, limits.value));
        }
        while result.columns.len() < row.len() {
            let name = format!("?{}", result.columns.len() + 1);
            result.columns.push(Column {
                name,
                ..Column::default()
            });
        }
        result.rows.push(row);
    }

    fn failed(&mut self, fields: &mut Fields<'_>, events: &mut Vec<Event>) {
        let failure = self.report(fields);
        self.take_result(End::Failed, events);
        events.push(Event::Failure(failure));
        if matches!(self.due.front(), Some(Due::Query(_))) {
            return;
        }
        // The server skips to the next Sync.
        while self.due.pop_front_if(|due| !matches!(due, Due::Sync)).is_some() {}
    }

    /// The message at the front was answered; a query goes on until the server is ready.
    fn answered_one(&mut self) {
        if let Some(Due::Execute(slot)) = self.due.pop_front_if(|due| matches!(due, Due::Execute(_))) {
            self.settle(&slot);
        }
    }

    fn report(&self, fields: &mut Fields<'_>) -> ServerMessage {
        let mut report = ServerMessage {
            number: self.answered().and_then(|slot| slot.number()),
            ..ServerMessage::default()
        };
        while let Some(kind) = fields.byte().filter(|kind| *kind != 0) {
            let value = clean::text(fields.string());
            match kind {
                b'S' if report.severity.is_empty() => report.severity = value,
                b'V' => report.severity = value,
                b'C' => report.code = value,
                b'M' => report.message = value,
                b'D' => report.detail = value,
                b'H' => report.hint = value,
                _ => {}
            }
        }
        report
    }
}

fn columns(fields: &mut Fields<'_>) -> Vec<Column> {
    let count = fields.count().unwrap_or(0).min(MOST_COLUMNS);
    let mut columns = Vec::with_capacity(count);
    for _ in 0..count {
        let name = clean::text(fields.string());
        // Origin of the column: table and attribute.
        let _origin = (fields.i32(), fields.i16());
        let Some(type_oid) = fields.u32() else { break };
        let _length_and_modifier = (fields.i16(), fields.i32());
        columns.push(Column {
            name,
            type_oid,
            binary: fields.i16() == Some(1),
        });
    }
    columns
}
