//! Ends connections that were open before they had to go through the proxy, and records each.
//!
//! Looked for when a cgroup becomes managed, when what is protected changes, and every few seconds, since nothing tells
//! of a socket that is brought into a managed cgroup.
//!
//! The last also where the security hooks judge each use of such a socket: they judge a call as it begins, and one that
//! began outside goes on when its process is moved inside, be it a `recv()` that waits or (before Linux 6.5) a
//! `sendfile()` of many gigabytes. And what is refused by them alone has no record.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

use crate::engine;
use crate::identity::{FlowFacts, identify};
use crate::kernel::existing::{Stray, Strays, shortcoming};
use crate::kernel::{KernelError, ManagedCgroups};
use crate::model::{ClientAddr, NetnsCookie, OriginalDst};
use crate::policy::Resolved;

use super::accept::Reception;

/// How often it is looked for sockets that were brought in.
const LOOK: Duration = Duration::from_secs(5);

/// The least time between two looks: each reads the kernel's tables of sockets.
const REST: Duration = Duration::from_millis(100);

/// After how many looks a fault that stays is said again.
const AGAIN: u32 = 120;

/// Looks for as long as the agent runs.
pub(super) async fn watch(
    reception: Arc<Reception>,
    mut managed: watch::Receiver<ManagedCgroups>,
    mut resolved: watch::Receiver<Resolved>,
) {
    match shortcoming() {
        Ok(None) => {}
        Ok(Some(lack)) => tracing::warn!("{lack}"),
        Err(error) => {
            tracing::error!(%error, "whether connections from before can be ended cannot be found out");
        }
    }
    let mut faults: u32 = 0;
    let mut stubborn = Stubborn::new();
    loop {
        let cgroups = Arc::clone(&managed.borrow_and_update());
        resolved.mark_unchanged();
        match look(&reception, cgroups, &mut stubborn).await {
            Ok(()) => faults = 0,
            Err(error) => {
                if faults.is_multiple_of(AGAIN) {
                    tracing::error!(%error, "connections from before cannot be looked for");
                }
                faults = faults.wrapping_add(1);
            }
        }
        tokio::time::sleep(REST).await;
        tokio::select! {
            Ok(()) = managed.changed() => {}
            Ok(()) = resolved.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Connections that could not be destroyed, and are recorded already.
type Stubborn = HashSet<(NetnsCookie, SocketAddr, SocketAddr)>;

async fn look(
    reception: &Reception,
    managed: ManagedCgroups,
    stubborn: &mut Stubborn,
) -> Result<(), KernelError> {
    let kernel = Arc::clone(&reception.kernel);
    // Reads the descriptors of every managed process.
    let found = tokio::task::spawn_blocking(move || Strays::find(&kernel, &managed)).await;
    let Ok(strays) = found else { return Ok(()) };
    let strays = strays?;
    let before = std::mem::take(stubborn);
    for stray in strays.found() {
        let name = (stray.netns, stray.local, stray.remote);
        let ended = if before.contains(&name) {
            destroy(reception, &strays, stray).is_ok()
        } else {
            end(reception, &strays, stray).await
        };
        if !ended {
            stubborn.insert(name);
        }
    }
    Ok(())
}

/// False: it is recorded and still there.
async fn end(reception: &Reception, strays: &Strays, stray: &Stray) -> bool {
    let target = OriginalDst(stray.remote);
    let service = {
        let resolved = reception.resolved.borrow();
        reception
            .policies
            .current()
            .service(stray.policy, target, &resolved)
    };
    let facts = FlowFacts {
        cgroup: stray.cgroup,
        cgroup_path: stray.cgroup_path.clone(),
        pid: stray.process.unwrap_or(0),
        uid: stray.uid,
        says_engine: None,
        selected_by: None,
        variables: Vec::new(),
        // It holds the socket now; when it connected is not known.
        connected_at_boottime_ns: since_boot(),
    };
    let identity = identify(&facts, None, &reception.tokens).await;
    let (Some((service, _)), Ok(identity)) = (service, identity) else {
        // What is protected has changed since it was found. If it still is, the next look finds it again.
        let destroyed = destroy(reception, strays, stray);
        tracing::warn!(policy = %stray.policy, remote = %stray.remote, ?destroyed, "a connection around the proxy that no service has any more was ended");
        return destroyed.is_ok();
    };
    let transport = stray.transport;
    let how = if stray.brought_in {
        format!(
            "this {transport} connection was made outside and brought in; it does not go through the proxy"
        )
    } else {
        format!(
            "this {transport} connection was open before the destination was protected for the workload; it does not go through the proxy"
        )
    };
    let stray_record = engine::Stray {
        client: ClientAddr(stray.local),
        target,
        how,
    };
    engine::end_stray(&reception.host, &service, &identity, &stray_record, || {
        destroy(reception, strays, stray)
    })
}

fn destroy(reception: &Reception, strays: &Strays, stray: &Stray) -> io::Result<bool> {
    let was_there = strays.destroy(stray)?;
    if was_there && let Err(error) = reception.kernel.count_destroyed() {
        tracing::warn!(%error, "a connection that was destroyed is not in the counts");
    }
    Ok(was_there)
}

/// `CLOCK_BOOTTIME`, in nanoseconds.
pub(super) fn since_boot() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(u64::MAX, |now| {
        u64::try_from(Duration::from(now).as_nanos()).unwrap_or(u64::MAX)
    })
}
