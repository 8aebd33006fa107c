//! Writes the blocks of one session: compressed, chained, signed, in segments.
//!
//! Every step can be repeated: where a write fails (the disk is full), the file is cut back to its last whole block
//! and the same call is made again later. Nothing is taken out of a journal before its block is written.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;

use parking_lot::Mutex;

use super::RecordError;
use super::block::{
    BLOCK_BYTES, BLOCK_HEADER, BlockHeader, BlockKind, Chain, Codec, HASH, LONGEST, PublicKey,
    SEGMENT_HEADER, SIGNED, SegmentHeader, extend,
};
use super::keys::sync_directory;
use super::layout::Layout;
use super::notary::Notary;
use super::scan::{Next, Scan};
use crate::model::SessionId;

/// Compression of one writer thread.
pub(super) struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl Packer {
    pub(super) fn new() -> Result<Self, RecordError> {
        // Level 1: the writer has to keep up with the sessions; records of text shrink three to five times with it.
        let compressor = zstd::bulk::Compressor::new(1)
            .map_err(|error| RecordError::io("compress", std::path::Path::new("a record"), error))?;
        Ok(Self {
            compressor,
            buffer: Vec::with_capacity(BLOCK_BYTES * 2),
        })
    }

    /// Packs `raw` in the smaller of the two ways.
    fn pack<'a>(&'a mut self, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        self.buffer.clear();
        self.buffer.reserve(zstd::zstd_safe::compress_bound(raw.len()));
        match self.compressor.compress_to_buffer(raw, &mut self.buffer) {
            Ok(packed) if packed < raw.len() => (Codec::Zstd, &self.buffer),
            // What does not compress, or what zstd does not take, is stored as it is.
            Ok(_) | Err(_) => (Codec::Stored, raw),
        }
    }
}

/// Identity and rules of a session's record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) session: SessionId,
    /// Unix time in nanoseconds.
    pub(super) started: i64,
    pub(super) host: PublicKey,
    /// Stored bytes behind which a segment is ended.
    pub(super) segment_bytes: u64,
    /// Whether blocks are put on stable storage before their journal is used again.
    pub(super) durable: bool,
}

/// The record of one session, open for writing.
pub(super) struct Sealer {
    layout: Layout,
    terms: Terms,
    segment: u32,
    file: Option<(File, PathBuf)>,
    /// Bytes of the open file that count.
    len: u64,
    chain: Chain,
    blocks: u64,
    frames: u64,
    /// Blocks that no signature covers.
    unsigned: u64,
    /// The seal that the open file ends with.
    ended: Option<BlockKind>,
    /// The session's seal is in place, under its final name.
    finished: bool,
}

impl Sealer {
    /// The record of a session that has none.
    pub(super) fn new(layout: &Layout, terms: Terms) -> Self {
        Self {
            layout: layout.clone(),
            terms,
            segment: 0,
            file: None,
            len: 0,
            chain: [0; 32],
            blocks: 0,
            frames: 0,
            unsigned: 0,
            ended: None,
            finished: false,
        }
    }

    /// The record that an agent that was killed left, cut behind its last whole block.
    ///
    /// # Errors
    /// A block that is whole does not follow from those before it, or a segment is missing: that is no work of a
    /// kill. Nothing is changed then.
    pub(super) fn resume(layout: &Layout, mut terms: Terms) -> Result<Self, RecordError> {
        let files = layout.segments_of(terms.session)?;
        let mut sealer = Self::new(layout, terms);
        for file in files {
            let damaged = |message: &str| RecordError::damaged(&file.path, message);
            if sealer.finished || sealer.file.is_some() || file.segment != sealer.segment {
                return Err(damaged("it is not the next segment of its session"));
            }
            let length =
                fs::metadata(&file.path).map_err(|error| RecordError::io("read", &file.path, error))?;
            if !file.sealed && length.len() < SEGMENT_HEADER as u64 {
                // The kill came before the first block.
                fs::remove_file(&file.path).map_err(|error| RecordError::io("remove", &file.path, error))?;
                continue;
            }
            let Some(mut scan) = Scan::open(&file.path)? else {
                return Err(damaged("it went away"));
            };
            let header = *scan.header();
            if header.session != terms.session
                || header.segment != file.segment
                || header.before != sealer.chain
            {
                return Err(damaged("its header is that of another session or segment"));
            }
            terms.started = header.started;
            sealer.terms.started = header.started;
            loop {
                match scan.next()? {
                    Next::Block(block) if block.intact => {
                        sealer.blocks = block.header.number + 1;
                        sealer.frames = block.header.first_frame + u64::from(block.header.frames);
                        sealer.unsigned = match block.header.kind {
                            BlockKind::Data => sealer.unsigned + 1,
                            _ => 0,
                        };
                    }
                    Next::Block(_) | Next::Malformed => return Err(damaged("a block of it was changed")),
                    Next::End { sealed } if sealed || !file.sealed => break,
                    Next::Torn if !file.sealed && scan.ended().is_none() => break,
                    Next::End { .. } | Next::Torn => return Err(damaged("it was cut, or added to")),
                }
            }
            sealer.chain = *scan.chain();
            sealer.len = scan.offset();
            if file.sealed {
                sealer.segment += 1;
                sealer.finished = scan.ended() == Some(BlockKind::SessionEnd);
            } else {
                let open = File::options()
                    .write(true)
                    .open(&file.path)
                    .map_err(|error| RecordError::io("open", &file.path, error))?;
                open.set_len(sealer.len)
                    .map_err(|error| RecordError::io("cut", &file.path, error))?;
                sealer.file = Some((open, file.path.clone()));
                sealer.ended = scan.ended();
            }
        }
        Ok(sealer)
    }

    /// Frames in the record.
    pub(super) fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether frames can still be added.
    pub(super) fn is_open(&self) -> bool {
        !self.finished && self.ended != Some(BlockKind::SessionEnd)
    }

    /// Adds a block of whole frames.
    pub(super) fn write(
        &mut self,
        packer: &mut Packer,
        notary: &Mutex<Notary>,
        raw: &[u8],
        frames: u32,
    ) -> Result<(), RecordError> {
        if self.len >= self.terms.segment_bytes || self.ended.is_some() {
            self.end_segment(notary)?;
        }
        let (codec, stored) = packer.pack(raw);
        let header = self.header(BlockKind::Data, codec, stored.len(), raw.len(), frames)?;
        self.append(&header, stored)?;
        self.unsigned += 1;
        if self.terms.durable {
            self.sync()?;
        }
        Ok(())
    }

    /// Signs what stands there, if anything is not signed yet.
    pub(super) fn checkpoint(&mut self, notary: &Mutex<Notary>) -> Result<(), RecordError> {
        if self.unsigned > 0 && self.ended.is_none() {
            self.sign(BlockKind::Checkpoint, notary)?;
        }
        Ok(())
    }

    /// Ends the record and enters that in the ledger.
    pub(super) fn finish(&mut self, notary: &Mutex<Notary>, crashed: bool) -> Result<(), RecordError> {
        if !self.finished {
            if self.ended == Some(BlockKind::SegmentEnd) {
                self.end_segment(notary)?;
            }
            self.seal(BlockKind::SessionEnd, notary)?;
            self.finished = true;
        }
        let mut notary = notary.lock();
        if notary.knows(self.terms.session) {
            notary.closed(self.terms.session, self.chain, self.frames, crashed)?;
        }
        Ok(())
    }

    fn end_segment(&mut self, notary: &Mutex<Notary>) -> Result<(), RecordError> {
        self.seal(BlockKind::SegmentEnd, notary)?;
        self.segment += 1;
        self.ended = None;
        Ok(())
    }

    fn seal(&mut self, kind: BlockKind, notary: &Mutex<Notary>) -> Result<(), RecordError> {
        if self.ended != Some(kind) {
            self.sign(kind, notary)?;
            self.ended = Some(kind);
        }
        if self.terms.durable {
            self.sync()?;
        }
        if let Some((_, path)) = &self.file {
            let sealed = self.layout.segment(self.terms.session, self.segment, true);
            fs::rename(path, &sealed).map_err(|error| RecordError::io("name", &sealed, error))?;
        }
        self.file = None;
        self.len = 0;
        if self.terms.durable {
            sync_directory(self.layout.directory())?;
        }
        Ok(())
    }

    fn sign(&mut self, kind: BlockKind, notary: &Mutex<Notary>) -> Result<(), RecordError> {
        self.open()?;
        let header = self.header(kind, Codec::Stored, SIGNED, SIGNED, 0)?;
        let checkpoint = notary
            .lock()
            .sign(self.terms.session, self.segment, &header, &self.chain);
        self.append(&header, &checkpoint.encode())?;
        self.unsigned = 0;
        notary
            .lock()
            .covered(self.terms.session, header.number, self.chain);
        Ok(())
    }

    fn header(
        &self,
        kind: BlockKind,
        codec: Codec,
        stored: usize,
        raw: usize,
        frames: u32,
    ) -> Result<BlockHeader, RecordError> {
        let length = |len: usize| {
            u32::try_from(len).ok().filter(|_| len <= LONGEST).ok_or_else(|| {
                RecordError::damaged(
                    self.layout.directory(),
                    "a block is longer than its format allows",
                )
            })
        };
        Ok(BlockHeader {
            kind,
            codec,
            stored: length(stored)?,
            raw: length(raw)?,
            frames,
            first_frame: self.frames,
            number: self.blocks,
        })
    }

    fn append(&mut self, header: &BlockHeader, stored: &[u8]) -> Result<(), RecordError> {
        self.open()?;
        let head = header.encode();
        let chain = extend(&self.chain, &head, stored);
        let at = self.len;
        let bytes = [
            (0, head.as_slice()),
            (BLOCK_HEADER, stored),
            (BLOCK_HEADER + stored.len(), &chain),
        ];
        let Some((file, path)) = &self.file else {
            return Err(RecordError::Stopped);
        };
        let written: io::Result<()> = bytes
            .iter()
            .try_for_each(|(offset, bytes)| file.write_all_at(bytes, at + *offset as u64));
        if let Err(error) = written {
            // Readers and the next start both take a torn tail for what it is, should this fail too.
            let _ = file.set_len(at);
            return Err(RecordError::io("write", path, error));
        }
        self.len = at + (BLOCK_HEADER + stored.len() + HASH) as u64;
        self.chain = chain;
        self.blocks += 1;
        self.frames += u64::from(header.frames);
        Ok(())
    }

    fn open(&mut self) -> Result<(), RecordError> {
        if self.file.is_some() {
            return Ok(());
        }
        let path = self.layout.segment(self.terms.session, self.segment, false);
        let header = SegmentHeader {
            segment: self.segment,
            session: self.terms.session,
            host: self.terms.host,
            before: self.chain,
            started: self.terms.started,
        };
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|file| {
                file.write_all_at(&header.encode(), 0)?;
                Ok(file)
            })
            .map_err(|error| RecordError::io("create", &path, error))?;
        if self.terms.durable {
            sync_directory(self.layout.directory())?;
        }
        self.len = SEGMENT_HEADER as u64;
        self.chain = header.chain();
        self.file = Some((file, path));
        Ok(())
    }

    fn sync(&self) -> Result<(), RecordError> {
        match &self.file {
            Some((file, path)) => file
                .sync_data()
                .map_err(|error| RecordError::io("write to stable storage", path, error)),
            None => Ok(()),
        }
    }
}
