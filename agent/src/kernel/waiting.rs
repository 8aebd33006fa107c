//! What the kernel side knows of the agent itself, so that connects can wait for it: that it lives, and in which network
//! namespaces it listens.

use super::maps::ignore_missing;
use super::{Kernel, KernelError};
use crate::model::NetnsCookie;

/// No sign of life.
const ABSENT: u64 = 0;

impl Kernel {
    /// Gives a sign of life: for a few seconds from now, the first connect in a network namespace waits for the agent to
    /// listen there, and is not refused.
    ///
    /// On a host with one processor nobody waits: the agent cannot run while a connect looks for it.
    pub fn give_sign_of_life(&self) -> Result<(), KernelError> {
        if std::thread::available_parallelism().map_or(1, std::num::NonZero::get) < 2 {
            return Ok(());
        }
        let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
            .map_err(|errno| KernelError::system("clock_gettime")(errno.into()))?;
        let now = u64::try_from(std::time::Duration::from(now).as_nanos()).unwrap_or(u64::MAX);
        self.set_alive(now)
    }

    /// Takes the sign of life back: from now on nobody waits.
    pub fn take_leave(&self) -> Result<(), KernelError> {
        self.set_alive(ABSENT)
    }

    fn set_alive(&self, at: u64) -> Result<(), KernelError> {
        self.maps
            .lock()
            .alive
            .set(0, at, 0)
            .map_err(KernelError::map("ALIVE", "an update"))
    }

    /// Says that the agent listens in the network namespace `netns`: it is not told of it any more.
    pub fn listens_in(&self, netns: NetnsCookie) -> Result<(), KernelError> {
        self.maps
            .lock()
            .namespaces
            .insert(netns.0, 0, 0)
            .map_err(KernelError::map("NAMESPACES", "an insert"))
    }

    /// Says that it does not any more.
    pub fn has_left(&self, netns: NetnsCookie) -> Result<(), KernelError> {
        ignore_missing(self.maps.lock().namespaces.remove(&netns.0))
            .map_err(KernelError::map("NAMESPACES", "a removal"))
    }

    /// Says that it listens nowhere, whatever an agent before it said.
    pub fn listens_nowhere(&self) -> Result<(), KernelError> {
        let mut maps = self.maps.lock();
        let known: Result<Vec<u64>, _> = maps.namespaces.keys().collect();
        for netns in known.map_err(KernelError::map("NAMESPACES", "a listing"))? {
            ignore_missing(maps.namespaces.remove(&netns))
                .map_err(KernelError::map("NAMESPACES", "a removal"))?;
        }
        Ok(())
    }
}
