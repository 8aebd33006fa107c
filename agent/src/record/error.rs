//! What can go wrong with records.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::mapping::MappingError;
use crate::model::SessionId;

/// Why a record cannot be written or read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordError {
    /// No space is left for the record. The session must end.
    #[error(
        "the disk that holds the records is full ({path}): free space on it, or move the records to a larger one"
    )]
    DiskFull {
        /// File for which there was no space.
        path: PathBuf,
    },
    /// A system call on a file failed.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed. In the sentence as well, because a session's end carries the sentence alone.
        source: Arc<io::Error>,
    },
    /// The file system cannot hold journals.
    #[error("{0}")]
    FileSystem(Arc<MappingError>),
    /// The writer did not keep up.
    #[error("the record's writer has not made room within {} seconds: the disk is too slow, or hangs", waited.as_secs())]
    Stalled {
        /// How long the session waited.
        waited: Duration,
    },
    /// An earlier frame could not be recorded; nothing but an error, a gap or the end may follow it.
    #[error("an earlier frame of this session could not be recorded")]
    Broken,
    /// The recorder was shut down.
    #[error("the recorder has been shut down")]
    Stopped,
    /// Another agent works in the directory.
    #[error(
        "{directory} is in use by another agent: stop it, or give this one a records directory of its own"
    )]
    InUse {
        /// The records directory.
        directory: PathBuf,
    },
    /// Keys and ledger do not belong together.
    #[error("{0}")]
    Keys(String),
    /// A file does not hold what it should.
    #[error("{path} is damaged: {message}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// There is no such session.
    #[error("there is no record of session {session} in {directory}")]
    NotFound {
        /// The session.
        session: SessionId,
        /// Where it was looked for.
        directory: PathBuf,
    },
}

impl RecordError {
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.to_owned(),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source: Arc::new(source),
            },
        }
    }

    pub(super) fn damaged(path: &Path, message: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            message: message.into(),
        }
    }
}

impl From<MappingError> for RecordError {
    fn from(error: MappingError) -> Self {
        match error {
            MappingError::Call { call, path, source } => Self::io(call, &path, source),
            MappingError::CopyOnWrite { .. } => Self::FileSystem(Arc::new(error)),
        }
    }
}
