//! JSON (RFC 8259) of any size, and several documents in one body: one a line, separated (RFC 7464), or one behind the other,
//! as servers that stream send them.
//!
//! A pushdown tokenizer: what is masked is replaced in place, everything else goes on as it came, byte for byte. Kept is one
//! small frame for each open object or array, and of values only those that have to be looked at whole. What is no JSON is
//! refused, because another reader could find something in it that was not found here.
//!
//! Strings of more than 16 KiB are masked without being had whole: detectors overwrite what they find with `*`.

mod escape;
mod long;
mod number;
mod structure;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crate::mask::{JsonValue, MaskId, Masks, ValueHash, put_string};

use super::counts::Counts;
use super::{Transform, Unmaskable};
use long::LongString;
use number::Number;

/// Deepest nesting. Readers that take more are rare.
const DEEPEST: usize = 2048;
/// Longest string that is looked at whole, with its quotes and escapes.
const LONGEST_STRING: usize = 16 * 1024;
/// Longest number that is looked at.
const LONGEST_NUMBER: usize = 1024;

/// Masks JSON.
#[derive(Debug)]
pub(super) struct Json {
    masks: Arc<Masks>,
    keys: bool,
    detect: bool,
    /// Words of a set of states of the paths.
    words: usize,
    stack: Vec<Frame>,
    /// The states of each frame, one behind the other.
    states: Vec<u64>,
    /// The states of the value that comes next.
    next_states: Vec<u64>,
    /// The mask of the value that comes next.
    next_mask: Option<MaskId>,
    expect: Expect,
    lex: Lex,
    /// What is done with the token that is open.
    hold: Hold,
    /// The part of a held token that came in earlier pieces.
    token: Vec<u8>,
    /// An object or array that is being masked.
    dropped: Option<Dropped>,
    /// Bytes of the body before the current piece.
    before: u64,
    scratch: Vec<u8>,
    counts: Counts,
}

/// An open object or array.
#[derive(Clone, Copy, Debug)]
struct Frame {
    object: bool,
    /// Elements that have begun.
    elements: u64,
    /// Whether a path could still lead to something in it.
    live: bool,
}

#[derive(Debug)]
struct Dropped {
    /// How many frames are around it.
    depth: usize,
    id: MaskId,
    hash: ValueHash,
}

/// What may come between tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// The first byte of the body.
    Start,
    /// A document, or the end.
    Document,
    FirstElement,
    Element,
    FirstMember,
    Member,
    Colon,
    MemberValue,
    AfterElement,
    AfterMember,
}

/// The token that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lex {
    Between,
    String {
        name: bool,
        /// Whether it has had a backslash.
        escapes: bool,
        /// Whether the last byte was a backslash that escapes the next.
        escaping: bool,
    },
    Number(Number),
    /// `true`, `false`, `null`, and how much of it has been seen.
    Word(&'static [u8], usize),
    /// The byte order mark, which RFC 8259 lets readers ignore.
    Mark(usize),
}

#[derive(Debug)]
enum Hold {
    /// It goes on as it came.
    Pass,
    /// It is kept until it is whole.
    Keep(Option<MaskId>),
    /// A string that is too long to be kept: detectors.
    Scan(Box<LongString>),
    /// A string that is too long to be kept: masked.
    Drop(MaskId, ValueHash),
}

const MARK: &[u8] = b"\xef\xbb\xbf";

impl Json {
    pub(super) fn new(masks: Arc<Masks>) -> Self {
        Self {
            keys: masks.names().has_keys(),
            detect: masks.has_detectors(),
            words: masks.names().words(),
            masks,
            stack: Vec::new(),
            states: Vec::new(),
            next_states: Vec::new(),
            next_mask: None,
            expect: Expect::Start,
            lex: Lex::Between,
            hold: Hold::Pass,
            token: Vec::new(),
            dropped: None,
            before: 0,
            scratch: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn malformed(&self, why: &'static str, at: usize) -> Unmaskable {
        Unmaskable::Malformed {
            what: "JSON",
            why,
            at: self.before + at as u64,
        }
    }

    /// Gives bytes on, or to the hash of what is masked.
    fn pass(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match &mut self.dropped {
            Some(dropped) => dropped.hash.update(bytes),
            None => out.extend_from_slice(bytes),
        }
    }

    fn take(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let mut piece = Piece {
            bytes: piece,
            at: 0,
            run: 0,
            held_from: None,
        };
        while let Some(byte) = piece.peek() {
            match self.lex {
                Lex::Between => self.between(byte, &mut piece, out)?,
                Lex::String {
                    name,
                    escapes,
                    escaping,
                } => self.string(name, escapes, escaping, &mut piece, out)?,
                Lex::Number(number) => self.number(number, &mut piece, out)?,
                Lex::Word(word, seen) => self.word(word, seen, byte, &mut piece, out)?,
                Lex::Mark(seen) => self.mark(seen, byte, &mut piece)?,
            }
        }
        self.end_of(&piece, out)?;
        self.before += piece.bytes.len() as u64;
        Ok(())
    }

    /// Gives on what has passed, and keeps what is held.
    fn end_of(&mut self, piece: &Piece<'_>, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let held = piece.held_from.unwrap_or(0);
        match &mut self.hold {
            Hold::Pass => self.pass(piece.since(piece.run, piece.at), out),
            _ if self.lex == Lex::Between => self.pass(piece.since(piece.run, piece.at), out),
            Hold::Keep(_) => {
                if piece.held_from.is_some() {
                    self.pass(piece.since(piece.run, held), out);
                }
                self.token.extend_from_slice(piece.since(held, piece.at));
                self.grow(out)?;
            }
            Hold::Scan(long) => {
                let masks = self.masks.clone();
                long.push(&masks, piece.since(piece.run, piece.at), out)
                    .map_err(|why| self.malformed(why, piece.at))?;
            }
            Hold::Drop(_, hash) => hash.update(piece.since(piece.run, piece.at)),
        }
        Ok(())
    }

    /// A held token that has become too long to be held.
    fn grow(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        match self.lex {
            Lex::String { name: false, .. } if self.token.len() > LONGEST_STRING => {
                let token = std::mem::take(&mut self.token);
                let inner = token.get(1..).unwrap_or_default();
                if let Hold::Keep(Some(id)) = self.hold {
                    let mut hash = self.masks.hasher();
                    hash.update(inner);
                    self.hold = Hold::Drop(id, hash);
                } else {
                    let mut long = LongString::default();
                    out.push(b'"');
                    long.push(&self.masks, inner, out)
                        .map_err(|why| self.malformed(why, 0))?;
                    self.hold = Hold::Scan(Box::new(long));
                }
                Ok(())
            }
            Lex::String { name: true, .. } if self.token.len() > LONGEST_STRING => Err(TOO_LONG_NAME),
            Lex::Number(_) if self.token.len() > LONGEST_NUMBER => Err(TOO_LONG_NUMBER),
            _ => Ok(()),
        }
    }

    fn between(&mut self, byte: u8, piece: &mut Piece<'_>, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
            if self.expect == Expect::Start {
                self.expect = Expect::Document;
            }
            piece.at += 1;
            return Ok(());
        }
        match (self.expect, byte) {
            (Expect::Start, b'\xef') => self.lex = Lex::Mark(0),
            // RFC 7464, 2.2: what each document of a sequence begins with.
            (Expect::Start | Expect::Document, 0x1e) => {
                self.expect = Expect::Document;
                piece.at += 1;
            }
            (Expect::FirstElement | Expect::AfterElement, b']')
            | (Expect::FirstMember | Expect::AfterMember, b'}') => {
                piece.at += 1;
                self.close(piece, out);
            }
            (Expect::AfterElement, b',') => {
                self.expect = Expect::Element;
                piece.at += 1;
            }
            (Expect::AfterMember, b',') => {
                self.expect = Expect::Member;
                piece.at += 1;
            }
            (Expect::Colon, b':') => {
                self.expect = Expect::MemberValue;
                piece.at += 1;
            }
            (Expect::FirstMember | Expect::Member, b'"') => {
                let live = self.stack.last().is_some_and(|frame| frame.live);
                let wanted = self.dropped.is_none() && (live || self.keys || self.detect);
                self.hold = if wanted { Hold::Keep(None) } else { Hold::Pass };
                self.next_mask = None;
                self.next_states.clear();
                self.open_string(true, piece);
            }
            (
                Expect::Start
                | Expect::Document
                | Expect::FirstElement
                | Expect::Element
                | Expect::MemberValue,
                _,
            ) => self.value(byte, piece, out)?,
            _ => return Err(self.malformed("something else has to stand here", piece.at)),
        }
        Ok(())
    }

    fn open_string(&mut self, name: bool, piece: &mut Piece<'_>) {
        self.lex = Lex::String {
            name,
            escapes: false,
            escaping: false,
        };
        piece.held_from = Some(piece.at);
        piece.at += 1;
    }

    /// The first byte of a value.
    fn value(&mut self, byte: u8, piece: &mut Piece<'_>, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let mask = self.mask_of_next();
        let looked_at = self.dropped.is_none() && (mask.is_some() || self.detect);
        self.hold = if looked_at { Hold::Keep(mask) } else { Hold::Pass };
        match byte {
            b'{' | b'[' => self.open(byte == b'{', mask, piece, out)?,
            b'"' => self.open_string(false, piece),
            b'-' | b'0'..=b'9' => {
                self.lex = Lex::Number(Number::Start);
                piece.held_from = Some(piece.at);
            }
            b't' | b'f' | b'n' => {
                if mask.is_none() {
                    // No detector finds anything in three words.
                    self.hold = Hold::Pass;
                }
                let word: &[u8] = match byte {
                    b't' => b"true",
                    b'f' => b"false",
                    _ => b"null",
                };
                self.lex = Lex::Word(word, 0);
                piece.held_from = Some(piece.at);
            }
            _ => return Err(self.malformed("a value has to stand here", piece.at)),
        }
        Ok(())
    }

    fn mark(&mut self, seen: usize, byte: u8, piece: &mut Piece<'_>) -> Result<(), Unmaskable> {
        if MARK.get(seen) != Some(&byte) {
            return Err(self.malformed("a value has to stand here", piece.at));
        }
        piece.at += 1;
        if seen + 1 == MARK.len() {
            self.lex = Lex::Between;
            self.expect = Expect::Document;
        } else {
            self.lex = Lex::Mark(seen + 1);
        }
        Ok(())
    }

    fn word(
        &mut self,
        word: &'static [u8],
        seen: usize,
        byte: u8,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        if word.get(seen) != Some(&byte) {
            return Err(self.malformed("a value has to stand here", piece.at));
        }
        piece.at += 1;
        self.lex = Lex::Word(word, seen + 1);
        if seen + 1 < word.len() {
            return Ok(());
        }
        if let Hold::Keep(Some(id)) = self.hold {
            let value = if word == b"null" {
                JsonValue::Null
            } else {
                JsonValue::Boolean
            };
            let mut masked = std::mem::take(&mut self.scratch);
            masked.clear();
            self.masks.mask_json(id, value, &mut masked);
            self.counts.named(id);
            self.replace(&masked, piece, out);
            self.scratch = masked;
        }
        self.value_ended();
        Ok(())
    }

    /// Writes what stands for the token that ends at `piece.at`.
    fn replace(&mut self, replacement: &[u8], piece: &mut Piece<'_>, out: &mut Vec<u8>) {
        if let Some(start) = piece.held_from.take() {
            self.pass(piece.since(piece.run, start), out);
        }
        self.token.clear();
        piece.run = piece.at;
        out.extend_from_slice(replacement);
    }

    /// Lets the token that ends at `piece.at` go on as it came.
    fn keep(&mut self, piece: &mut Piece<'_>, out: &mut Vec<u8>) {
        if piece.held_from.take().is_none() && !self.token.is_empty() {
            // Its first part came before this piece, which the rest of it is at the start of.
            out.extend_from_slice(&self.token);
            self.token.clear();
        }
    }

    fn number(&mut self, number: Number, piece: &mut Piece<'_>, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let mut number = number;
        while let Some(byte) = piece.peek() {
            match number.next(byte) {
                Some(next) => number = next,
                None => {
                    self.lex = Lex::Number(number);
                    return self.end_of_number(number, piece, out);
                }
            }
            piece.at += 1;
        }
        self.lex = Lex::Number(number);
        Ok(())
    }

    fn end_of_number(
        &mut self,
        number: Number,
        piece: &mut Piece<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unmaskable> {
        if !number.is_whole() {
            return Err(self.malformed("a number is not whole", piece.at));
        }
        if let Hold::Keep(mask) = self.hold {
            let mut written = std::mem::take(&mut self.scratch);
            written.clear();
            let hits = {
                let spilled;
                let digits = match piece.held_from {
                    Some(start) => piece.since(start, piece.at),
                    None => {
                        spilled = [self.token.as_slice(), piece.since(0, piece.at)].concat();
                        &spilled
                    }
                };
                if digits.len() > LONGEST_NUMBER {
                    return Err(TOO_LONG_NUMBER);
                }
                match mask {
                    Some(id) => {
                        self.masks.mask_json(id, JsonValue::Number(digits), &mut written);
                        0
                    }
                    None => self.detected(digits, &mut written),
                }
            };
            match mask {
                Some(id) => {
                    self.counts.named(id);
                    self.replace(&written, piece, out);
                }
                None if hits > 0 => self.replace(&written, piece, out),
                None => self.keep(piece, out),
            }
            self.scratch = written;
        }
        self.value_ended();
        Ok(())
    }

    /// Appends `text` as a string with its hits replaced, where there are any.
    fn detected(&mut self, text: &[u8], out: &mut Vec<u8>) -> u32 {
        let mut found = Vec::new();
        let hits = self.masks.detect(text, &mut found);
        if hits > 0 {
            self.counts.found("body", hits.into());
            put_string(&found, out);
        }
        hits
    }
}

impl Transform for Json {
    fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        self.take(piece, out)
    }

    fn flush(&mut self, _out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        // What is held is in the middle of a token, or a document that a number ends.
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        if let Lex::Number(number) = self.lex
            && self.stack.is_empty()
        {
            let mut nothing = Piece {
                bytes: &[],
                at: 0,
                run: 0,
                held_from: None,
            };
            self.end_of_number(number, &mut nothing, out)?;
        }
        let ended = self.lex == Lex::Between && matches!(self.expect, Expect::Start | Expect::Document);
        if ended {
            Ok(())
        } else {
            Err(Unmaskable::Truncated("JSON"))
        }
    }

    fn report(&mut self, counts: &mut Counts) {
        counts.take(&mut self.counts);
    }
}

const TOO_LONG_NAME: Unmaskable = Unmaskable::TooLarge("a member of JSON whose name has more than 16 KiB");
const TOO_LONG_NUMBER: Unmaskable = Unmaskable::TooLarge("a number of more than 1024 characters");

/// A piece of the body, and how far it has been read.
#[derive(Debug)]
struct Piece<'p> {
    bytes: &'p [u8],
    at: usize,
    /// What of it has been given on, or is kept elsewhere, ends here.
    run: usize,
    /// Where the open token begins, if that is in this piece.
    held_from: Option<usize>,
}

impl<'p> Piece<'p> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn since(&self, from: usize, to: usize) -> &'p [u8] {
        self.bytes.get(from..to).unwrap_or_default()
    }

    /// Goes to the next byte that ends a string, escapes, or may not be in one.
    fn skip_plain(&mut self) -> Option<u8> {
        let rest = self.bytes.get(self.at..)?;
        let plain = rest
            .iter()
            .position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\');
        self.at += plain.unwrap_or(rest.len());
        self.peek()
    }
}
