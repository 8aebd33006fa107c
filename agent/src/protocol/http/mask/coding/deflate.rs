//! gzip, and deflate with and without its wrapping.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Bad, Step};

/// Largest window: what every decoder has.
const WINDOW_BITS: u8 = 15;
/// Quick, and hardly larger than the usual level.
const LEVEL: u32 = 4;
/// Room that is made for the output of a step.
const ROOM: usize = 32 * 1024;

#[derive(Debug)]
pub(super) struct Decoder {
    state: State,
}

#[derive(Debug)]
enum State {
    /// `deflate`: the first bytes say which.
    ExpectHeader(Vec<u8>),
    Expect {
        inflate: Decompress,
        /// More members may follow (RFC 1952, 2.2).
        members: bool,
        /// Bytes that were looked at and have not been decoded.
        before: Vec<u8>,
        whole: bool,
    },
}

impl Decoder {
    pub(super) fn gzip() -> Self {
        Self {
            state: State::Expect {
                inflate: Decompress::new_gzip(WINDOW_BITS),
                members: true,
                before: Vec::new(),
                whole: false,
            },
        }
    }

    pub(super) fn deflate() -> Self {
        Self {
            state: State::ExpectHeader(Vec::new()),
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.state, State::Expect { whole: true, .. })
    }

    pub(super) fn step(&mut self, input: &[u8], block: &mut [u8]) -> Result<Step, Bad> {
        let mut looked_at = 0;
        if let State::ExpectHeader(start) = &mut self.state {
            while let Some(byte) = input.get(looked_at)
                && start.len() < 2
            {
                start.push(*byte);
                looked_at += 1;
            }
            let [first, second] = *start.as_slice() else {
                return Ok(Step {
                    taken: looked_at,
                    given: 0,
                });
            };
            // RFC 1950, 2.2: method 8, and a check of both bytes.
            let wrapped = first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
            self.state = State::Expect {
                inflate: Decompress::new(wrapped),
                members: false,
                before: std::mem::take(start),
                whole: false,
            };
        }
        let State::Expect {
            inflate,
            members,
            before,
            whole,
        } = &mut self.state
        else {
            return Ok(Step::default());
        };
        let rest = input.get(looked_at..).unwrap_or_default();
        if *whole && before.is_empty() {
            if rest.is_empty() {
                return Ok(Step {
                    taken: looked_at,
                    given: 0,
                });
            }
            if !*members {
                return Err(Bad("bytes behind its end"));
            }
            *inflate = Decompress::new_gzip(WINDOW_BITS);
            *whole = false;
        }
        let mut given = 0;
        if !before.is_empty() {
            let step = inflate_into(inflate, before, block, whole)?;
            before.drain(..step.taken.min(before.len()));
            given = step.given;
            if !before.is_empty() {
                return Err(Bad("bytes behind its end"));
            }
        }
        if *whole || rest.is_empty() {
            return Ok(Step {
                taken: looked_at,
                given,
            });
        }
        let step = inflate_into(inflate, rest, block.get_mut(given..).unwrap_or_default(), whole)?;
        Ok(Step {
            taken: looked_at + step.taken,
            given: given + step.given,
        })
    }
}

fn inflate_into(
    inflate: &mut Decompress,
    source: &[u8],
    block: &mut [u8],
    whole: &mut bool,
) -> Result<Step, Bad> {
    let (taken, given) = (inflate.total_in(), inflate.total_out());
    let status = inflate
        .decompress(source, block, FlushDecompress::None)
        .map_err(|_| Bad("its bytes are none"))?;
    *whole = status == Status::StreamEnd;
    Ok(Step {
        taken: usize::try_from(inflate.total_in() - taken).unwrap_or(usize::MAX),
        given: usize::try_from(inflate.total_out() - given).unwrap_or(usize::MAX),
    })
}

#[derive(Debug)]
pub(super) struct Encoder {
    deflate: Compress,
}

impl Encoder {
    pub(super) fn gzip() -> Self {
        Self {
            deflate: Compress::new_gzip(Compression::new(LEVEL), WINDOW_BITS),
        }
    }

    pub(super) fn zlib() -> Self {
        Self {
            deflate: Compress::new(Compression::new(LEVEL), true),
        }
    }

    pub(super) fn push(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Bad> {
        if piece.is_empty() {
            return Ok(());
        }
        self.run(piece, FlushCompress::None, out)
    }

    pub(super) fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        self.run(&[], FlushCompress::Sync, out)
    }

    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Bad> {
        self.run(&[], FlushCompress::Finish, out)
    }

    fn run(&mut self, mut piece: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Result<(), Bad> {
        loop {
            out.reserve(ROOM);
            let taken = self.deflate.total_in();
            let status = self
                .deflate
                .compress_vec(piece, out, flush)
                .map_err(|_| Bad("it could not be written"))?;
            let taken = usize::try_from(self.deflate.total_in() - taken).unwrap_or(usize::MAX);
            piece = piece.get(taken..).unwrap_or_default();
            let room_left = out.len() < out.capacity();
            match status {
                Status::StreamEnd => return Ok(()),
                Status::Ok | Status::BufError if piece.is_empty() && room_left => return Ok(()),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}
