//! First packets that are sent again soon, for connections that await the agent.
//!
//! The program is run at many moments of every TCP connection of the host. So it is attached only while workloads come up
//! in network namespaces where the agent does not listen yet. A connect that was faster than the attachment, and for which
//! the agent did not come within its first wait, has its first packet sent again by TCP's own time, a second later.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::generation::{Generation, unpin};
use super::link::PinnedLink;
use super::programs::Loaded;
use super::{Kernel, KernelError};

/// `BPF_CGROUP_SOCK_OPS` (linux/bpf.h).
const SOCK_OPS: u32 = 3;

/// The program, and since when it is attached.
pub(super) struct Resend {
    program: OwnedFd,
    /// Pinned like the others, so that it is known for what it is and goes with them.
    pin: PathBuf,
    /// When it was last asked for; `None`: it is not attached.
    asked: Mutex<Option<Instant>>,
}

impl Resend {
    pub(super) fn new(loaded: &Loaded, generation: &Generation) -> Result<Self, KernelError> {
        let (name, program) = loaded.on_demand()?;
        Ok(Self {
            program,
            pin: generation.link(name),
            asked: Mutex::new(None),
        })
    }
}

impl Kernel {
    /// From now on, and until [`Kernel::relax_resends`], a connection that is held back because the agent does not listen in
    /// its network namespace yet sends its first packet again within milliseconds.
    pub fn hasten_resends(&self) -> Result<(), KernelError> {
        let mut asked = self.resend.asked.lock();
        if asked.is_none() {
            let root = self.cgroup2.open_root()?;
            attach(&self.resend, &root).map_err(KernelError::system(
                "attaching the program that hastens first packets",
            ))?;
        }
        *asked = Some(Instant::now());
        Ok(())
    }

    /// Detaches the program if nobody has asked for it for `idle`.
    pub fn relax_resends(&self, idle: Duration) -> Result<(), KernelError> {
        let mut asked = self.resend.asked.lock();
        if asked.is_some_and(|asked| asked.elapsed() >= idle) {
            unpin(&self.resend.pin)?;
            *asked = None;
        }
        Ok(())
    }
}

fn attach(resend: &Resend, root: &File) -> std::io::Result<()> {
    let link = PinnedLink::attach(resend.program.as_fd(), root.as_fd(), SOCK_OPS)?;
    link.pin(&resend.pin)
}
