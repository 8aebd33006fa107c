//! Messages of the client.

use super::super::clean;
use super::framing::Message;
use super::slot::Slot;
use super::value::Fields;
use super::{Conversation, Due, add_copy, copy};
use crate::model::Direction;

impl Conversation {
    pub(super) fn client_message(&mut self, message: Message<'_>) {
        let mut fields = Fields(message.body);
        match message.tag {
            b'Q' => {
                let slot = Slot::statement(&clean::text(fields.string()));
                self.remember(&slot);
                self.due.push_back(Due::Query(slot));
            }
            // A function call, which is answered like a query.
            b'F' => self.due.push_back(Due::Query(Slot::statement(""))),
            b'P' => {
                let name = fields.string().to_vec();
                let slot = Slot::statement(&clean::text(fields.string()));
                self.remember(&slot);
                self.statements.insert(name, slot);
            }
            b'B' => {
                let portal = fields.string().to_vec();
                let statement = fields.string();
                let formats = result_formats(&mut fields).unwrap_or_default();
                let slot = Slot::of(self.statements.get(statement), formats);
                self.remember(&slot);
                self.portals.insert(portal, slot);
            }
            b'D' => {
                let map = match fields.byte() {
                    Some(b'S') => &self.statements,
                    _ => &self.portals,
                };
                let slot = map.get(fields.string()).cloned();
                self.due.push_back(Due::Describe(slot));
            }
            b'E' => {
                let portal = self.portals.get(fields.string());
                let slot = Slot::of(portal, Vec::new());
                // The first execution of a portal was judged with its Bind.
                if portal.is_none_or(|portal| portal.was_executed()) {
                    self.remember(&slot);
                }
                self.due.push_back(Due::Execute(slot));
            }
            b'C' => {
                let map = match fields.byte() {
                    Some(b'S') => &mut self.statements,
                    _ => &mut self.portals,
                };
                map.remove(fields.string());
            }
            b'S' => self.due.push_back(Due::Sync),
            b'd' => {
                let copy = self
                    .copy_in
                    .get_or_insert_with(|| copy(Direction::ToServer, None));
                add_copy(copy, message.body, message.length as u64, self.limits);
            }
            _ => {}
        }
    }
}

/// The formats at the end of a Bind, behind its parameters.
fn result_formats(fields: &mut Fields<'_>) -> Option<Vec<i16>> {
    for _ in 0..fields.count()? {
        fields.i16()?;
    }
    for _ in 0..fields.count()? {
        fields.value()?;
    }
    let count = fields.count()?;
    (0..count).map(|_| fields.i16()).collect()
}
