//! Masks: what is found or named, replaced by what may be seen. Knows columns, paths and bytes, no wire format.
//!
//! Two kinds of rule: by the origin of a value, which is a *column*, or a *path*, a *key* or a *header field* (the strong one),
//! and *detectors*, by what a value looks like (a net below it, for values whose place nobody knew). Known limits: a detector sees one value at a time and
//! knows no encoding but plain text and backslash escapes (base64 of a key is not found); masks protect values,
//! not what can be inferred by asking about them.

mod columns;
mod detect;
mod json;
mod keys;
mod names;
mod operator;
mod partial;
mod stream;

#[cfg(test)]
mod tests;

use crate::config::{Detector, MaskOperator, MaskRule, MaskTarget, MediaPattern};
use crate::model::{ColumnName, ValueFormat, ValueType};

use columns::ColumnRules;
use detect::Detectors;
use keys::Keys;

pub use json::{JsonValue, put_string};
pub use keys::ValueHash;
pub use names::{Names, Step, earlier};
pub use stream::{DetectStream, Stars, TextStream};

/// The masks of one service, compiled. Shared by its sessions.
#[derive(Debug)]
pub struct Masks {
    operators: Vec<MaskOperator>,
    columns: ColumnRules,
    detectors: Detectors,
    names: Names,
    /// What each of `operators` is for, as the policy has it; empty for those that every `Masks` has, and for columns.
    labels: Vec<String>,
    keys: Keys,
    fingerprint: [u8; 8],
    /// Kinds of bodies that pass unread.
    unmasked: Vec<MediaPattern>,
}

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

/// The mask that every `Masks` has at this place: redact. What stands in for a mask that shows part of a value.
const REDACT: MaskId = MaskId(0);
/// The mask at this place is NULL.
const NULL: MaskId = MaskId(1);

impl Masks {
    /// Compiles `rules`; `key` keys the hashes.
    pub fn compile(rules: &[MaskRule], key: [u8; 32]) -> Self {
        let mut operators = vec![MaskOperator::Redact, MaskOperator::Null];
        let mut columns = ColumnRules::default();
        let mut detectors = Detectors::default();
        let mut names = Names::default();
        let mut labels = vec![String::new(); operators.len()];
        let mut named = |label: String, operator: &MaskOperator, operators: &mut Vec<MaskOperator>| {
            // More masks than ids: the stricter one for the rest.
            let id = u16::try_from(operators.len()).map_or(REDACT, MaskId);
            operators.push(operator.clone());
            labels.push(label);
            id
        };
        for rule in rules {
            match &rule.target {
                MaskTarget::Columns(patterns) => {
                    let id = named(String::new(), &rule.operator, &mut operators);
                    columns.add(patterns, id, derived(&rule.operator, id));
                }
                MaskTarget::Detect(kinds) => {
                    for kind in kinds {
                        detectors.add(*kind, &rule.operator);
                    }
                }
                MaskTarget::Json(paths) => {
                    for path in paths {
                        let id = named(path.to_string(), &rule.operator, &mut operators);
                        names.add_path(path, id);
                    }
                }
                MaskTarget::Keys(keys) => {
                    for key in keys {
                        let id = named(key.to_string(), &rule.operator, &mut operators);
                        names.add_key(key, id);
                    }
                }
                MaskTarget::Headers(headers) => {
                    for header in headers {
                        let id = named(header.to_string(), &rule.operator, &mut operators);
                        names.add_header(header, id);
                    }
                }
            }
        }
        columns.protect_statistics();
        let hash = blake3::keyed_hash(&key, format!("{rules:?}").as_bytes());
        Self {
            operators,
            columns,
            detectors,
            names,
            labels,
            fingerprint: hash.as_bytes().first_chunk().copied().unwrap_or_default(),
            keys: Keys::new(key),
            unmasked: Vec::new(),
        }
    }

    /// The same, but bodies of these kinds pass unread.
    #[must_use]
    pub fn passing(mut self, unmasked: &[MediaPattern]) -> Self {
        self.unmasked = unmasked.to_vec();
        self
    }

    /// Whether bodies of the media type `essence`, in lower case and without parameters, pass unread.
    pub fn passes(&self, essence: &str) -> bool {
        self.unmasked.iter().any(|pattern| pattern.matches(essence))
    }

    /// Whether there is no mask at all: rows may pass unread.
    pub fn is_empty(&self) -> bool {
        !self.has_columns() && !self.has_detectors() && !self.names.has_bodies() && !self.names.has_headers()
    }

    /// The masks that are named by paths, keys and header fields.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The path, key or header field that the mask `id` is for, as the policy has it.
    pub fn label(&self, id: MaskId) -> &str {
        self.labels.get(usize::from(id.0)).map_or("", String::as_str)
    }

    /// Says which masks these are: others have another one, and so have the same under another key.
    pub fn fingerprint(&self) -> [u8; 8] {
        self.fingerprint
    }

    /// Whether any mask names columns.
    pub fn has_columns(&self) -> bool {
        !self.columns.is_empty()
    }

    /// Whether any mask is a detector: every textual value has to be scanned.
    pub fn has_detectors(&self) -> bool {
        !self.detectors.is_empty()
    }

    /// The mask of a stored column. The first rule of the policy that names it counts.
    ///
    /// Where any column is masked, so are the columns of the catalog that hold samples of values (`pg_stats`).
    pub fn column(&self, origin: &ColumnName) -> Option<MaskId> {
        self.columns.of(origin)
    }

    /// Whether a column of this name, in a table of this name (any where `None`), could be masked: the question of
    /// lineage, where schemas are not known.
    ///
    /// The mask is the one for a *computed* value, see [`Masks::derived`].
    pub fn may_mask(&self, table: Option<&str>, column: &str) -> Option<MaskId> {
        self.columns.possible(table, column)
    }

    /// Whether a table of this name (in this schema, where known) has any masked column.
    ///
    /// The mask is the one for a *computed* value, see [`Masks::derived`].
    pub fn concerns_table(&self, schema: Option<&str>, table: &str) -> Option<MaskId> {
        self.columns.of_table(schema, table)
    }

    /// The mask for a value that was computed from a column of mask `id`.
    ///
    /// Partial and hash become redact: `substr(email, n, 4)` would show the address letter by letter through
    /// `partial`, and `left(email, 0) || 'guess'` would give the hash of every guess.
    pub fn derived(&self, id: MaskId) -> MaskId {
        self.operators
            .get(usize::from(id.0))
            .map_or(NULL, |operator| derived(operator, id))
    }

    /// Appends the masked form of `value` to `out`, valid for its type and format; NULL where the type has no such value.
    pub fn mask(
        &self,
        id: MaskId,
        value: &[u8],
        ty: ValueType,
        format: ValueFormat,
        out: &mut Vec<u8>,
    ) -> Masked {
        match self.operators.get(usize::from(id.0)) {
            Some(operator) => operator::apply(operator, &self.keys, value, ty, format, out),
            // An id of other masks: nothing is certain but NULL.
            None => Masked::Null,
        }
    }

    /// Appends the masked form of a JSON value to `out`, as JSON.
    pub fn mask_json(&self, id: MaskId, value: JsonValue<'_>, out: &mut Vec<u8>) {
        match self.operators.get(usize::from(id.0)) {
            Some(operator) => json::apply(operator, &self.keys, value, out),
            None => out.extend_from_slice(b"null"),
        }
    }

    /// Takes the bytes of a value that is too large to be had whole, for [`JsonValue::Whole`].
    pub fn hasher(&self) -> ValueHash {
        self.keys.hasher()
    }

    /// Runs the detectors over a whole textual value. Appends the masked value to `out` and gives the number of
    /// hits; with no hit, `out` is untouched and the caller passes the original.
    pub fn detect(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        detect::replace(&self.detectors, &self.keys, value, out)
    }

    /// [`Masks::detect`] for a json or jsonb value, in either format: what it appends is valid JSON. Where a hit was not
    /// inside a string (a card as a bare number), the whole value becomes `"[redacted]"`.
    pub fn detect_json(&self, value: &[u8], out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let hits = self.detect(value, out);
        let (version, json) = operator::split_json_version(out.get(start..).unwrap_or_default());
        if hits > 0 && serde_json::from_slice::<serde::de::IgnoredAny>(json).is_err() {
            let version = version.to_vec();
            out.truncate(start);
            out.extend_from_slice(&version);
            out.extend_from_slice(operator::REDACTED_JSON);
        }
        hits
    }

    /// A detector run over a value too large for memory: same length out as in.
    pub fn stream(&self) -> DetectStream<'_> {
        DetectStream::new(&self.detectors)
    }
}

/// Secrets in a text, known by what they look like: each with its detector and where it stands.
pub fn secrets(text: &[u8]) -> Vec<(Detector, std::ops::Range<usize>)> {
    detect::secrets(text)
}

fn derived(operator: &MaskOperator, id: MaskId) -> MaskId {
    match operator {
        MaskOperator::Partial | MaskOperator::Hash => REDACT,
        MaskOperator::Redact | MaskOperator::Null | MaskOperator::Constant(_) => id,
    }
}
