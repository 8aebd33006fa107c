//! What is known of one message of the client that runs, or will run, a statement.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::step::Column;

/// A Query, Parse, Bind or Execute.
#[derive(Debug, Default)]
pub(super) struct Slot {
    text: Rc<str>,
    /// Number of the command that it was judged as.
    number: Cell<Option<u64>>,
    columns: RefCell<Option<Vec<Column>>>,
    /// Formats that a Bind asked for: none (text), one for all, or one a column.
    formats: Vec<i16>,
    /// A portal that was executed before.
    executed: Cell<bool>,
    /// The statement of a portal, the portal of an execution.
    of: Option<Rc<Slot>>,
}

impl Slot {
    /// A statement.
    pub(super) fn statement(text: &str) -> Rc<Self> {
        Rc::new(Self {
            text: text.into(),
            ..Self::default()
        })
    }

    /// A portal of a statement, or an execution of a portal.
    pub(super) fn of(slot: Option<&Rc<Slot>>, formats: Vec<i16>) -> Rc<Self> {
        Rc::new(Self {
            text: slot.map(|slot| Rc::clone(&slot.text)).unwrap_or_default(),
            formats,
            of: slot.cloned(),
            ..Self::default()
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether this was asked of the portal before.
    pub(super) fn was_executed(&self) -> bool {
        self.executed.replace(true)
    }

    pub(super) fn set_number(&self, number: u64) {
        self.number.set(Some(number));
    }

    /// Number of the command that it was judged as, or that what it runs was judged as.
    pub(super) fn number(&self) -> Option<u64> {
        self.number.get().or_else(|| self.of.as_ref()?.number())
    }

    pub(super) fn set_columns(&self, columns: Vec<Column>) {
        self.columns.replace(Some(columns));
    }

    /// Its columns, in the formats that were asked for.
    pub(super) fn columns(&self) -> Option<Vec<Column>> {
        if let Some(columns) = &*self.columns.borrow() {
            return Some(columns.clone());
        }
        let mut columns = self.of.as_ref()?.columns()?;
        for (index, column) in columns.iter_mut().enumerate() {
            let format = match self.formats.as_slice() {
                [] => continue,
                [all] => Some(all),
                each => each.get(index),
            };
            column.binary = format == Some(&1);
        }
        Some(columns)
    }
}
