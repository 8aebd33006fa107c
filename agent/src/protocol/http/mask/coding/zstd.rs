//! zstd.

use std::fmt;

use zstd::stream::raw::{self, DParameter, InBuffer, Operation, OutBuffer};

use super::{Bad, Step};

/// Windows up to 8 MiB: what a receiver of this content coding has to take, and the most that it may be sent (RFC 9659).
const WINDOW_LOG_MAX: u32 = 23;
const LEVEL: i32 = 3;
const ROOM: usize = 32 * 1024;

pub(super) struct Decoder {
    /// `None`: it could not be made.
    machine: Option<raw::Decoder<'static>>,
    /// Between two frames.
    whole: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let machine = raw::Decoder::new().ok().and_then(|mut machine| {
            machine
                .set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX))
                .ok()?;
            Some(machine)
        });
        Self {
            machine,
            whole: false,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn step(&mut self, input: &[u8], block: &mut [u8]) -> Result<Step, Bad> {
        if self.whole && input.is_empty() {
            return Ok(Step::default());
        }
        let machine = self.machine.as_mut().ok_or(Bad("no memory for it"))?;
        let mut source = InBuffer::around(input);
        let mut target = OutBuffer::around(block);
        let hint = machine
            .run(&mut source, &mut target)
            .map_err(|_| Bad("its bytes are none, or its window is larger than 8 MiB"))?;
        self.whole = hint == 0;
        Ok(Step {
            taken: source.pos(),
            given: target.pos(),
        })
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

pub(super) struct Encoder {
    machine: Option<raw::Encoder<'static>>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            machine: raw::Encoder::new(LEVEL).ok(),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
        let machine = self.machine.as_mut().ok_or(Bad("no memory for it"))?;
        let mut source = InBuffer::around(piece);
        while source.pos() < piece.len() {
            append(out, |target| machine.run(&mut source, target))?;
        }
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        let machine = self.machine.as_mut().ok_or(Bad("no memory for it"))?;
        while append(out, |target| machine.flush(target))? > 0 {}
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        let machine = self.machine.as_mut().ok_or(Bad("no memory for it"))?;
        while append(out, |target| machine.finish(target, true))? > 0 {}
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

/// Runs one step into the room behind `out`, and gives what the step gave.
fn append(
    out: &mut Vec<u8>,
    step: impl FnOnce(&mut OutBuffer<'_, [u8]>) -> std::io::Result<usize>,
) -> Result<usize, Bad> {
    let start = out.len();
    out.resize(start + ROOM, 0);
    let mut target = OutBuffer::around(out.get_mut(start..).unwrap_or_default());
    let result = step(&mut target).map_err(|_| Bad("it could not be written"));
    let given = target.pos();
    out.truncate(start + given);
    result
}
