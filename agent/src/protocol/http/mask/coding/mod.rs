//! Content codings (RFC 9110, 8.4.1): undone in blocks of bounded size, and applied again.

mod brotli;
mod deflate;
mod zstd;

#[cfg(test)]
mod tests;

use super::Unmaskable;

/// A content coding that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950; read as RFC 1951 too, which some servers send under this name. Written as RFC 1950.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, with windows up to 8 MiB (RFC 9659).
    Zstd,
}

impl Coding {
    /// The coding of this name, in any case.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "deflate" => Self::Deflate,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            _ => return None,
        })
    }

    const fn shown(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }
}

/// Most bytes that are decoded before they are handed on.
const BLOCK: usize = 64 * 1024;

/// Takes decoded bytes.
pub(super) type Take<'t> = dyn FnMut(&[u8]) -> Result<(), Unmaskable> + 't;

/// Undoes one coding.
#[derive(Debug)]
pub(super) struct Decoder {
    coding: Coding,
    machine: Machine,
    block: Vec<u8>,
    taken: u64,
}

#[derive(Debug)]
enum Machine {
    Deflate(deflate::Decoder),
    Brotli(brotli::Decoder),
    Zstd(zstd::Decoder),
}

/// What one step of a decoder did.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    /// Bytes that it took.
    taken: usize,
    /// Bytes that it gave.
    given: usize,
}

/// Bytes that a coding does not have.
#[derive(Debug)]
struct Bad(&'static str);

impl Decoder {
    pub(super) fn new(coding: Coding) -> Self {
        let machine = match coding {
            Coding::Gzip => Machine::Deflate(deflate::Decoder::gzip()),
            Coding::Deflate => Machine::Deflate(deflate::Decoder::deflate()),
            Coding::Brotli => Machine::Brotli(brotli::Decoder::new()),
            Coding::Zstd => Machine::Zstd(zstd::Decoder::new()),
        };
        Self {
            coding,
            machine,
            block: vec![0; BLOCK],
            taken: 0,
        }
    }

    /// Decodes `piece`, and hands on what it becomes in blocks.
    pub(super) fn push(&mut self, piece: &[u8], take: &mut Take<'_>) -> Result<(), Unmaskable> {
        let mut rest = piece;
        loop {
            let step = match &mut self.machine {
                Machine::Deflate(machine) => machine.step(rest, &mut self.block),
                Machine::Brotli(machine) => machine.step(rest, &mut self.block),
                Machine::Zstd(machine) => machine.step(rest, &mut self.block),
            };
            let step = step.map_err(|Bad(why)| Unmaskable::Malformed {
                what: self.coding.shown(),
                why,
                at: self.taken,
            })?;
            self.taken += step.taken as u64;
            rest = rest.get(step.taken..).unwrap_or_default();
            if step.given > 0 {
                take(self.block.get(..step.given).unwrap_or_default())?;
            }
            // A full block may have left more behind.
            let stalled = step.taken == 0 && step.given == 0;
            if rest.is_empty() && step.given < self.block.len() || stalled {
                return Ok(());
            }
        }
    }

    /// Ends the coding, which has to be whole.
    pub(super) fn finish(&mut self) -> Result<(), Unmaskable> {
        let whole = match &self.machine {
            Machine::Deflate(machine) => machine.is_whole(),
            Machine::Brotli(machine) => machine.is_whole(),
            Machine::Zstd(machine) => machine.is_whole(),
        };
        if whole {
            Ok(())
        } else {
            Err(Unmaskable::Truncated(self.coding.shown()))
        }
    }
}

/// Applies one coding.
#[derive(Debug)]
pub(super) struct Encoder {
    coding: Coding,
    machine: EncodingMachine,
}

#[derive(Debug)]
enum EncodingMachine {
    Deflate(deflate::Encoder),
    Brotli(brotli::Encoder),
    Zstd(zstd::Encoder),
}

impl Encoder {
    pub(super) fn new(coding: Coding) -> Self {
        let machine = match coding {
            Coding::Gzip => EncodingMachine::Deflate(deflate::Encoder::gzip()),
            Coding::Deflate => EncodingMachine::Deflate(deflate::Encoder::zlib()),
            Coding::Brotli => EncodingMachine::Brotli(brotli::Encoder::new()),
            Coding::Zstd => EncodingMachine::Zstd(zstd::Encoder::new()),
        };
        Self { coding, machine }
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let done = match &mut self.machine {
            EncodingMachine::Deflate(machine) => machine.push(piece, out),
            EncodingMachine::Brotli(machine) => machine.push(piece, out),
            EncodingMachine::Zstd(machine) => machine.push(piece, out),
        };
        self.checked(done)
    }

    /// Appends what is held back, in a way that a decoder gives all of it.
    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let done = match &mut self.machine {
            EncodingMachine::Deflate(machine) => machine.flush(out),
            EncodingMachine::Brotli(machine) => machine.flush(out),
            EncodingMachine::Zstd(machine) => machine.flush(out),
        };
        self.checked(done)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Unmaskable> {
        let done = match &mut self.machine {
            EncodingMachine::Deflate(machine) => machine.finish(out),
            EncodingMachine::Brotli(machine) => machine.finish(out),
            EncodingMachine::Zstd(machine) => machine.finish(out),
        };
        self.checked(done)
    }

    fn checked(&self, done: Result<(), Bad>) -> Result<(), Unmaskable> {
        done.map_err(|Bad(why)| Unmaskable::Malformed {
            what: self.coding.shown(),
            why,
            at: 0,
        })
    }
}
