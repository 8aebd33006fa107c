//! Payment card numbers: 13 to 19 digits, whole or in groups with single blanks or dashes between them.
//!
//! Checked by the number ranges and lengths of the big networks and by the Luhn digit (ISO/IEC 7812-1). Known limit: one
//! in ten numbers of the right length and range passes the Luhn check by chance, so an id column of 16 digits that begins
//! with 4 has false hits.

use super::Hit;
use super::bytes::{before, escape_ends, run_end};
use crate::config::Detector;

const FEWEST: usize = 13;
const MOST: usize = 19;
/// Fewest digits of a group that another one follows. With single separators, so of four neighbouring bytes of a
/// number three are digits.
const SHORTEST_GROUP: usize = 3;
/// How far a look at four bytes that are no part of a number leads.
const STRIDE: usize = FEWEST - SHORTEST_GROUP;
/// How far a word around the digits is looked at.
const WORD: usize = 8;

pub(super) fn next(text: &[u8], from: usize) -> Option<Hit> {
    let mut at = from;
    while let Some(start) = next_group(text, at) {
        if let Some(end) = card_at(text, start) {
            return Some(Hit {
                detector: Detector::Card,
                start,
                end,
                open: false,
            });
        }
        at = digits_end(text, start);
    }
    None
}

/// The first group of digits that begins at `at` or later and could begin a number.
fn next_group(text: &[u8], mut at: usize) -> Option<usize> {
    // Every number that begins before `at + STRIDE` covers the last bytes of this window.
    while let probe = text.get(at..at + FEWEST)?.get(STRIDE - 1..)?
        && !is_inside(probe)
    {
        at += STRIDE;
    }
    if before(text, at).is_some_and(|byte| byte.is_ascii_digit()) {
        at = digits_end(text, at);
    }
    let rest = text.get(at..)?;
    Some(at + rest.iter().position(u8::is_ascii_digit)?)
}

/// Whether four neighbouring bytes could be part of a number: at most one of them is a separator.
fn is_inside(probe: &[u8]) -> bool {
    let digits = probe.iter().filter(|byte| byte.is_ascii_digit()).count();
    let blanks = probe.iter().filter(|byte| matches!(byte, b' ' | b'-')).count();
    blanks <= 1 && digits + blanks == probe.len()
}

fn digits_end(text: &[u8], at: usize) -> usize {
    run_end(text, at, |byte| byte.is_ascii_digit())
}

/// End of the longest card number that begins with the group at `start`.
fn card_at(text: &[u8], start: usize) -> Option<usize> {
    let plausible = matches!(text.get(start), Some(b'2'..=b'6'));
    if !plausible || is_fraction(text, start) || hex_before(text, start) {
        return None;
    }
    let mut number = Digits::default();
    let mut separator = None;
    let mut at = start;
    let mut found = None;
    loop {
        let group = at;
        while let Some(digit) = text.get(at).filter(|byte| byte.is_ascii_digit()) {
            if !number.push(digit - b'0') {
                return found;
            }
            at += 1;
        }
        if number.is_card() && !hex_after(text, at) {
            found = Some(at);
        }
        let Some([between @ (b' ' | b'-'), b'0'..=b'9']) = text.get(at..at + 2) else {
            return found;
        };
        if at - group < SHORTEST_GROUP || separator.is_some_and(|separator| separator != between) {
            return found;
        }
        separator = Some(between);
        at += 1;
    }
}

/// `0.4111111111111111` is a fraction.
fn is_fraction(text: &[u8], start: usize) -> bool {
    matches!(text.get(..start), Some([.., b'0'..=b'9', b'.']))
}

/// The digits are the end of a hexadecimal word: a hash, not a card.
fn hex_before(text: &[u8], start: usize) -> bool {
    let word = text.get(start.saturating_sub(WORD)..start).unwrap_or_default();
    let touches = word.last().is_some_and(u8::is_ascii_alphabetic);
    let word = word.rsplit(|byte| !byte.is_ascii_alphanumeric()).next();
    touches && !escape_ends(text, start) && word.is_some_and(|word| word.iter().all(u8::is_ascii_hexdigit))
}

/// The digits are the beginning of a hexadecimal word.
fn hex_after(text: &[u8], end: usize) -> bool {
    let rest = text.get(end..).unwrap_or_default();
    let word = rest.get(..WORD).unwrap_or(rest);
    let touches = word.first().is_some_and(u8::is_ascii_alphabetic);
    let word = word.split(|byte| !byte.is_ascii_alphanumeric()).next();
    touches && word.is_some_and(|word| word.iter().all(u8::is_ascii_hexdigit))
}

#[derive(Default)]
struct Digits {
    digits: [u8; MOST],
    count: usize,
}

impl Digits {
    /// Adds a digit; false where there are too many.
    fn push(&mut self, digit: u8) -> bool {
        match self.digits.get_mut(self.count) {
            Some(place) => {
                *place = digit;
                self.count += 1;
                true
            }
            None => false,
        }
    }

    fn is_card(&self) -> bool {
        self.count >= FEWEST && is_issued(self.prefix(6), self.count) && self.luhn()
    }

    /// The number that the first `length` digits are.
    fn prefix(&self, length: usize) -> u32 {
        self.digits
            .iter()
            .take(length)
            .fold(0, |number, digit| number * 10 + u32::from(*digit))
    }

    fn luhn(&self) -> bool {
        let digits = self.digits.get(..self.count).unwrap_or_default();
        let sum: u32 = digits
            .iter()
            .rev()
            .enumerate()
            .map(|(place, digit)| {
                let weighed = u32::from(*digit) << (place % 2);
                if weighed > 9 { weighed - 9 } else { weighed }
            })
            .sum();
        sum.is_multiple_of(10)
    }
}

/// Whether a network issues numbers of this length that begin with these six digits.
fn is_issued(six: u32, length: usize) -> bool {
    let (two, three, four) = (six / 10_000, six / 1_000, six / 100);
    let visa = two / 10 == 4 && matches!(length, 13 | 16 | 19);
    let mastercard = matches!(four, 5100..=5599 | 2221..=2720) && length == 16;
    let amex = matches!(two, 34 | 37) && length == 15;
    let diners = matches!(two, 36 | 38 | 39) || matches!(three, 300..=305 | 309);
    let discover = four == 6011 || matches!(three, 644..=649) || two == 65;
    let jcb = matches!(four, 3528..=3589);
    let union_pay = two == 62;
    let mir = matches!(four, 2200..=2204);
    let maestro = matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763);
    let long = (discover || jcb || union_pay || mir) && length >= 16;
    visa || mastercard || amex || (diners && length >= 14) || long || maestro
}
