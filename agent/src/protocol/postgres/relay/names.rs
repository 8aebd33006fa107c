//! Names of prepared statements and portals, as the server will know them when it comes to a message.
//!
//! The client's messages run ahead of the server's answers. A name that a message in flight may define is certain
//! only in the same stretch up to Sync: there, a failed definition makes the server skip the use as well. Behind a
//! Sync, the use has to wait for the answer.

use std::collections::HashMap;
use std::sync::Arc;

/// Names and what they stand for.
#[derive(Debug)]
pub(super) struct Names<T> {
    slots: HashMap<Box<[u8]>, Slot<T>>,
}

#[derive(Debug)]
struct Slot<T> {
    confirmed: Option<Arc<T>>,
    pending: Option<Pending<T>>,
}

#[derive(Debug)]
struct Pending<T> {
    value: Arc<T>,
    serial: u64,
    epoch: u64,
}

/// What a name stands for.
#[derive(Debug)]
pub(super) enum Lookup<T> {
    /// This, or the server will not get to the use.
    Known(Arc<T>),
    /// Nothing that this session has made in a way that was seen.
    Unknown,
    /// The server's answers decide.
    Wait,
}

/// A session that holds more names than any program does is out of control.
const MOST: usize = 100_000;

impl<T> Names<T> {
    pub(super) fn new() -> Self {
        Self {
            slots: HashMap::new(),
        }
    }

    /// Looks `name` up for a message of stretch `epoch`.
    pub(super) fn look(&self, name: &[u8], epoch: u64) -> Lookup<T> {
        let Some(slot) = self.slots.get(key(name)) else {
            return Lookup::Unknown;
        };
        match (&slot.pending, &slot.confirmed) {
            (Some(pending), _) if pending.epoch == epoch => Lookup::Known(Arc::clone(&pending.value)),
            (Some(_), _) => Lookup::Wait,
            (None, Some(value)) => Lookup::Known(Arc::clone(value)),
            (None, None) => Lookup::Unknown,
        }
    }

    /// Whether one more name may be made.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() < MOST
    }

    /// A message in flight defines `name`.
    pub(super) fn pend(&mut self, name: &[u8], value: Arc<T>, serial: u64, epoch: u64) {
        let pending = Some(Pending { value, serial, epoch });
        if let Some(slot) = self.slots.get_mut(key(name)) {
            slot.pending = pending;
        } else {
            let confirmed = None;
            self.slots.insert(key(name).into(), Slot { confirmed, pending });
        }
    }

    /// The server has defined `name`. Ignored where [`forget`](Self::forget) has come between.
    pub(super) fn confirm(&mut self, name: &[u8], value: &Arc<T>, serial: u64) {
        if let Some(slot) = self.slots.get_mut(key(name)) {
            slot.confirmed = Some(Arc::clone(value));
            slot.pending.take_if(|pending| pending.serial == serial);
        }
    }

    /// The server has not defined `name`, or has skipped the message.
    pub(super) fn fail(&mut self, name: &[u8], serial: u64) {
        if let Some(slot) = self.slots.get_mut(key(name)) {
            slot.pending.take_if(|pending| pending.serial == serial);
            if slot.pending.is_none() && slot.confirmed.is_none() {
                self.slots.remove(key(name));
            }
        }
    }

    /// The server has dropped `name`.
    pub(super) fn dropped(&mut self, name: &[u8]) {
        if let Some(slot) = self.slots.get_mut(key(name)) {
            slot.confirmed = None;
            if slot.pending.is_none() {
                self.slots.remove(key(name));
            }
        }
    }

    /// Drops what is confirmed and not kept by `keep`.
    pub(super) fn keep_confirmed(&mut self, keep: impl Fn(&[u8], &T) -> bool) {
        self.slots.retain(|name, slot| {
            slot.confirmed.take_if(|value| !keep(name, value));
            slot.pending.is_some() || slot.confirmed.is_some()
        });
    }

    /// Something ran that may have changed what any name that `doubted` holds for stands for.
    pub(super) fn forget(&mut self, doubted: impl Fn(&T) -> bool) {
        self.slots.retain(|_, slot| {
            let pending = slot
                .pending
                .as_ref()
                .is_some_and(|pending| doubted(&pending.value));
            let confirmed = slot.confirmed.as_ref().is_some_and(|value| doubted(value));
            !pending && !confirmed
        });
    }
}

/// The server knows names by their first 63 bytes (`NAMEDATALEN`).
fn key(name: &[u8]) -> &[u8] {
    name.get(..63).unwrap_or(name)
}

/// A name of SQL, as the server's lexer cuts it: at 63 bytes, not within a character.
pub(super) fn identifier(name: &str) -> &[u8] {
    let end = (0..=63)
        .rev()
        .find(|at| name.is_char_boundary(*at))
        .unwrap_or_default();
    name.as_bytes()
        .get(..end.min(name.len()))
        .unwrap_or(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(lookup: Lookup<u8>) -> Option<u8> {
        match lookup {
            Lookup::Known(value) => Some(*value),
            Lookup::Unknown | Lookup::Wait => None,
        }
    }

    #[test]
    fn a_definition_in_flight_counts_in_its_own_stretch_alone() {
        let mut names = Names::new();
        names.pend(b"s", Arc::new(1), 1, 0);
        assert_eq!(known(names.look(b"s", 0)), Some(1));
        assert!(matches!(names.look(b"s", 1), Lookup::Wait));
        names.confirm(b"s", &Arc::new(1), 1);
        assert_eq!(known(names.look(b"s", 1)), Some(1));
    }

    #[test]
    fn a_second_definition_that_fails_leaves_the_first() {
        let mut names = Names::new();
        names.pend(b"s", Arc::new(1), 1, 0);
        names.confirm(b"s", &Arc::new(1), 1);
        names.pend(b"s", Arc::new(2), 2, 1);
        assert!(matches!(names.look(b"s", 2), Lookup::Wait));
        names.fail(b"s", 2);
        assert_eq!(known(names.look(b"s", 2)), Some(1));
    }

    #[test]
    fn names_that_differ_behind_63_bytes_are_one() {
        let mut names = Names::new();
        let long = [b'a'; 63];
        let first = [&long[..], b"x"].concat();
        let second = [&long[..], b"y"].concat();
        names.pend(&first, Arc::new(1), 1, 0);
        names.confirm(&first, &Arc::new(1), 1);
        assert_eq!(known(names.look(&second, 1)), Some(1));
        let text = format!("{}é", "a".repeat(62));
        assert_eq!(identifier(&text), "a".repeat(62).as_bytes());
        assert_eq!(identifier("short"), b"short");
    }

    #[test]
    fn what_was_forgotten_is_not_confirmed_afterwards() {
        let mut names = Names::new();
        names.pend(b"s", Arc::new(1), 1, 0);
        names.forget(|_| true);
        names.confirm(b"s", &Arc::new(1), 1);
        assert!(matches!(names.look(b"s", 1), Lookup::Unknown));
    }
}
