//! What was masked, and by what: for the record.

use std::collections::BTreeMap;

use crate::mask::{MaskId, Masks};
use crate::protocol::MaskedBy;

/// How often each mask was applied. Never a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    named: BTreeMap<u16, u64>,
    found: BTreeMap<&'static str, u64>,
}

/// One line of a count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// The path, key or header field of the policy; for detectors where they looked, `body` or `head`.
    pub what: String,
    /// What knew the values.
    pub by: MaskedBy,
    /// How many values.
    pub values: u64,
}

impl Counts {
    pub(super) fn named(&mut self, id: MaskId) {
        *self.named.entry(id.0).or_default() += 1;
    }

    pub(super) fn found(&mut self, place: &'static str, values: u64) {
        if values > 0 {
            *self.found.entry(place).or_default() += values;
        }
    }

    /// Adds another count to this one, which leaves the other empty.
    pub(super) fn take(&mut self, other: &mut Self) {
        for (id, values) in std::mem::take(&mut other.named) {
            *self.named.entry(id).or_default() += values;
        }
        for (place, values) in std::mem::take(&mut other.found) {
            *self.found.entry(place).or_default() += values;
        }
    }

    /// Whether nothing was masked.
    pub fn is_empty(&self) -> bool {
        self.named.is_empty() && self.found.is_empty()
    }

    /// The lines, in the order of the policy.
    pub(super) fn lines(&self, masks: &Masks) -> Vec<Masked> {
        let named = self.named.iter().map(|(id, values)| Masked {
            what: masks.label(MaskId(*id)).to_owned(),
            by: MaskedBy::Name,
            values: *values,
        });
        let found = self.found.iter().map(|(place, values)| Masked {
            what: (*place).to_owned(),
            by: MaskedBy::Detector,
            values: *values,
        });
        named.chain(found).collect()
    }
}
