//! br.

use std::fmt;
use std::io::Write;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, CompressorWriter};

use super::{Bad, Step};

/// Quick, and still smaller than gzip.
const QUALITY: u32 = 4;
/// Window of 1 MiB.
const WINDOW_BITS: u32 = 20;
const BUFFER: usize = 32 * 1024;

pub(super) struct Decoder {
    state: Box<BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>>,
    total: usize,
    whole: bool,
}

impl Decoder {
    /// Windows of more than 16 MiB, which no browser takes, are refused.
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        Self {
            state: Box::new(BrotliState::new_strict(alloc(), alloc(), alloc())),
            total: 0,
            whole: false,
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    pub(super) fn step(&mut self, input: &[u8], block: &mut [u8]) -> Result<Step, Bad> {
        if self.whole {
            return if input.is_empty() {
                Ok(Step::default())
            } else {
                Err(Bad("bytes behind its end"))
            };
        }
        let (mut available_in, mut taken) = (input.len(), 0);
        let (mut available_out, mut given) = (block.len(), 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut taken,
            input,
            &mut available_out,
            &mut given,
            block,
            &mut self.total,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Bad("its bytes are none")),
            BrotliResult::ResultSuccess => self.whole = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Step { taken, given })
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

pub(super) struct Encoder {
    /// `None`: it has been finished.
    writer: Option<Box<CompressorWriter<Vec<u8>>>>,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            writer: Some(Box::new(CompressorWriter::new(
                Vec::new(),
                BUFFER,
                QUALITY,
                WINDOW_BITS,
            ))),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
        let Some(writer) = &mut self.writer else {
            return Err(FINISHED);
        };
        writer.write_all(piece).map_err(|_| UNWRITTEN)?;
        out.append(writer.get_mut());
        Ok(())
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        let Some(writer) = &mut self.writer else {
            return Err(FINISHED);
        };
        writer.flush().map_err(|_| UNWRITTEN)?;
        out.append(writer.get_mut());
        Ok(())
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        let Some(writer) = self.writer.take() else {
            return Err(FINISHED);
        };
        out.append(&mut writer.into_inner());
        Ok(())
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Encoder")
    }
}

const FINISHED: Bad = Bad("it goes on behind its end");
const UNWRITTEN: Bad = Bad("it could not be written");
