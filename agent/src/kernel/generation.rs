//! Pins of one loaded set of programs. A new agent loads a new generation beside the old one and removes the old
//! one only when its own is complete, so that managed cgroups are never open between the two.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::link::PinnedLink;
use super::programs::{Hook, PROGRAMS};
use super::{KernelError, bpffs};

/// The directory of one generation, below the pin directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation {
    number: u64,
    dir: PathBuf,
}

impl Generation {
    /// Every generation below `pin_dir`, oldest first; empty if the directory does not exist.
    pub(super) fn all(pin_dir: &Path) -> Vec<Self> {
        let mut all: Vec<_> = fs::read_dir(pin_dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let number = entry.file_name().to_str()?.parse().ok()?;
                Some(Self {
                    number,
                    dir: entry.path(),
                })
            })
            .collect();
        all.sort();
        all
    }

    /// Makes the directory of the next generation.
    pub(super) fn next(pin_dir: &Path) -> Result<Self, KernelError> {
        let number = Self::all(pin_dir)
            .last()
            .map_or(1, |last| last.number.saturating_add(1));
        let dir = pin_dir.join(number.to_string());
        fs::create_dir(&dir).map_err(KernelError::system(format!("creating {}", dir.display())))?;
        Ok(Self { number, dir })
    }

    /// Where the link of program `name` is pinned.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("link_{name}"))
    }

    /// Where the map `name` is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Detaches the programs in the order that leaves the second wall for last, then removes every pin. When this
    /// returns, none of the programs is run any more.
    pub(super) fn remove(&self) -> Result<(), KernelError> {
        // Links on tracepoints and security hooks cannot be detached; theirs end with their pins, below.
        for spec in PROGRAMS.iter().rev().filter(|spec| spec.hook == Hook::Cgroup) {
            let path = self.link(spec.name);
            match PinnedLink::open(&path).and_then(|link| link.detach()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(KernelError::system(format!("detaching {}", path.display()))(
                        error,
                    ));
                }
                _ => {}
            }
        }
        let pins = fs::read_dir(&self.dir)
            .map_err(KernelError::system(format!("reading {}", self.dir.display())))?;
        for pin in pins.flatten() {
            let path = pin.path();
            fs::remove_file(&path).map_err(KernelError::system(format!("removing {}", path.display())))?;
        }
        fs::remove_dir(&self.dir).map_err(KernelError::system(format!("removing {}", self.dir.display())))
    }
}

/// Removes every generation below `pin_dir`, the directory, and the bpffs if one was mounted on it. Nothing there is
/// fine.
pub(super) fn remove_all(pin_dir: &Path) -> Result<(), KernelError> {
    if !pin_dir.exists() {
        return Ok(());
    }
    for generation in Generation::all(pin_dir) {
        generation.remove()?;
    }
    bpffs::remove(pin_dir)
}
