//! Masks: what is found or named, replaced by what may be seen. Knows columns and bytes, no wire format.

use crate::config::MaskRule;
use crate::model::{ColumnName, ValueFormat, ValueType};

/// The masks of one service, compiled. Shared by its sessions.
#[derive(Debug)]
pub struct Masks {}

/// Which column mask of a [`Masks`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MaskId(pub u16);

/// What a mask made of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The bytes appended to `out` are the masked value.
    Value,
    /// The masked value is NULL.
    Null,
}

impl Masks {
    /// Compiles `rules`; `key` keys the hashes.
    pub fn compile(_rules: &[MaskRule], _key: [u8; 32]) -> Self {
        Self {}
    }

    /// Whether there is no mask at all: rows may pass unread.
    pub fn is_empty(&self) -> bool {
        true
    }

    /// Whether any mask names columns.
    pub fn has_columns(&self) -> bool {
        false
    }

    /// Whether any mask is a detector: every textual value has to be scanned.
    pub fn has_detectors(&self) -> bool {
        false
    }

    /// The mask of a stored column. The first rule of the policy that names it counts.
    pub fn column(&self, _origin: &ColumnName) -> Option<MaskId> {
        None
    }

    /// Whether a column of this name, in a table of this name (any where `None`), could be masked: the question of
    /// lineage, where schemas are not known.
    pub fn may_mask(&self, _table: Option<&str>, _column: &str) -> Option<MaskId> {
        None
    }

    /// Whether a table of this name (in this schema, where known) has any masked column.
    pub fn concerns_table(&self, _schema: Option<&str>, _table: &str) -> Option<MaskId> {
        None
    }

    /// Appends the masked form of `value` to `out`, valid for its type and format; NULL where the type has no such value.
    pub fn mask(
        &self,
        _id: MaskId,
        _value: &[u8],
        _ty: ValueType,
        _format: ValueFormat,
        _out: &mut Vec<u8>,
    ) -> Masked {
        Masked::Null
    }

    /// Runs the detectors over a whole textual value. Appends the masked value to `out` and gives the number of
    /// hits; with no hit, `out` is untouched and the caller passes the original.
    pub fn detect(&self, _value: &[u8], _out: &mut Vec<u8>) -> u32 {
        0
    }

    /// A detector run over a value too large for memory: same length out as in.
    pub fn stream(&self) -> DetectStream<'_> {
        DetectStream { _masks: self }
    }
}

/// Detectors over a value that arrives in pieces and must keep its length (its length is already on the wire).
///
/// Holds back at most 64 KiB: what could still become a hit.
#[derive(Debug)]
pub struct DetectStream<'a> {
    _masks: &'a Masks,
}

impl DetectStream<'_> {
    /// Takes the next piece and appends to `out` what is certain by now; hits are overwritten with `*`.
    pub fn push(&mut self, _piece: &[u8], _out: &mut Vec<u8>) {}

    /// Ends the value: appends the rest. Gives the number of hits of the whole value.
    pub fn finish(self, _out: &mut Vec<u8>) -> u32 {
        0
    }
}
