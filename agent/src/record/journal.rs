//! Journals: where a session's frames are before the writer has sealed them.
//!
//! A session has up to a window's worth of journal files and uses them over and over. A frame is acknowledged when
//! the committed length of its file covers it; that store is the last thing an append does.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::RecordError;
use super::layout::Layout;
use super::wire::{Fields, join};
use crate::kernel::mapping::{DATA, HEADER};
use crate::model::SessionId;

const MAGIC: &[u8; 8] = b"TGJOURNL";
const VERSION: u16 = 1;

/// Header of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct JournalHeader {
    pub(super) session: SessionId,
    /// How many journals the session began before this.
    pub(super) sequence: u64,
    /// Number of the first frame in it.
    pub(super) first_frame: u64,
    /// Unix time in nanoseconds at which the session began.
    pub(super) started: i64,
}

impl JournalHeader {
    pub(super) fn encode(&self) -> [u8; HEADER] {
        join(&[
            MAGIC,
            &VERSION.to_le_bytes(),
            &[0; 6],
            self.session.0.as_bytes(),
            &self.sequence.to_le_bytes(),
            &self.first_frame.to_le_bytes(),
            &self.started.to_le_bytes(),
            &[0; 64],
        ])
    }

    fn decode(mut fields: Fields<'_>) -> Option<Self> {
        (fields.array()? == *MAGIC && fields.u16()? == VERSION).then_some(())?;
        fields.zero::<6>()?;
        let header = Self {
            session: SessionId(uuid::Uuid::from_bytes(fields.array()?)),
            sequence: fields.u64()?,
            first_frame: fields.u64()?,
            started: fields.i64()?,
        };
        fields.zero::<64>()?;
        Some(header)
    }
}

/// What one journal file holds.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) header: JournalHeader,
    /// Committed frames, unchecked.
    pub(super) frames: Vec<u8>,
}

/// The journals of a session, in order. A file that is empty, or in the middle of being used again, holds nothing
/// that is not in the record.
pub(super) fn read(layout: &Layout, session: SessionId) -> Result<Vec<Journal>, RecordError> {
    let mut journals = Vec::new();
    for (of, path) in layout.journal_files()? {
        if of == session
            && let Some(journal) = read_one(&path)?
            && journal.header.session == session
        {
            journals.push(journal);
        }
    }
    journals.sort_by_key(|journal| journal.header.sequence);
    Ok(journals)
}

fn read_one(path: &Path) -> Result<Option<Journal>, RecordError> {
    let failed = |error| RecordError::io("read", path, error);
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    // A journal can be used again while it is read; then its begin changes, and the reading starts over.
    loop {
        let Some((committed, header)) = read_head(&file).map_err(failed)? else {
            return Ok(None);
        };
        let mut frames = vec![0; committed];
        match file.read_exact_at(&mut frames, DATA as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Err(RecordError::damaged(
                    path,
                    "it is shorter than what was committed to it",
                ));
            }
            Err(error) => return Err(failed(error)),
        }
        let unchanged = read_head(&file)
            .map_err(failed)?
            .is_some_and(|(still, now)| now == header && still >= committed);
        if unchanged {
            return Ok(Some(Journal { header, frames }));
        }
    }
}

/// Committed length and header; `None` where nothing is committed.
fn read_head(file: &File) -> io::Result<Option<(usize, JournalHeader)>> {
    let mut head = [0; DATA];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let size = file.metadata()?.len();
    let mut fields = Fields(&head);
    let committed = fields
        .u64()
        .filter(|committed| *committed > 0 && *committed <= size);
    Ok(committed
        .and_then(|committed| usize::try_from(committed).ok())
        .zip(JournalHeader::decode(fields)))
}

/// Removes all journals of a session.
pub(super) fn remove(layout: &Layout, session: SessionId) -> Result<(), RecordError> {
    for (of, path) in layout.journal_files()? {
        if of == session {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(RecordError::io("remove", &path, error));
                }
                Ok(()) | Err(_) => {}
            }
        }
    }
    Ok(())
}
