//! The journal of leases: what a crash of the agent leaves behind is found in it.
//!
//! One file a lease, `ID.json`, below the agent's state directory, for root alone. It is written before anything is made,
//! written again when it is made, and removed when it is void; each step is on the disk before the next begins. It
//! holds no secret.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Handle, Owner};

/// Id of a lease: twelve hex digits, typed by operators.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct LeaseId(String);

impl LeaseId {
    pub(super) fn random() -> Self {
        Self(hex::encode(rand::random::<[u8; 6]>()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LeaseId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = text.len() == 12
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        fits.then_some(Self(text))
            .ok_or("an id of a lease has twelve hex digits")
    }
}

impl std::fmt::Display for LeaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// How far a lease has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is about to be made, and may be there.
    Planned,
    /// It was made.
    Made,
}

/// What the journal knows of a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) id: LeaseId,
    pub(super) owner: Owner,
    pub(super) stage: Stage,
    pub(super) since: DateTime<Utc>,
    pub(super) expires: Option<DateTime<Utc>>,
    pub(super) handle: Handle,
}

/// The directory. One agent uses it at a time: it holds the lock of the host.
#[derive(Clone, Debug)]
pub(super) struct Journal(PathBuf);

impl Journal {
    /// Opens it, and gives what an agent before this one left; then the files that cannot be read, with why.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Vec<Entry>, Vec<String>)> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let metadata = fs::metadata(dir)?;
        if metadata.mode() & 0o077 != 0 || metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "others can write to it, and so have the agent revoke what they like: `chown root` and `chmod 0700` it",
            ));
        }
        let (mut entries, mut unreadable) = (Vec::new(), Vec::new());
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                // Never came to count: nothing was made after it.
                fs::remove_file(&path)?;
                continue;
            }
            let entry = fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
            match entry {
                Ok(entry) => entries.push(entry),
                Err(error) => unreadable.push(format!("{}: {error}", path.display())),
            }
        }
        Ok((Self(dir.to_owned()), entries, unreadable))
    }

    /// Writes an entry, or writes it again. When this returns, it is on the disk.
    pub(super) fn put(&self, entry: &Entry) -> io::Result<()> {
        let path = self.path(&entry.id);
        let new = path.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&new)?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        self.sync()
    }

    /// Removes an entry; it may be gone already.
    pub(super) fn remove(&self, id: &LeaseId) -> io::Result<()> {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }

    fn path(&self, id: &LeaseId) -> PathBuf {
        self.0.join(format!("{id}.json"))
    }
}
