//! Detectors: values known by what they look like.
//!
//! Each detector answers one question, `next(text, from)`: its first hit that begins at `from` or later. The answer
//! depends on nothing but the text from [`BEFORE`] bytes before the hit's start to [`AHEAD`] bytes after it. That is
//! what lets [`super::stream`] find the same hits in a value that it never has whole.
//!
//! Text without hits costs one vectorised pass a detector and no allocation.

mod aws;
mod bytes;
mod card;
mod email;
mod jwt;
mod private_key;

#[cfg(test)]
pub(super) mod tests;

use std::ops::Range;

use crate::config::{Detector, MaskOperator};

use super::keys::Keys;
use super::operator::REDACTED;
use super::partial;

/// Text before a hit's start that may decide whether it is one.
pub(super) const BEFORE: usize = 1024;
/// Longest hit that is given in one piece; a longer one goes on, see [`Hit::open`].
const LONGEST: usize = 16 * 1024;
/// Text after a hit's start that may decide whether it is one and where it ends.
pub(super) const AHEAD: usize = LONGEST + 2048;

/// How often the result is searched again: what a replacement joined may be a hit of its own.
const ROUNDS: usize = 4;

/// Every detector.
const ALL: [Detector; 5] = [
    Detector::Card,
    Detector::Email,
    Detector::Jwt,
    Detector::PrivateKey,
    Detector::AwsAccessKey,
];

/// The detectors that a policy asks for, each with the operator for its hits.
#[derive(Debug)]
pub(super) struct Detectors {
    operators: [(Detector, Option<MaskOperator>); ALL.len()],
    empty: bool,
}

/// A value found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) detector: Detector,
    pub(super) start: usize,
    pub(super) end: usize,
    /// The value goes on at `end`: ask [`resume`] for the rest.
    pub(super) open: bool,
}

impl Default for Detectors {
    fn default() -> Self {
        Self {
            operators: ALL.map(|detector| (detector, None)),
            empty: true,
        }
    }
}

impl Detectors {
    /// Adds `detector`, unless an earlier rule has named it.
    pub(super) fn add(&mut self, detector: Detector, operator: &MaskOperator) {
        for (known, chosen) in &mut self.operators {
            if *known == detector {
                chosen.get_or_insert_with(|| operator.clone());
            }
        }
        self.empty = false;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.empty
    }

    fn operator(&self, detector: Detector) -> &MaskOperator {
        self.operators
            .iter()
            .find(|(known, _)| *known == detector)
            .and_then(|(_, operator)| operator.as_ref())
            .unwrap_or(&MaskOperator::Redact)
    }
}

/// Walks over the hits of a text: leftmost first, the longest of those that begin together, none overlapping.
#[derive(Debug)]
pub(super) struct Scan<'t> {
    text: &'t [u8],
    /// Each detector's next hit, as far as it is known.
    next: [(Detector, Next); ALL.len()],
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Unknown,
    Known(Hit),
    /// No more.
    Done,
}

impl<'t> Scan<'t> {
    pub(super) fn new(detectors: &Detectors, text: &'t [u8]) -> Self {
        Self {
            text,
            next: detectors.operators.each_ref().map(|(detector, operator)| {
                let possible = operator.is_some() && text.len() >= shortest(*detector);
                (*detector, if possible { Next::Unknown } else { Next::Done })
            }),
        }
    }

    /// The first hit that begins at `from` or later; `from` must not go back.
    pub(super) fn next(&mut self, from: usize) -> Option<Hit> {
        let mut best: Option<Hit> = None;
        for (detector, next) in &mut self.next {
            let stale = match next {
                Next::Unknown => true,
                Next::Known(hit) => hit.start < from,
                Next::Done => false,
            };
            if stale {
                *next = find(*detector, self.text, from).map_or(Next::Done, Next::Known);
            }
            if let Next::Known(hit) = *next
                && best.is_none_or(|best| (hit.start, best.end) < (best.start, hit.end))
            {
                best = Some(hit);
            }
        }
        best
    }

    /// As [`Scan::next`], but a long hit is followed to its end.
    fn next_whole(&mut self, from: usize) -> Option<Hit> {
        let mut hit = self.next(from)?;
        while hit.open {
            let rest = resume(hit.detector, self.text, hit.end);
            hit.open = rest.open;
            hit.end = rest.end;
        }
        Some(hit)
    }
}

/// Fewest bytes of a hit, roughly: most values of a result are shorter.
fn shortest(detector: Detector) -> usize {
    match detector {
        Detector::Card => 13,
        Detector::Email => 6,
        Detector::AwsAccessKey => 20,
        Detector::Jwt => 16,
        Detector::PrivateKey => 40,
    }
}

fn find(detector: Detector, text: &[u8], from: usize) -> Option<Hit> {
    match detector {
        Detector::Card => card::next(text, from),
        Detector::Email => email::next(text, from),
        Detector::Jwt => jwt::next(text, from),
        Detector::PrivateKey => private_key::next(text, from),
        Detector::AwsAccessKey => aws::next(text, from),
    }
}

/// The rest of a hit that was cut at `from`.
pub(super) fn resume(detector: Detector, text: &[u8], from: usize) -> Hit {
    match detector {
        Detector::Jwt => jwt::resume(text, from),
        Detector::PrivateKey => private_key::resume(text, from),
        // These are never open.
        Detector::Card | Detector::Email | Detector::AwsAccessKey => Hit {
            detector,
            start: from,
            end: from,
            open: false,
        },
    }
}

/// Appends `text` with its hits replaced and gives their number; with none, appends nothing.
pub(super) fn replace(detectors: &Detectors, keys: &Keys, text: &[u8], out: &mut Vec<u8>) -> u32 {
    let start = out.len();
    let hits = replace_once(detectors, keys, text, out);
    if hits == 0 {
        return 0;
    }
    let mut more = 0;
    for _ in 0..ROUNDS {
        let again = {
            let done = out.get(start..).unwrap_or_default();
            if Scan::new(detectors, done).next(0).is_none() {
                return hits.saturating_add(more);
            }
            done.to_vec()
        };
        out.truncate(start);
        let found = replace_once(detectors, keys, &again, out);
        if out.get(start..) == Some(again.as_slice()) {
            // A constant that looks like what it replaces: it stands.
            return hits.saturating_add(more);
        }
        more = found.saturating_add(more);
    }
    out.truncate(start);
    out.extend_from_slice(REDACTED);
    hits.saturating_add(more)
}

/// The hits of the detectors that find secrets.
pub(super) fn secrets(text: &[u8]) -> Vec<(Detector, Range<usize>)> {
    let mut detectors = Detectors::default();
    for detector in [Detector::Jwt, Detector::PrivateKey, Detector::AwsAccessKey] {
        detectors.add(detector, &MaskOperator::Redact);
    }
    let mut scan = Scan::new(&detectors, text);
    let mut done = 0;
    std::iter::from_fn(|| {
        let hit = scan.next_whole(done)?;
        done = hit.end.max(done + 1);
        Some((hit.detector, hit.start..hit.end))
    })
    .collect()
}

fn replace_once(detectors: &Detectors, keys: &Keys, text: &[u8], out: &mut Vec<u8>) -> u32 {
    let mut scan = Scan::new(detectors, text);
    let mut hits: u32 = 0;
    let mut done = 0;
    while let Some(hit) = scan.next_whole(done) {
        out.extend_from_slice(text.get(done..hit.start).unwrap_or_default());
        let value = text.get(hit.start..hit.end).unwrap_or_default();
        put(hit.detector, detectors.operator(hit.detector), keys, value, out);
        done = hit.end;
        hits = hits.saturating_add(1);
    }
    if hits > 0 {
        out.extend_from_slice(text.get(done..).unwrap_or_default());
    }
    hits
}

fn put(detector: Detector, operator: &MaskOperator, keys: &Keys, value: &[u8], out: &mut Vec<u8>) {
    match (operator, detector) {
        (MaskOperator::Null, _) => {}
        (MaskOperator::Hash, _) => keys.hash_text(value, out),
        (MaskOperator::Constant(constant), _) => out.extend_from_slice(constant.as_bytes()),
        (MaskOperator::Partial, Detector::Card | Detector::Email) => match std::str::from_utf8(value) {
            Ok(value) => partial::text(value, out),
            Err(_) => out.extend_from_slice(marker(detector)),
        },
        // No part of a key is worth showing.
        (MaskOperator::Redact, _)
        | (MaskOperator::Partial, Detector::Jwt | Detector::PrivateKey | Detector::AwsAccessKey) => {
            out.extend_from_slice(marker(detector));
        }
    }
}

/// What stands for a hit in a text that is forgotten as it passes. A hit that is taken away would join what stands around
/// it, and nobody would look at that again: it leaves the marker.
pub(super) fn put_streamed(detectors: &Detectors, keys: &Keys, hit: Hit, value: &[u8], out: &mut Vec<u8>) {
    let operator = detectors.operator(hit.detector);
    if hit.open || *operator == MaskOperator::Null {
        out.extend_from_slice(marker(hit.detector));
    } else {
        put(hit.detector, operator, keys, value, out);
    }
}

fn marker(detector: Detector) -> &'static [u8] {
    match detector {
        Detector::Card => b"[redacted:card]",
        Detector::Email => b"[redacted:email]",
        Detector::Jwt => b"[redacted:jwt]",
        Detector::PrivateKey => b"[redacted:private-key]",
        Detector::AwsAccessKey => b"[redacted:aws-access-key]",
    }
}
