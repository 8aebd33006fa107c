//! Reads that the workload can stop: its memory (`environ`, `cmdline`) and its file systems may be served by itself
//! (userfaultfd, FUSE), and a read of them then ends when it likes.
//!
//! So each such read has a thread of its own and a time limit, and a cgroup has few of them at once: a workload that
//! stops the reads stops its own alone. A thread that hangs is given up, not ended; it ends with the workload.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;

use crate::model::CgroupId;

/// The read did not end in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hangs;

/// Runs `read` on a thread of its own, for at most [`LONGEST`].
pub async fn read_beside<T: Send + 'static>(
    cgroup: CgroupId,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Hangs> {
    read_within(cgroup, LONGEST, read).await
}

async fn read_within<T: Send + 'static>(
    cgroup: CgroupId,
    limit: Duration,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Hangs> {
    let answer = async {
        let slot = Slot::take(cgroup).await?;
        let (tell, told) = oneshot::channel();
        std::thread::Builder::new()
            .name("read-workload".to_owned())
            .spawn(move || {
                let answer = read();
                drop(slot);
                // Nobody waits any more after the time limit.
                let _late = tell.send(answer);
            })
            .map_err(|_| Hangs)?;
        told.await.map_err(|_| Hangs)
    };
    timeout(limit, answer).await.unwrap_or(Err(Hangs))
}

/// One of the reads that a cgroup may have going.
struct Slot {
    cgroup: CgroupId,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slot {
    async fn take(cgroup: CgroupId) -> Result<Self, Hangs> {
        let slots = Arc::clone(
            SLOTS
                .lock()
                .entry(cgroup)
                .or_insert_with(|| Arc::new(Semaphore::new(READS_PER_CGROUP))),
        );
        let permit = slots.acquire_owned().await.map_err(|_| Hangs)?;
        Ok(Self {
            cgroup,
            permit: Some(permit),
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut slots = SLOTS.lock();
        drop(self.permit.take());
        // Nobody reads and nobody waits: those who wait hold the semaphore too.
        if slots
            .get(&self.cgroup)
            .is_some_and(|slots| Arc::strong_count(slots) == 1)
        {
            slots.remove(&self.cgroup);
        }
    }
}

static SLOTS: LazyLock<Mutex<HashMap<CgroupId, Arc<Semaphore>>>> = LazyLock::new(Mutex::default);

const READS_PER_CGROUP: usize = 8;
const LONGEST: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::time::Duration;

    use super::{Hangs, READS_PER_CGROUP, SLOTS, read_beside, read_within};
    use crate::model::CgroupId;

    #[tokio::test]
    async fn a_cgroup_that_hangs_its_reads_stops_itself_alone() {
        let (hanging, other) = (CgroupId(u64::MAX - 1), CgroupId(u64::MAX - 2));
        let short = Duration::from_millis(20);
        let mut ends = Vec::new();
        for _ in 0..READS_PER_CGROUP {
            let (end, ended) = sync_channel::<()>(0);
            ends.push(end);
            let read = read_within(hanging, short, move || ended.recv().is_err());
            assert_eq!(read.await, Err(Hangs));
        }
        assert_eq!(read_within(hanging, short, || 1).await, Err(Hangs));
        assert_eq!(read_beside(other, || 2).await, Ok(2));
        drop(ends);
        assert_eq!(read_beside(hanging, || 3).await, Ok(3));
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_cgroup_that_reads_no_more() {
        let cgroup = CgroupId(u64::MAX - 3);
        read_beside(cgroup, || ()).await.unwrap();
        assert!(!SLOTS.lock().contains_key(&cgroup));
    }
}
