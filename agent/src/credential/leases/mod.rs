//! Every lease of this host: who has it, how long, and what is still to be revoked.
//!
//! What a source makes is in the journal before it is made and until it is void. It is revoked when its owner ends, when
//! its time is over and it cannot be renewed, when its cgroup is gone, on request, and when the agent stops; what an agent before this one left is
//! revoked at the start. A revocation that fails is tried again until it succeeds, over any number of restarts.
//!
//! Known limits: a lease that a workload shares is not handed to another version of the agent, because its password is in
//! no journal: the new version revokes it and makes another. A job that makes its sessions one by one with more than
//! [`IDLE`] between them gets a new one for each.

mod make;
mod renew;
mod revoke;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::journal::{Entry, Journal, LeaseId, Stage};
use super::lease::{Hold, Lease};
use super::maker::{Ask, Maker, Owner};
use super::{CredentialError, Handle, Material};
use crate::config::{CredentialKind, Share};
use crate::kernel::netns::Netns;
use crate::model::{CgroupId, NetnsCookie, Place, ServiceName, SessionId, WorkloadName};

pub use view::LeaseView;

/// How long a lease that a workload shares stays when no session uses it.
const IDLE: Duration = Duration::from_mins(1);
/// Pause after the first attempt to revoke that failed; doubled after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Attempts to revoke that run at the same time.
const TURNS: usize = 16;

/// The leases of this host. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Leases(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    journal: Journal,
    table: Mutex<Table>,
    tasks: Mutex<JoinSet<()>>,
    /// What was asked to make something.
    makers: Mutex<Vec<Weak<dyn Maker>>>,
    turns: Semaphore,
    pace: Pace,
    /// A lease has gone, or an attempt to revoke one has failed.
    changed: Notify,
    /// Entries of the journal that cannot be read: what they name cannot be revoked.
    unreadable: Vec<String>,
}

/// How long things wait; tests wait less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) idle: Duration,
    pub(super) first_pause: Duration,
    /// Shortest time between two renewals.
    pub(super) between: Duration,
}

#[derive(Debug, Default)]
struct Table {
    held: BTreeMap<LeaseId, Held>,
    pools: HashMap<PoolKey, Pool>,
    /// The agent stops: nothing is made any more.
    closed: bool,
}

/// Which lease the next session of a workload shares. The lock is held while one is made, so that a pool of connections
/// that starts at once makes one and not many.
type Pool = Arc<tokio::sync::Mutex<Option<LeaseId>>>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct PoolKey {
    workload: WorkloadName,
    service: ServiceName,
    target: Place,
    /// Where the target's address means what it says.
    netns: NetnsCookie,
    cgroup: CgroupId,
    identity: String,
}

/// A lease.
#[derive(Debug)]
struct Held {
    owner: Owner,
    source: &'static str,
    /// `None`: nothing can or need be revoked, and it is in no journal.
    handle: Option<Handle>,
    stage: Stage,
    since: DateTime<Utc>,
    expires: Option<DateTime<Utc>>,
    netns: Option<Arc<Netns>>,
    phase: Phase,
    /// Sessions that have it now.
    users: BTreeSet<SessionId>,
    over: watch::Sender<Option<String>>,
    /// Until when it was last renewed.
    renewed: watch::Sender<Option<SystemTime>>,
    /// Wakes what waits to try again.
    kick: Arc<Notify>,
}

#[derive(Debug)]
enum Phase {
    Making,
    Live(Box<Live>),
    Revoking(Option<Failure>),
}

/// What sessions get.
#[derive(Debug)]
struct Live {
    material: Material,
    /// What it was made by: sessions under another policy do not share it.
    spec: CredentialKind,
    /// Until when further sessions may share it: half of its time, so that each has at least the other half.
    share_until: Option<Instant>,
}

/// An attempt that failed.
#[derive(Clone, Debug)]
struct Failure {
    attempts: u32,
    why: String,
    next: DateTime<Utc>,
}

impl Leases {
    /// Opens the journal in `dir`, and begins to revoke what an agent before this one left. Needs a tokio runtime.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        let pace = Pace {
            idle: IDLE,
            first_pause: FIRST_PAUSE,
            between: renew::BETWEEN,
        };
        Self::open_at(dir, pace)
    }

    /// [`Self::open`], with other times.
    pub(super) fn open_at(dir: &Path, pace: Pace) -> std::io::Result<Self> {
        let (journal, left, unreadable) = Journal::open(dir)?;
        let leases = Self(Arc::new(Inner {
            journal,
            table: Mutex::default(),
            tasks: Mutex::default(),
            makers: Mutex::default(),
            turns: Semaphore::new(TURNS),
            pace,
            changed: Notify::new(),
            unreadable,
        }));
        for entry in left {
            leases.adopt(entry);
        }
        Ok(leases)
    }

    /// A credential for `ask`, made by `maker`, which was made of `spec`.
    pub async fn take(
        &self,
        maker: &Arc<dyn Maker>,
        spec: &CredentialKind,
        ask: Ask,
    ) -> Result<Lease, CredentialError> {
        self.meet(maker);
        if ask.owner.share == Share::Session {
            return self.mint(maker, spec, ask).await;
        }
        let key = PoolKey {
            workload: ask.owner.workload.clone(),
            service: ask.owner.service.clone(),
            target: ask.target.address.clone(),
            netns: ask.netns.cookie(),
            cgroup: ask.owner.cgroup,
            identity: ask.owner.identity.clone(),
        };
        let pool = Arc::clone(self.0.table.lock().pools.entry(key).or_default());
        let mut current = pool.lock().await;
        if let Some(lease) = current
            .as_ref()
            .and_then(|id| self.join(id, ask.owner.session, spec))
        {
            return Ok(lease);
        }
        let lease = self.mint(maker, spec, ask).await?;
        *current = lease.held.as_ref().map(|hold| hold.id.clone());
        Ok(lease)
    }

    /// Knows it, to have it close in the end.
    fn meet(&self, maker: &Arc<dyn Maker>) {
        let mut makers = self.0.makers.lock();
        makers.retain(|known| known.strong_count() > 0);
        let new = Arc::downgrade(maker);
        if !makers.iter().any(|known| known.ptr_eq(&new)) {
            makers.push(new);
        }
    }

    /// One that others have already.
    fn join(&self, id: &LeaseId, session: SessionId, spec: &CredentialKind) -> Option<Lease> {
        let mut table = self.0.table.lock();
        let held = table.held.get_mut(id)?;
        let Phase::Live(live) = &held.phase else {
            return None;
        };
        if live.spec != *spec || live.share_until.is_some_and(|until| until <= Instant::now()) {
            return None;
        }
        held.users.insert(session);
        Some(Lease {
            material: live.material.clone(),
            database: None,
            expires: held.expires.map(SystemTime::from),
            held: Some(Hold {
                leases: self.clone(),
                id: id.clone(),
                session,
                revocable: held.handle.is_some(),
                over: held.over.subscribe(),
                renewed: held.renewed.subscribe(),
            }),
        })
    }

    /// A session does not have it any more.
    pub(super) fn give_back(&self, id: &LeaseId, session: SessionId) {
        let share = {
            let mut table = self.0.table.lock();
            let Some(held) = table.held.get_mut(id) else {
                return;
            };
            held.users.remove(&session);
            if !held.users.is_empty() {
                return;
            }
            held.owner.share
        };
        match share {
            Share::Session => self.revoke(id, "its session has ended"),
            Share::Workload => {
                let (leases, id) = (self.clone(), id.clone());
                self.spawn(async move {
                    tokio::time::sleep(leases.0.pace.idle).await;
                    if leases.is_unused(&id) {
                        leases.revoke(&id, "no session of the workload uses it any more");
                    }
                });
            }
        }
    }

    fn is_unused(&self, id: &LeaseId) -> bool {
        let table = self.0.table.lock();
        table.held.get(id).is_some_and(|held| held.users.is_empty())
    }

    /// Writes the journal's entry of a lease that can be revoked, as it is now.
    async fn write(&self, id: &LeaseId) -> std::io::Result<()> {
        let entry = {
            let table = self.0.table.lock();
            let Some(held) = table.held.get(id) else {
                return Ok(());
            };
            let Some(handle) = held.handle.clone() else {
                return Ok(());
            };
            Entry {
                id: id.clone(),
                owner: held.owner.clone(),
                stage: held.stage,
                since: held.since,
                expires: held.expires,
                handle,
            }
        };
        let journal = self.0.journal.clone();
        on_disk(move || journal.put(&entry)).await
    }

    async fn remove(&self, id: &LeaseId) -> std::io::Result<()> {
        let (journal, id) = (self.0.journal.clone(), id.clone());
        on_disk(move || journal.remove(&id)).await
    }

    async fn unwrite(&self, id: &LeaseId) -> bool {
        self.remove(id).await.is_ok()
    }

    fn forget(&self, id: &LeaseId) {
        let mut table = self.0.table.lock();
        table.held.remove(id);
        let Table { held, pools, .. } = &mut *table;
        pools.retain(|_, pool| {
            // Somebody else has it, or is about to.
            Arc::strong_count(pool) > 1
                || pool
                    .try_lock()
                    .is_ok_and(|current| current.as_ref().is_some_and(|id| held.contains_key(id)))
        });
        drop(table);
        self.0.changed.notify_waiters();
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

async fn on_disk(work: impl FnOnce() -> std::io::Result<()> + Send + 'static) -> std::io::Result<()> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)))
}
