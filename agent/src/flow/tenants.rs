//! Lets go of network namespaces that nobody is in any more: they would live on for the agent's sockets alone, with all that
//! is in them, such as a container's end of a cable.
//!
//! Of each namespace one process that is in it is known. Nothing tells that a namespace is empty, but the end of a process
//! is told; then somebody else is looked for, and if there is nobody, the namespace is left. A process that goes elsewhere
//! without ending is noticed by a look.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::listener::Shared;
use crate::kernel::inhabitant::Inhabitant;
use crate::model::NetnsCookie;

/// How often it is looked whether the known processes are still where they were.
const LOOK: Duration = Duration::from_secs(1);

/// What ends within this time is looked after together: each time may mean to look at every process of the host.
const REST: Duration = Duration::from_millis(50);

/// What the kernel side tells is heard within this time, but for a host that is very busy.
const HEARD: Duration = Duration::from_millis(10);

/// A process in a namespace, whose end is waited for.
#[derive(Debug)]
pub(super) struct Tenant {
    inhabitant: Arc<Inhabitant>,
    waiting: JoinHandle<()>,
}

impl Tenant {
    /// `vacated` is told when it has ended.
    pub(super) fn new(inhabitant: Inhabitant, vacated: Arc<Notify>) -> io::Result<Self> {
        let end = inhabitant.end()?;
        let waiting = tokio::spawn(async move {
            end.await;
            vacated.notify_one();
        });
        Ok(Self {
            inhabitant: Arc::new(inhabitant),
            waiting,
        })
    }

    /// Who it is.
    pub(super) fn inhabitant(&self) -> Arc<Inhabitant> {
        Arc::clone(&self.inhabitant)
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.waiting.abort();
    }
}

/// Looks for as long as the agent listens.
pub(super) async fn watch(shared: Weak<Shared>, vacated: Arc<Notify>) {
    loop {
        tokio::select! {
            () = vacated.notified() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        tokio::time::sleep(REST).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        // Reads /proc.
        let looked = tokio::task::spawn_blocking(move || shared.leave_what_is_empty()).await;
        if let Ok(Err(error)) = looked {
            tracing::warn!(%error, "which network namespaces are empty cannot be found out; the agent stays in all of them");
        }
    }
}

/// Namespaces of which nobody is known who is in them, by their inodes.
type Vacant = BTreeMap<u64, NetnsCookie>;

impl Shared {
    fn leave_what_is_empty(self: &Arc<Self>) -> io::Result<()> {
        let empty = self.resettle(self.vacant())?;
        if empty.is_empty() {
            return Ok(());
        }
        // Whoever comes after the last look has to tell of it, so the kernel side asks for that from before the look.
        for netns in empty.values() {
            self.begin_to_leave(*netns);
        }
        let empty = self.resettle(empty)?;
        // Whoever came behind the look's back has told of it by now, and the agent has heard it.
        std::thread::sleep(HEARD);
        for netns in empty.values() {
            self.leave_unless_awaited(*netns);
        }
        Ok(())
    }

    fn vacant(&self) -> Vacant {
        let known: Vec<_> = {
            let namespaces = self.namespaces.lock();
            namespaces
                .values()
                .filter(|namespace| !namespace.netns.is_own())
                .map(|namespace| {
                    let tenant = namespace.tenant.as_ref().map(Tenant::inhabitant);
                    (namespace.netns.inode(), namespace.netns.cookie(), tenant)
                })
                .collect()
        };
        known
            .into_iter()
            .filter(|(inode, _, tenant)| !tenant.as_ref().is_some_and(|tenant| tenant.is_in(*inode)))
            .map(|(inode, netns, _)| (inode, netns))
            .collect()
    }

    /// Looks who is there, and gives the namespaces that nobody is in.
    fn resettle(self: &Arc<Self>, mut vacant: Vacant) -> io::Result<Vacant> {
        if vacant.is_empty() {
            return Ok(vacant);
        }
        let inodes: BTreeSet<u64> = vacant.keys().copied().collect();
        for (inode, inhabitant) in Inhabitant::find(&inodes)? {
            if let Some(netns) = vacant.remove(&inode) {
                self.settle(netns, inhabitant);
            }
        }
        Ok(vacant)
    }

    /// Takes note of somebody who is in a namespace.
    pub(super) fn settle(self: &Arc<Self>, netns: NetnsCookie, inhabitant: Inhabitant) {
        match Tenant::new(inhabitant, Arc::clone(&self.vacated)) {
            Ok(tenant) => {
                if let Some(namespace) = self.namespaces.lock().get_mut(&netns) {
                    namespace.tenant = Some(tenant);
                }
            }
            // Looked for again.
            Err(error) => tracing::debug!(%error, %netns, "the end of a process cannot be waited for"),
        }
        self.stays_in(netns);
    }
}
