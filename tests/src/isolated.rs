//! A thread with a network and an `/etc/resolv.conf` of its own, so that real resolvers ask real nameservers on port 53.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::run;
use crate::scratch::Scratch;

/// What the thread that made it, and every process that it starts, lives in until this is dropped: a network namespace
/// in which nothing is but loopback, and a mount namespace. Must be dropped by the same thread.
#[derive(Debug)]
pub struct Isolated {
    scratch: Scratch,
    network: File,
    mounts: File,
    /// A bpffs of the host's: an agent does not start where its pins would end with it.
    pins: PathBuf,
}

impl Isolated {
    /// Enters, with this for `/etc/resolv.conf`.
    pub fn enter(resolv_conf: &str) -> Result<Self> {
        let scratch = Scratch::new("isolated")?;
        let pins = scratch.dir("pins")?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&pins))?;
        let isolated = Self {
            network: File::open("/proc/thread-self/ns/net")?,
            mounts: File::open("/proc/thread-self/ns/mnt")?,
            pins,
            scratch,
        };
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).context("make namespaces")?;
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let file = isolated.resolv_conf();
        fs::write(&file, resolv_conf)?;
        mount(Some(&file), "/etc/resolv.conf", none, MsFlags::MS_BIND, none)
            .context("mount a resolv.conf of the test's own")?;
        Ok(isolated)
    }

    /// The file that stands for `/etc/resolv.conf`; written in place, it changes at once.
    pub fn resolv_conf(&self) -> PathBuf {
        self.scratch.path().join("resolv.conf")
    }

    /// Where an agent can pin.
    pub fn pins(&self) -> &Path {
        &self.pins
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        setns(&self.mounts, CloneFlags::CLONE_NEWNS).ok();
        setns(&self.network, CloneFlags::CLONE_NEWNET).ok();
        umount2(&self.pins, MntFlags::MNT_DETACH).ok();
    }
}
