//! Reads a segment block by block and follows its chain. Signatures are `verify`'s.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::RecordError;
use super::block::{
    BLOCK_HEADER, BlockHeader, BlockKind, Chain, HASH, SEGMENT_HEADER, SegmentHeader, extend,
};

/// A segment that is being read.
pub(super) struct Scan {
    path: PathBuf,
    file: BufReader<File>,
    header: SegmentHeader,
    chain: Chain,
    /// Where the next block begins.
    offset: u64,
    ended: Option<BlockKind>,
}

/// A block, as it stands in the file.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) header: BlockHeader,
    /// Where it begins in the file.
    pub(super) offset: u64,
    pub(super) stored: Vec<u8>,
    /// Chain before the block.
    pub(super) before: Chain,
    /// Chain behind it, computed.
    pub(super) chain: Chain,
    /// Whether the chain in the file is the computed one.
    pub(super) intact: bool,
}

/// What stands next in a segment.
#[derive(Debug)]
pub(super) enum Next {
    Block(Block),
    /// The file ends where a block could begin. `true`: after a seal.
    End {
        sealed: bool,
    },
    /// The file ends inside a block, or bytes stand behind the seal.
    Torn,
    /// What stands there is not a block.
    Malformed,
}

impl Scan {
    /// Opens `path`. `Ok(None)`: there is no such file. A header that is not one is `Damaged`.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, RecordError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(RecordError::io("open", path, error)),
        };
        let mut file = BufReader::with_capacity(128 * 1024, file);
        let mut header = [0; SEGMENT_HEADER];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(RecordError::damaged(path, "it ends inside its header"));
            }
            Err(error) => return Err(RecordError::io("read", path, error)),
        }
        let header = SegmentHeader::decode(&header)
            .ok_or_else(|| RecordError::damaged(path, "its header is not that of a record, version 1"))?;
        Ok(Some(Self {
            path: path.to_owned(),
            file,
            header,
            chain: header.chain(),
            offset: SEGMENT_HEADER as u64,
            ended: None,
        }))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Chain behind the last block that was read.
    pub(super) fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Where the next block begins, or would.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The seal that was read, if any.
    pub(super) fn ended(&self) -> Option<BlockKind> {
        self.ended
    }

    /// The next block.
    pub(super) fn next(&mut self) -> Result<Next, RecordError> {
        let path = self.path.clone();
        let failed = |error| RecordError::io("read", &path, error);
        let mut head = [0; BLOCK_HEADER];
        match fill(&mut self.file, &mut head).map_err(failed)? {
            0 => {
                let sealed = self.ended.is_some();
                return Ok(Next::End { sealed });
            }
            BLOCK_HEADER if self.ended.is_none() => {}
            _ => return Ok(Next::Torn),
        }
        let Some(header) = BlockHeader::decode(&head) else {
            return Ok(Next::Malformed);
        };
        let mut stored = vec![0; header.stored as usize];
        let mut hash = [0; HASH];
        let whole = fill(&mut self.file, &mut stored).map_err(failed)? == stored.len()
            && fill(&mut self.file, &mut hash).map_err(failed)? == HASH;
        if !whole {
            return Ok(Next::Torn);
        }
        let before = self.chain;
        let chain = extend(&before, &head, &stored);
        let offset = self.offset;
        self.chain = chain;
        self.offset += (BLOCK_HEADER + stored.len() + HASH) as u64;
        if header.kind == BlockKind::SegmentEnd || header.kind == BlockKind::SessionEnd {
            self.ended = Some(header.kind);
        }
        Ok(Next::Block(Block {
            header,
            offset,
            stored,
            before,
            chain,
            intact: chain == hash,
        }))
    }

    /// Goes past data blocks whose frames all come before `frame`, without reading them. The chain is not followed
    /// any more: [`Block::intact`] says nothing after this.
    pub(super) fn skip_to(&mut self, frame: u64) -> Result<(), RecordError> {
        let path = self.path.clone();
        let failed = |error| RecordError::io("read", &path, error);
        while self.ended.is_none() {
            let mut head = [0; BLOCK_HEADER];
            let read = fill(&mut self.file, &mut head).map_err(failed)?;
            let header = (read == BLOCK_HEADER)
                .then(|| BlockHeader::decode(&head))
                .flatten();
            let skipped = header.filter(|header| {
                matches!(header.kind, BlockKind::Data | BlockKind::Checkpoint)
                    && header.first_frame.saturating_add(header.frames.into()) <= frame
            });
            let Some(header) = skipped else {
                self.file.seek(SeekFrom::Start(self.offset)).map_err(failed)?;
                return Ok(());
            };
            let rest = header.stored as usize + HASH;
            self.file
                .seek_relative(i64::try_from(rest).unwrap_or_default())
                .map_err(failed)?;
            self.offset += (BLOCK_HEADER + rest) as u64;
        }
        Ok(())
    }
}

/// Reads until `buffer` is full or the file ends; gives how many bytes.
fn fill(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
