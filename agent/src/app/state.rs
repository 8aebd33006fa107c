//! What the agent keeps in its state directory besides records.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where each thing is, below `state_dir`.
#[derive(Clone, Debug)]
pub(super) struct StateDir(PathBuf);

/// What services need of it.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// [`StateDir::mask_key`].
    pub(super) mask_key: [u8; 32],
    /// Where refresh tokens are kept whose predecessors the policies' sources have.
    pub(super) tokens: PathBuf,
}

impl StateDir {
    /// Makes it, for the agent's user alone.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        Ok(Self(dir.to_owned()))
    }

    /// The local certificate authority.
    pub(super) fn authority(&self) -> PathBuf {
        self.0.join("ca")
    }

    /// What operators revoked.
    pub(super) fn revoked(&self) -> PathBuf {
        self.0.join("revoked.json")
    }

    /// The journal of leases.
    pub(super) fn leases(&self) -> PathBuf {
        self.0.join("leases")
    }

    /// What services need of it.
    pub(super) fn kept(&self) -> io::Result<Kept> {
        Ok(Kept {
            mask_key: self.mask_key()?,
            tokens: self.0.join("tokens"),
        })
    }

    /// Secrets that workloads have of their own.
    pub(super) fn findings(&self) -> PathBuf {
        self.0.join("findings.json")
    }

    /// The key of the host's masks (`with = "hash"`): made once, so that equal values stay equal over restarts.
    pub(super) fn mask_key(&self) -> io::Result<[u8; 32]> {
        self.key("mask.key")
    }

    /// The key of fingerprints of findings: made once, so that a secret is known again after a restart.
    pub(super) fn finding_key(&self) -> io::Result<[u8; 32]> {
        self.key("finding.key")
    }

    fn key(&self, name: &str) -> io::Result<[u8; 32]> {
        let path = self.0.join(name);
        match fs::read(&path) {
            Ok(bytes) => bytes
                .try_into()
                .map_err(|_| io::Error::other(format!("{} is not a key of 32 bytes", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key: [u8; 32] = rand::random();
                let mut file = fs::OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                file.write_all(&key)?;
                file.sync_all()?;
                Ok(key)
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StateDir;

    #[test]
    fn the_mask_key_is_made_once_and_only_its_owner_can_read_it() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let key = state.mask_key().unwrap();
        assert_eq!(state.mask_key().unwrap(), key);
        let mode = std::fs::metadata(dir.path().join("state/mask.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
