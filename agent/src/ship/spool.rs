//! What is still to be shipped, and the marks of what was.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::ShipError;
use crate::record::{Layout, SegmentFile};

/// A mark: what was shipped, where to, and what it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Target and object.
    pub(super) object: String,
    /// Bytes; for the ledger, up to where it was shipped.
    pub(super) size: u64,
    /// BLAKE3 of what was shipped, lower-case hex.
    pub(super) blake3: String,
}

/// The records directory, seen as a spool.
#[derive(Clone, Debug)]
pub(super) struct Spool {
    layout: Layout,
    /// Files whose mark was seen. It is asked after each session, and there may be many.
    marked: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Spool {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            marked: Arc::default(),
        }
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.layout.ledger()
    }

    /// Sealed segments without a mark, the oldest first.
    pub(super) fn waiting(&self) -> Result<Vec<SegmentFile>, ShipError> {
        let mut segments = self.layout.segments()?;
        let mut marked = self.marked.lock();
        segments.retain(|file| {
            if !file.sealed || marked.contains(&file.path) {
                return false;
            }
            let is_marked = self.mark_of(&file.path).exists();
            if is_marked {
                marked.insert(file.path.clone());
            }
            !is_marked
        });
        Ok(segments)
    }

    /// The mark for `path`; `None` where it was not shipped.
    pub(super) fn mark(&self, path: &Path) -> Result<Option<Mark>, ShipError> {
        let mark = self.mark_of(path);
        match fs::read(&mark) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| failed("understand", &mark, error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &mark, error)),
        }
    }

    /// Marks `path` as shipped; the mark appears whole or not at all.
    pub(super) fn set_mark(&self, path: &Path, mark: &Mark) -> Result<(), ShipError> {
        let to = self.mark_of(path);
        let new = to.with_extension("new");
        let json = serde_json::to_vec(mark).map_err(|error| failed("write", &new, error.into()))?;
        fs::write(&new, json).map_err(|error| failed("write", &new, error))?;
        fs::rename(&new, &to).map_err(|error| failed("name", &to, error))
    }

    /// Removes the mark of a file that is gone.
    pub(super) fn remove_mark(&self, path: &Path) -> Result<(), ShipError> {
        self.marked.lock().remove(path);
        let mark = self.mark_of(path);
        fs::remove_file(&mark).map_err(|error| failed("remove", &mark, error))
    }

    fn mark_of(&self, path: &Path) -> PathBuf {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".json");
        self.layout.shipped().join(name)
    }

    /// Bytes of sealed segments that have no mark.
    pub(super) fn backlog(&self) -> Result<u64, ShipError> {
        Ok(self
            .waiting()?
            .iter()
            .filter_map(|file| fs::metadata(&file.path).ok())
            .map(|metadata| metadata.len())
            .sum())
    }
}

pub(super) fn failed(action: &'static str, path: &Path, source: io::Error) -> ShipError {
    ShipError::Spool {
        action,
        path: path.to_owned(),
        source: Arc::new(source),
    }
}
