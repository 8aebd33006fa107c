//! Names of what an examination makes, and removal of what one that was killed left behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::{Kernel, KernelOptions};

/// Where unix sockets of examinations are. Root alone may write there, and every host has it.
pub(super) const UNIX: &str = "/run";

const PREFIX: &str = "tollgate-doctor-";

/// How long processes that were killed may take to leave their cgroup.
const LIMIT: Duration = Duration::from_secs(2);

/// A name that says whose it is: this process's, and which of its examinations'.
#[derive(Debug)]
pub(super) struct Name(String);

impl Name {
    /// One that nothing has yet.
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("{PREFIX}{}-{number}", std::process::id()))
    }

    /// In `dir`.
    pub(super) fn below(&self, dir: &Path) -> PathBuf {
        dir.join(&self.0)
    }
}

/// Removes what examinations left whose process is gone.
pub(super) fn sweep(cgroup2: &Cgroup2, run_dir: &Path) {
    for cgroup in left_in(cgroup2.mount()) {
        remove_cgroup(&cgroup);
    }
    for pins in left_in(Path::new("/sys/fs/bpf")) {
        uninstall(pins);
    }
    for dir in left_in(Path::new(UNIX)) {
        remove_sockets(&dir);
    }
    for dir in left_in(run_dir) {
        uninstall(dir.join("bpf"));
        let _not_empty = fs::remove_dir(dir);
    }
}

/// Removes a directory of unix sockets.
pub(super) fn remove_sockets(dir: &Path) {
    for socket in fs::read_dir(dir).into_iter().flatten().flatten() {
        let _gone = fs::remove_file(socket.path());
    }
    let _gone = fs::remove_dir(dir);
}

fn uninstall(pin_dir: PathBuf) {
    if let Err(error) = Kernel::uninstall(&KernelOptions { pin_dir }) {
        tracing::warn!(%error, "what an earlier examination left could not be removed");
    }
}

fn left_in(dir: &Path) -> Vec<PathBuf> {
    let is_left = |name: &str| {
        name.strip_prefix(PREFIX)
            .and_then(|name| name.split_once('-'))
            .and_then(|(pid, _)| pid.parse::<u32>().ok())
            .is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists())
    };
    fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_left))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a cgroup with everything in it.
pub(super) fn remove_cgroup(path: &Path) {
    let since = Instant::now();
    while path.exists() {
        let _gone = fs::write(path.join("cgroup.kill"), "1");
        remove_tree(path);
        if since.elapsed() > LIMIT {
            tracing::error!(path = %path.display(), "a cgroup of the examination is still there");
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _busy = fs::remove_dir(path);
}
