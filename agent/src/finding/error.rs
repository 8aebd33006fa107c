//! Why findings cannot be kept.

use std::io;
use std::path::PathBuf;

/// Why the list of findings cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FindingError {
    /// The file.
    #[error("the list of findings {} cannot be {done}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// "read", "written".
        done: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Nothing of that name.
    #[error("there is no finding {0}; `tollgate findings list` shows the ids")]
    Unknown(String),
}
