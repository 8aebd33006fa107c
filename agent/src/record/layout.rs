//! Names of the files in a records directory.

use std::fs;
use std::path::{Path, PathBuf};

use super::RecordError;
use crate::model::SessionId;

const LEDGER: &str = "ledger.tgl";
const RECORD: &str = "tgr";
const UNFINISHED: &str = "part";
const JOURNAL: &str = "tgj";

/// A records directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
    /// The ledger: one file as the agent writes it, or a directory of the parts that were shipped.
    ledger: PathBuf,
}

/// A file that holds a segment of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentFile {
    /// The session.
    pub session: SessionId,
    /// Number of the segment, from 0.
    pub segment: u32,
    /// Whether it is sealed: nothing will be added to it.
    pub sealed: bool,
    /// Where it is.
    pub path: PathBuf,
}

impl Layout {
    /// The layout of `directory`, whether it exists or not.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self {
            ledger: directory.join(LEDGER),
            directory,
        }
    }

    /// The layout of what is found at `path`, for reading: a records directory, or what was shipped (segments in
    /// `records`, parts of the ledger in `ledger`).
    pub fn found_at(path: &Path) -> Self {
        let (records, ledger) = (path.join("records"), path.join("ledger"));
        if !path.join(LEDGER).exists() && (records.is_dir() || ledger.is_dir()) {
            return Self {
                directory: records,
                ledger,
            };
        }
        Self::new(path)
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The host's ledger: a file, or for what was shipped a directory of its parts.
    pub fn ledger(&self) -> PathBuf {
        self.ledger.clone()
    }

    /// The key that signs now. Root alone may read it.
    pub fn signing_key(&self) -> PathBuf {
        self.directory.join("keys").join("epoch.key")
    }

    /// The key that signs next, while keys are changed.
    pub(super) fn next_signing_key(&self) -> PathBuf {
        self.directory.join("keys").join("epoch.key.next")
    }

    /// Held by the agent that writes here.
    pub(super) fn lock(&self) -> PathBuf {
        self.directory.join("lock")
    }

    /// Journals of sessions that are open, or whose agent was killed.
    pub fn journals(&self) -> PathBuf {
        self.directory.join("journal")
    }

    /// Marks of what was shipped, a file each.
    pub fn shipped(&self) -> PathBuf {
        self.directory.join("shipped")
    }

    /// Segment of a session, sealed or not. Segment 0 is `<session>.tgr`, the others `<session>.<number>.tgr`.
    pub fn segment(&self, session: SessionId, segment: u32, sealed: bool) -> PathBuf {
        let stem = match segment {
            0 => format!("{session}.{RECORD}"),
            _ => format!("{session}.{segment:04}.{RECORD}"),
        };
        self.directory.join(if sealed {
            stem
        } else {
            format!("{stem}.{UNFINISHED}")
        })
    }

    pub(super) fn journal(&self, session: SessionId, slot: usize) -> PathBuf {
        self.journals().join(format!("{session}.{slot}.{JOURNAL}"))
    }

    /// Every segment in the directory, ordered by session and number.
    pub fn segments(&self) -> Result<Vec<SegmentFile>, RecordError> {
        let mut segments: Vec<_> = list(&self.directory)?
            .into_iter()
            .filter_map(parse_segment)
            .collect();
        segments.sort();
        Ok(segments)
    }

    /// Segments of one session, in order.
    pub fn segments_of(&self, session: SessionId) -> Result<Vec<SegmentFile>, RecordError> {
        let mut segments = self.segments()?;
        segments.retain(|file| file.session == session);
        Ok(segments)
    }

    /// Every journal file, with its session, ordered by session.
    pub(super) fn journal_files(&self) -> Result<Vec<(SessionId, PathBuf)>, RecordError> {
        let mut journals: Vec<_> = list(&self.journals())?
            .into_iter()
            .filter_map(|path| {
                let name = path.file_name()?.to_str()?;
                let (session, slot) = name.strip_suffix(JOURNAL)?.strip_suffix('.')?.split_once('.')?;
                slot.parse::<usize>().ok()?;
                Some((parse_session(session)?, path))
            })
            .collect();
        journals.sort();
        Ok(journals)
    }
}

/// A segment's file, by its name.
pub(super) fn parse_segment(path: PathBuf) -> Option<SegmentFile> {
    let name = path.file_name()?.to_str()?;
    let (name, sealed) = match name.strip_suffix(UNFINISHED) {
        Some(name) => (name.strip_suffix('.')?, false),
        None => (name, true),
    };
    let stem = name.strip_suffix(RECORD)?.strip_suffix('.')?;
    let (session, segment) = match stem.split_once('.') {
        Some((session, segment)) => (session, segment.parse().ok().filter(|number| *number > 0)?),
        None => (stem, 0),
    };
    Some(SegmentFile {
        session: parse_session(session)?,
        segment,
        sealed,
        path,
    })
}

/// A session id as it is written in names: lower case, with hyphens, nothing else.
fn parse_session(text: &str) -> Option<SessionId> {
    let session = SessionId(uuid::Uuid::try_parse(text).ok()?);
    (session.to_string() == text).then_some(session)
}

/// Files of a directory; none where it does not exist.
fn list(directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    let failed = |source| RecordError::io("list", directory, source);
    match fs::read_dir(directory) {
        Ok(entries) => entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_segments_are_read_back() {
        let layout = Layout::new("/records");
        let session = SessionId::new();
        for (segment, sealed) in [(0, true), (0, false), (1, true), (12_345, false)] {
            let path = layout.segment(session, segment, sealed);
            let expected = SegmentFile {
                session,
                segment,
                sealed,
                path: path.clone(),
            };
            assert_eq!(parse_segment(path), Some(expected));
        }
        for name in [
            "ledger.tgl",
            "x.tgr",
            "0190.tgr",
            &format!("{session}.0000.tgr"),
            &format!("{session}.tgr.x"),
        ] {
            assert_eq!(parse_segment(PathBuf::from(name)), None, "{name}");
        }
    }
}
