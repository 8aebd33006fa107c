//! Pins of one loaded set of programs and their maps.
//!
//! A directory is named `LAYOUT-NUMBER`, after the version of what its maps mean ([`agent_common::LAYOUT`]). An agent
//! adopts pins of its own layout: it works on with their maps and puts its programs into their links. Pins of an older
//! layout it leaves until its own, beside them, are complete, and removes them then; so managed cgroups are never open
//! between the two. It does not touch pins of a newer layout, and does not start beside them: it cannot know what they
//! protect. `NUMBER` tells generations of one layout apart whose maps do not have the same sizes.

use std::path::{Path, PathBuf};
use std::{fs, io};

use agent_common::LAYOUT;

use super::link::PinnedLink;
use super::programs::{self, Hook, PROGRAMS};
use super::{KernelError, bpffs};

/// Begins the name of every pinned link; what else is in the directory is a map.
const LINK: &str = "link_";

/// The directory of one generation, below the pin directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation {
    layout: u32,
    number: u64,
    dir: PathBuf,
}

/// What an agent finds below the pin directory, and works with.
#[derive(Debug)]
pub(super) struct Found {
    /// The agent's own generation. Its directory is there.
    pub(super) current: Generation,
    /// Whether the pins of an earlier agent are in it, which go on being used.
    pub(super) adopted: bool,
    /// Generations that cannot be adopted, oldest first.
    pub(super) previous: Vec<Generation>,
}

impl Found {
    /// Looks, and makes a directory if no generation can be adopted.
    pub(super) fn look(pin_dir: &Path) -> Result<Self, KernelError> {
        check_layout(pin_dir)?;
        let mut all = Generation::all(pin_dir);
        let fitting = all
            .iter()
            .rposition(|found| found.layout == LAYOUT && programs::maps_fit(found));
        if let Some(at) = fitting {
            let current = all.remove(at);
            return Ok(Self {
                current,
                adopted: true,
                previous: all,
            });
        }
        let number = all
            .iter()
            .filter(|found| found.layout == LAYOUT)
            .map(|found| found.number)
            .max()
            .map_or(1, |last| last.saturating_add(1));
        let dir = pin_dir.join(format!("{LAYOUT}-{number}"));
        fs::create_dir(&dir).map_err(KernelError::system(format!("creating {}", dir.display())))?;
        Ok(Self {
            current: Generation {
                layout: LAYOUT,
                number,
                dir,
            },
            adopted: false,
            previous: all,
        })
    }
}

impl Generation {
    /// Every generation below `pin_dir`, oldest first; empty if the directory does not exist.
    pub(super) fn all(pin_dir: &Path) -> Vec<Self> {
        let mut all: Vec<_> = fs::read_dir(pin_dir)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| {
                let (layout, number) = parse(entry.file_name().to_str()?)?;
                Some(Self {
                    layout,
                    number,
                    dir: entry.path(),
                })
            })
            .collect();
        all.sort();
        all
    }

    /// Whether its maps mean what this agent's mean.
    pub(super) fn is_of_this_version(&self) -> bool {
        self.layout == LAYOUT
    }

    /// Where the link of program `name` is pinned.
    pub(super) fn link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{LINK}{name}"))
    }

    /// Where the link of program `name` is pinned before it takes the place of another one.
    pub(super) fn coming_link(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{LINK}{name}_new"))
    }

    /// Where the map `name` is pinned.
    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Removes pins of programs that this agent does not have: of another version, or from a start that was killed.
    pub(super) fn remove_strangers(&self) -> Result<(), KernelError> {
        // What an agent before this one attached because it was asked for goes as well: this one has not been asked yet.
        let strangers = |name: &str| {
            !PROGRAMS
                .iter()
                .any(|spec| name == spec.name && spec.hook != Hook::SockOps)
        };
        for path in self.links(strangers)? {
            unpin(&path)?;
        }
        Ok(())
    }

    /// Detaches the programs in the order that leaves the second wall for last, then removes every pin. When this
    /// returns, none of the programs is run any more.
    pub(super) fn remove(&self) -> Result<(), KernelError> {
        self.remove_strangers()?;
        for spec in PROGRAMS.iter().rev() {
            unpin(&self.link(spec.name))?;
        }
        remove_tree(&self.dir)
    }

    /// Paths of pinned links whose program's name `wanted` accepts.
    fn links(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, KernelError> {
        let entries = fs::read_dir(&self.dir)
            .map_err(KernelError::system(format!("reading {}", self.dir.display())))?;
        Ok(entries
            .flatten()
            .filter(|entry| {
                let name = entry.file_name();
                name.to_str()
                    .and_then(|name| name.strip_prefix(LINK))
                    .is_some_and(&wanted)
            })
            .map(|entry| entry.path())
            .collect())
    }
}

/// Refuses pins of a layout that this agent does not know.
pub(super) fn check_layout(pin_dir: &Path) -> Result<(), KernelError> {
    match Generation::all(pin_dir).pop() {
        Some(newest) if newest.layout > LAYOUT => Err(KernelError::NewerLayout {
            path: newest.dir,
            layout: newest.layout,
        }),
        _ => Ok(()),
    }
}

/// `LAYOUT-NUMBER`. A number alone is from before layouts had versions: layout 0.
fn parse(name: &str) -> Option<(u32, u64)> {
    match name.split_once('-') {
        Some((layout, number)) => Some((layout.parse().ok()?, number.parse().ok()?)),
        None => Some((0, name.parse().ok()?)),
    }
}

/// Detaches the program of the link pinned at `path`, and removes the pin. Nothing there is fine.
pub(super) fn unpin(path: &Path) -> Result<(), KernelError> {
    match PinnedLink::open(path).and_then(|link| link.detach()) {
        // Links on tracepoints and security hooks cannot be detached; theirs end with their pin.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
        // What is pinned there is no link.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(KernelError::system(format!("detaching {}", path.display()))(
                error,
            ));
        }
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(KernelError::system(format!("removing {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

/// Removes every generation of every layout below `pin_dir`, whatever else is there, the directory, and the bpffs if
/// one was mounted on it. Nothing there is fine.
pub(super) fn remove_all(pin_dir: &Path) -> Result<(), KernelError> {
    if !pin_dir.exists() {
        return Ok(());
    }
    for generation in Generation::all(pin_dir) {
        generation.remove()?;
    }
    // A bpffs of the agent's own goes with everything in it, the kernel's own files among that.
    if !bpffs::is_mount_point(pin_dir)? {
        let rest =
            fs::read_dir(pin_dir).map_err(KernelError::system(format!("reading {}", pin_dir.display())))?;
        for entry in rest.flatten() {
            remove_tree(&entry.path())?;
        }
    }
    bpffs::remove(pin_dir)
}

/// Removes a directory with what is in it, or a file.
fn remove_tree(path: &Path) -> Result<(), KernelError> {
    let removed = if path.is_dir() && !path.is_symlink() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(KernelError::system(format!("removing {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_the_layout() {
        for (name, expected) in [
            ("1-1", Some((1, 1))),
            ("12-3", Some((12, 3))),
            ("7", Some((0, 7))),
            ("", None),
            ("-1", None),
            ("1-", None),
            ("1-1-1", None),
            ("link_x", None),
        ] {
            assert_eq!(parse(name), expected, "{name:?}");
        }
    }

    #[test]
    fn generations_are_sorted_by_age() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["2-1", "1-10", "3", "1-9", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let all = Generation::all(dir.path());
        let names: Vec<_> = all
            .iter()
            .map(|found| found.dir.file_name().unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["3", "1-9", "1-10", "2-1"]);
    }
}
