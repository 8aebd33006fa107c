//! A directory that is removed when it is dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A directory below the system's temporary one, that other users may enter but not list.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// Makes one. `label` stands in its name.
    pub fn new(label: &str) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix(&format!("tollgate-{label}-"))
            .tempdir()
            .context("make a temporary directory")?;
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        Ok(Self(dir))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Makes a directory in it.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// Writes a file that root alone may read.
    pub fn secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }
}

/// A file below `dir` in which `needle` is. Sockets and what goes while it looks hold nothing.
pub fn file_with(dir: &Path, needle: &[u8]) -> Option<PathBuf> {
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        let found = if path.is_dir() {
            file_with(&path, needle)
        } else {
            let content = path.is_file().then(|| std::fs::read(&path).ok()).flatten();
            let holds = |content: Vec<u8>| content.windows(needle.len()).any(|window| window == needle);
            content.is_some_and(holds).then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_what_is_in_it() {
        let scratch = Scratch::new("search").unwrap();
        let inner = scratch.dir("inner").unwrap();
        std::fs::write(inner.join("file"), "before needle after").unwrap();
        assert_eq!(file_with(scratch.path(), b"needle"), Some(inner.join("file")));
        assert_eq!(file_with(scratch.path(), b"other"), None);
    }
}
