//! The list of findings on disk: one JSON document, replaced as a whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::FindingError;
use super::store::Finding;

/// Longest file that is read: far above what is ever written.
const LONGEST: u64 = 64 << 20;

/// What was found in the place of the list.
pub(super) enum Kept {
    /// The list.
    List(Vec<Finding>),
    /// Something that is no list. It was moved there.
    SetAside(PathBuf),
}

/// Reads the list. One that cannot be understood is no reason for the agent not to start, and is not thrown away: it is set
/// aside.
pub(super) fn read(path: &Path) -> Result<Kept, FindingError> {
    let failed = |done| {
        move |source| FindingError::File {
            path: path.to_owned(),
            done,
            source,
        }
    };
    let mut json = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(LONGEST)
            .read_to_end(&mut json)
            .map_err(failed("read"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::List(Vec::new())),
        Err(error) => return Err(failed("read")(error)),
    };
    if let Ok(list) = serde_json::from_slice(&json) {
        return Ok(Kept::List(list));
    }
    let aside = path.with_extension("json.unreadable");
    fs::rename(path, &aside).map_err(failed("set aside"))?;
    Ok(Kept::SetAside(aside))
}

/// Writes the list. What was there stays until the new one is whole, also if the host loses power.
pub(super) fn write(path: &Path, list: &[Finding]) -> Result<(), FindingError> {
    let next = path.with_extension("json.next");
    let written = (|| {
        let json = serde_json::to_vec(list)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&next)?;
        file.write_all(&json)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    })();
    written.map_err(|source| FindingError::File {
        path: path.to_owned(),
        done: "written",
        source,
    })
}
