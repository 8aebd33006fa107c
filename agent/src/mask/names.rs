//! Values by where they stand in a document: paths, keys, and names of header fields.
//!
//! A path is followed as its document comes in: of each value it is known which paths could still lead to something below
//! it, as a set of bits. That set is all that is kept for each level of a document.

use crate::config::{HeaderPattern, JsonPath, JsonSegment, KeyPattern};

use super::MaskId;

/// How a value is called by what contains it.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A member of an object, by its name; `None`: of no object, or of one of which the name has no meaning.
    Member(&'a str),
    /// An element of an array, by its place.
    Element(u64),
}

/// Every path, key and header field of a service's masks, in the order of the policy.
#[derive(Debug, Default)]
pub struct Names {
    /// Segments of all paths, one behind the other: a bit of a set of states means that a path has come so far that this
    /// segment is next.
    segments: Vec<Segment>,
    /// The first segment of each path.
    starts: Vec<usize>,
    /// The mask of a document that is masked whole (`$`).
    root: Option<MaskId>,
    keys: Vec<(KeyPattern, MaskId)>,
    headers: Vec<(HeaderPattern, MaskId)>,
}

#[derive(Debug)]
struct Segment {
    segment: JsonSegment,
    /// The path ends here.
    last: Option<MaskId>,
}

impl Names {
    pub(super) fn add_path(&mut self, path: &JsonPath, id: MaskId) {
        let Some(last) = path.segments().len().checked_sub(1) else {
            self.root.get_or_insert(id);
            return;
        };
        self.starts.push(self.segments.len());
        self.segments
            .extend(path.segments().iter().enumerate().map(|(at, segment)| Segment {
                segment: segment.clone(),
                last: (at == last).then_some(id),
            }));
    }

    pub(super) fn add_key(&mut self, key: &KeyPattern, id: MaskId) {
        self.keys.push((key.clone(), id));
    }

    pub(super) fn add_header(&mut self, header: &HeaderPattern, id: MaskId) {
        self.headers.push((header.clone(), id));
    }

    /// Whether values of bodies are named at all.
    pub fn has_bodies(&self) -> bool {
        self.has_paths() || self.has_keys()
    }

    /// Whether any path is named.
    pub fn has_paths(&self) -> bool {
        self.root.is_some() || !self.starts.is_empty()
    }

    /// Whether any key is named.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether header fields are named.
    pub fn has_headers(&self) -> bool {
        !self.headers.is_empty()
    }

    /// Words of a set of states.
    pub fn words(&self) -> usize {
        self.segments.len().div_ceil(64)
    }

    /// A new document: appends its set of states, and gives the mask that it has as a whole.
    pub fn document(&self, states: &mut Vec<u64>) -> Option<MaskId> {
        let from = states.len();
        states.resize(from + self.words(), 0);
        for start in &self.starts {
            set(states.get_mut(from..), *start);
        }
        self.root
    }

    /// One step down, from a value with the states `from`: appends the states of the value there, and gives its mask, the
    /// first of the policy that names it by a path.
    pub fn step(&self, from: &[u64], step: Step<'_>, to: &mut Vec<u64>) -> Option<MaskId> {
        let base = to.len();
        to.resize(base + self.words(), 0);
        let mut found: Option<MaskId> = None;
        for (word, bits) in from.iter().enumerate() {
            let mut bits = *bits;
            while bits != 0 {
                let at = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let Some(Segment { segment, last }) = self.segments.get(at) else {
                    continue;
                };
                if segment.descendant {
                    set(to.get_mut(base..), at);
                }
                let selected = segment.selectors.iter().any(|selector| match step {
                    Step::Member(name) => selector.selects_name(name),
                    Step::Element(index) => selector.selects_index(index),
                });
                match (selected, last) {
                    (true, Some(id)) => found = earlier(found, Some(*id)),
                    (true, None) => set(to.get_mut(base..), at + 1),
                    (false, _) => {}
                }
            }
        }
        found
    }

    /// The mask of what stands under the key `name`: the first of the policy that names it.
    pub fn key(&self, name: &str) -> Option<MaskId> {
        if self.keys.is_empty() {
            return None;
        }
        let folded = name.to_ascii_lowercase();
        self.keys
            .iter()
            .find(|(pattern, _)| pattern.matches_folded(&folded))
            .map(|(_, id)| *id)
    }

    /// The mask of the header field `name`, in lower case.
    pub fn header(&self, name: &str) -> Option<MaskId> {
        self.headers
            .iter()
            .find(|(pattern, _)| pattern.matches(name))
            .map(|(_, id)| *id)
    }
}

/// The mask that stands first in the policy: masks are numbered in its order.
pub fn earlier(one: Option<MaskId>, other: Option<MaskId>) -> Option<MaskId> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if one.0 <= other.0 { one } else { other }),
        (one, other) => one.or(other),
    }
}

fn set(states: Option<&mut [u64]>, at: usize) {
    if let Some(word) = states.and_then(|states| states.get_mut(at / 64)) {
        *word |= 1 << (at % 64);
    }
}
