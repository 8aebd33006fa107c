//! What is protected for whom, kept current in the kernel. The one place that changes it while the agent runs.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::dns::{Alias, DnsName, Learned, Told, TooMany};
use crate::flow::FlowError;
use crate::kernel::local::LocalAddresses;
use crate::kernel::{AwaitedCgroups, CgroupKeeper, Kernel, KernelError, PatternError, Protected};
use crate::model::PolicyId;
use crate::policy::{PolicySet, Resolved};

use super::catalogue::Catalogue;
use super::kernel_side;
use super::known_containers::KnownContainers;
use super::names::Memory;
use super::policies::Policies;
use super::resolve::Addresses;
use super::unix::UnixSockets;

/// Why what the policies say could not be carried out. What counted before counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProtectionError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    Flow(#[from] FlowError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
    #[error("the host's own addresses cannot be read: {0}")]
    Local(#[source] io::Error),
}

/// Protects what the policies say, as names, the host's addresses and the policies themselves change.
pub(super) struct Protection {
    kernel: Arc<Kernel>,
    keeper: CgroupKeeper,
    policies: Arc<Policies>,
    containers: Arc<KnownContainers>,
    names: watch::Sender<Addresses>,
    learned: Mutex<Learned>,
    memory: Memory,
    resolved: watch::Sender<Resolved>,
    unix: UnixSockets,
    /// Held by whoever changes the kernel's maps: a name that resolves anew must not undo half a reload.
    changing: Mutex<()>,
}

impl Protection {
    pub(super) fn new(
        kernel: Arc<Kernel>,
        keeper: CgroupKeeper,
        (policies, containers): (Arc<Policies>, Arc<KnownContainers>),
        names: Addresses,
        (learned, memory): (Learned, Memory),
        resolved: Resolved,
        unix: UnixSockets,
    ) -> Self {
        Self {
            kernel,
            keeper,
            policies,
            containers,
            names: watch::Sender::new(names),
            learned: Mutex::new(learned),
            memory,
            resolved: watch::Sender::new(resolved),
            unix,
            changing: Mutex::new(()),
        }
    }

    /// What names and local addresses are now. Also changes when the policies do.
    pub(super) fn resolved(&self) -> watch::Receiver<Resolved> {
        self.resolved.subscribe()
    }

    /// What is known of names.
    pub(super) fn names(&self) -> Addresses {
        self.names.borrow().clone()
    }

    /// What is open of unix sockets, a sentence each.
    pub(super) fn unix_warnings(&self) -> Vec<String> {
        self.unix.warnings(&self.policies.current().set)
    }

    /// Takes what the names of the policies to come have been found to be. Names that are followed already stay.
    pub(super) fn foresee(&self, names: Addresses) {
        self.names.send_modify(|known| {
            for (name, addresses) in names {
                known.entry(name).or_insert(addresses);
            }
        });
    }

    /// Takes what names have been found to be. Others stay as they are: a reload may have brought them meanwhile.
    pub(super) fn learn(&self, names: Addresses) {
        self.names.send_if_modified(|known| {
            let mut changed = false;
            for (name, addresses) in names {
                changed |= known.get(&name) != Some(&addresses);
                known.insert(name, addresses);
            }
            changed
        });
    }

    /// Takes what a workload is about to be told. Whether it is protected already; else
    /// [`Self::protect_what_is_told`] has to succeed before it is told.
    pub(super) fn tell(
        &self,
        policy: PolicyId,
        told: &[Told],
        aliases: &[Alias],
        proven: bool,
    ) -> Result<bool, TooMany> {
        self.learned
            .lock()
            .learn(policy, told, aliases, proven, Instant::now())?;
        // By what is in the kernel, not by what is known: another answer with the same address may be on its way there.
        let resolved = self.resolved.borrow();
        Ok(told.iter().all(|told| {
            let name = told.name.as_str();
            let of_policy = resolved.told.get(&policy).and_then(|names| names.get(name));
            of_policy.is_some_and(|known| known.contains(&told.address))
                && !(proven && resolved.is_unproven(policy, name, told.address))
        }))
    }

    /// Protects what workloads are about to be told. Blocks.
    pub(super) fn protect_what_is_told(&self) -> Result<(), ProtectionError> {
        if self.refresh()? {
            self.remember();
        }
        Ok(())
    }

    /// The protected name that led to `alias` before.
    pub(super) fn name_of(&self, policy: PolicyId, alias: &DnsName) -> Option<DnsName> {
        self.learned.lock().name_of(policy, alias)
    }

    /// Lets go what workloads were told long ago, for as long as the agent runs.
    pub(super) async fn forget(self: Arc<Self>) {
        let mut tick = tokio::time::interval(FORGET);
        loop {
            tick.tick().await;
            let this = Arc::clone(&self);
            let forgotten = tokio::task::spawn_blocking(move || {
                this.learned.lock().expire(Instant::now());
                let changed = this.refresh();
                this.remember();
                changed
            });
            if let Ok(Err(error)) = forgotten.await {
                tracing::error!(%error, "what workloads were told long ago stays protected");
            }
        }
    }

    fn remember(&self) {
        let saved = self.learned.lock().saved(Instant::now(), since_epoch());
        self.memory.save(&saved);
    }

    /// Follows names and the host's own addresses for as long as the agent runs.
    pub(super) async fn follow(self: Arc<Self>, addresses: LocalAddresses) {
        let mut names = self.names.subscribe();
        loop {
            tokio::select! {
                // Without names to follow the host's own addresses still change.
                Ok(()) = names.changed() => {}
                changed = addresses.changed() => if let Err(error) = changed {
                    tracing::error!(%error, "the host's addresses cannot be followed; they are read again in a moment");
                    tokio::time::sleep(kernel_side::AGAIN_IN).await;
                },
            }
            match self.refresh() {
                Ok(true) => tracing::info!("addresses of protected destinations have changed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "protected destinations could not be changed; those from before stay");
                }
            }
        }
    }

    /// Protects what names and local addresses are now. Whether that is anything else than before.
    fn refresh(&self) -> Result<bool, ProtectionError> {
        let _changing = self.changing.lock();
        let now = self.now()?;
        if now == *self.resolved.borrow() {
            return Ok(false);
        }
        kernel_side::protect(&self.kernel, &self.policies.current().set, &now)?;
        self.resolved.send_replace(now);
        Ok(true)
    }

    fn now(&self) -> Result<Resolved, ProtectionError> {
        kernel_side::resolved(self.names(), &self.learned.lock()).map_err(ProtectionError::Local)
    }

    /// The cgroups of which it has to be found out yet under which policy they are.
    pub(super) fn awaited(&self) -> watch::Receiver<AwaitedCgroups> {
        self.keeper.awaited()
    }

    /// Has those classified of which it is known by now.
    pub(super) fn look_again(&self) {
        self.keeper.look_again();
    }

    /// Asks for the containers that are there already and that `next` leaves open, so that those that it does not concern
    /// notice nothing of a reload.
    pub(super) async fn foresee_containers(&self, next: &Catalogue) -> Result<(), ProtectionError> {
        let patterns = kernel_side::patterns(&next.set, Arc::clone(&self.containers) as _)?;
        self.containers
            .learn_existing(&patterns, self.kernel.cgroup2())
            .await;
        Ok(())
    }

    /// Has `next` count instead of the policies that count now. Blocks until every cgroup is classified anew.
    ///
    /// What is new is protected before anything else happens, and what is not protected any more is let go last, when no
    /// cgroup is under the old policies. If anything fails, the policies from before count again.
    pub(super) fn change(&self, next: Catalogue) -> Result<Change, ProtectionError> {
        let _changing = self.changing.lock();
        let before = self.policies.current();
        let next = Arc::new(next);
        let now = self.now()?;
        let managed: BTreeSet<_> = self.keeper.managed().borrow().keys().copied().collect();
        if let Err(error) = self.carry_out(&before.set, &next, &now) {
            if let Err(stays) = self.carry_out(&next.set, &before, &now) {
                tracing::error!(%stays, "what a failed reload changed could not be undone; more may be refused than the \
                    policies say, until the agent is restarted");
            }
            return Err(error);
        }
        let already = protected(&before.set, &self.resolved.borrow());
        let change = Change {
            before: Arc::clone(&before),
            newly_protected: protected(&next.set, &now).difference(&already).count(),
            newly_managed: self
                .keeper
                .managed()
                .borrow()
                .keys()
                .filter(|id| !managed.contains(id))
                .count(),
        };
        let wanted = next.set.names();
        self.names.send_if_modified(|known| {
            known.retain(|name, _| wanted.contains(name.as_str()));
            false
        });
        self.learned
            .lock()
            .retain(|policy| next.set.get(policy).is_some());
        // Whoever looks after connections from before looks again, also if no address has changed.
        self.resolved.send_replace(now);
        Ok(change)
    }

    fn carry_out(
        &self,
        from: &PolicySet,
        to: &Arc<Catalogue>,
        resolved: &Resolved,
    ) -> Result<(), ProtectionError> {
        let patterns = kernel_side::patterns(&to.set, Arc::clone(&self.containers) as _)?;
        // First, so that a flow that is redirected by what follows finds its service.
        self.policies.replace(Arc::clone(to));
        for policy in to.set.policies() {
            self.kernel.set_policy(policy.id, kernel_side::rules(policy))?;
        }
        let mut both: BTreeMap<PolicyId, BTreeSet<Protected>> = BTreeMap::new();
        for (policy, entry) in protected(from, resolved)
            .into_iter()
            .chain(protected(&to.set, resolved))
        {
            both.entry(policy).or_default().insert(entry);
        }
        for (policy, wanted) in &both {
            self.kernel.set_protected(*policy, wanted)?;
        }
        self.unix.protect(&[&to.set, from])?;
        self.keeper.classify_by(patterns)?;
        kernel_side::protect(&self.kernel, &to.set, resolved)?;
        self.unix.protect(&[&to.set])?;
        self.kernel
            .retain_policies(&to.set.policies().iter().map(|policy| policy.id).collect())?;
        Ok(())
    }
}

/// What time it is, since the epoch.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// How often it is looked what workloads were told long ago.
const FORGET: Duration = Duration::from_mins(1);

/// What a reload changed in the kernel.
pub(super) struct Change {
    /// What counted before.
    pub(super) before: Arc<Catalogue>,
    /// Pairs of a policy and a destination that were not protected.
    pub(super) newly_protected: usize,
    /// Cgroups that were under no policy.
    pub(super) newly_managed: usize,
}

fn protected(set: &PolicySet, resolved: &Resolved) -> BTreeSet<(PolicyId, Protected)> {
    set.protected(resolved)
        .into_iter()
        .map(|entry| {
            let protected = Protected {
                network: entry.net,
                port: entry.port,
            };
            (entry.policy, protected)
        })
        .collect()
}
