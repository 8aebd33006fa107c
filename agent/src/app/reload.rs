//! Has changed policy files count, without touching what did not change.
//!
//! All files are read before anything changes. A file that cannot be used keeps its last good policy, and that is said;
//! sessions of a service that means what it meant before go on, others are told to connect again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{self, AgentConfig, PolicyDoc, PolicyErrors};
use crate::control::ReloadReport;
use crate::engine::Live;
use crate::kernel::ProcessStanding;
use crate::policy::PolicySet;
use crate::tls::LocalCa;

use super::accept::Reception;
use super::authorities;
use super::catalogue::Catalogue;
use super::demands;
use super::identities;
use super::protection::Protection;
use super::resolve::{self, Addresses};
use super::state::Kept;

/// The policies in `dir`, as a reload of `last_good` would have them, and what is wrong with which.
pub(super) fn after(last_good: &PolicySet, dir: &Path) -> (PolicySet, Vec<String>) {
    merged(last_good, config::load_policies(dir), dir)
}

fn merged(
    before: &PolicySet,
    loaded: Vec<Result<PolicyDoc, PolicyErrors>>,
    dir: &Path,
) -> (PolicySet, Vec<String>) {
    let (set, errors) = before.reloaded(loaded);
    let mut faults: Vec<String> = errors
        .iter()
        .map(|error| format!("{error}; the policy from before still counts"))
        .collect();
    if set.policies().is_empty() {
        faults.push(format!(
            "there is no policy in {}, and nobody is left without one by a reload: the policies from before still count. \
             To open what they close, stop the agent and run `tollgate uninstall`",
            dir.display()
        ));
        return (before.clone(), faults);
    }
    (set, faults)
}

/// What a reload works with.
pub(super) struct Reloader {
    policy_dir: PathBuf,
    kept: Kept,
    run_dir: PathBuf,
    authority: Arc<LocalCa>,
    pub(super) reception: Arc<Reception>,
    pub(super) protection: Arc<Protection>,
    /// One reload at a time.
    running: tokio::sync::Mutex<()>,
}

impl Reloader {
    /// `kept` and `authority` are the host's.
    pub(super) fn new(
        config: &AgentConfig,
        (kept, authority): (Kept, Arc<LocalCa>),
        reception: &Arc<Reception>,
        protection: &Arc<Protection>,
    ) -> Self {
        Self {
            policy_dir: config.policy_dir.clone(),
            kept,
            run_dir: config.run_dir.clone(),
            authority,
            reception: Arc::clone(reception),
            protection: Arc::clone(protection),
            running: tokio::sync::Mutex::default(),
        }
    }

    /// Reads the policy files again. What it says is also in the log, and its faults are in `tollgate status` until the
    /// next one.
    pub(super) async fn reload(&self) -> ReloadReport {
        let _one_at_a_time = self.running.lock().await;
        let report = self.attempt().await;
        self.reception.policies.set_faults(report.faults.clone());
        for fault in &report.faults {
            tracing::error!("{fault}");
        }
        tracing::info!(
            policies = report.policies,
            services_changed = report.changed.len(),
            sessions_ended = report.sessions_ended,
            cgroups_newly_managed = report.newly_managed,
            destinations_newly_protected = report.newly_protected,
            faults = report.faults.len(),
            "policies were read again"
        );
        report
    }

    async fn attempt(&self) -> ReloadReport {
        let before = self.reception.policies.current();
        let unchanged = |faults| ReloadReport {
            policies: before.set.policies().len() as u64,
            faults,
            ..ReloadReport::default()
        };
        let dir = self.policy_dir.clone();
        let Ok(loaded) = tokio::task::spawn_blocking(move || config::load_policies(&dir)).await else {
            return unchanged(vec!["the policy files could not be read".to_owned()]);
        };
        let (set, mut faults) = merged(&before.set, loaded, &self.policy_dir);
        let (next, unusable) = Catalogue::usable(&set, &self.kept, &before, |doc| {
            demands::unmet(self.reception.kernel.lacking(), doc)
        })
        .await;
        faults.extend(unusable);
        faults.extend(authorities::follow(&self.authority, &self.run_dir, &next.set).err());
        self.resolve_new_names(&next).await;
        if let Err(error) = self.protection.foresee_containers(&next).await {
            faults.push(format!("{error}; the policies from before still count"));
            return unchanged(faults);
        }
        match self.change(next).await {
            Ok(report) => ReloadReport { faults, ..report },
            Err(error) => {
                faults.push(format!("{error}; the policies from before still count"));
                unchanged(faults)
            }
        }
    }

    /// Names that were not followed yet have to be known before they are protected; those that are keep what is known of
    /// them.
    async fn resolve_new_names(&self, next: &Catalogue) {
        let known = self.protection.names();
        let new: BTreeSet<String> = next
            .set
            .names()
            .into_iter()
            .filter(|name| !known.contains_key(*name))
            .map(str::to_owned)
            .collect();
        self.protection
            .foresee(resolve::resolve(&new, &Addresses::new()).await);
    }

    async fn change(&self, next: Catalogue) -> Result<ReloadReport, String> {
        let protection = Arc::clone(&self.protection);
        // Classifying every cgroup takes a while, and blocks.
        let change = tokio::task::spawn_blocking(move || protection.change(next))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let now = self.reception.policies.current();
        self.reception.revoked.set_denied(identities::denied(&now.set));
        let changed = change.before.end_what_is_not_in(&now);
        self.end_sessions_of_other_workloads();
        let live = self.reception.host.live.lock();
        let is_over = |session: &&Arc<Live>| session.term.has_ended() || session.service_term.has_ended();
        let sessions_ended = live.values().filter(is_over).count() as u64;
        Ok(ReloadReport {
            policies: now.set.policies().len() as u64,
            changed,
            sessions_ended,
            newly_managed: change.newly_managed as u64,
            newly_protected: change.newly_protected as u64,
            faults: Vec::new(),
        })
    }

    /// Ends sessions whose cgroup is not under their policy any more.
    fn end_sessions_of_other_workloads(&self) {
        let live: Vec<_> = self.reception.host.live.lock().values().cloned().collect();
        for session in live {
            let standing = self.reception.kernel.standing_of(&session.cgroup);
            if !matches!(standing, Ok(ProcessStanding::Managed(policy)) if policy == session.policy) {
                session.term.end();
            }
        }
    }
}
