//! Answers the control socket.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::config::Mode;
use crate::control::{
    ActiveIdentity, AgentStatus, ControlHandler, EgressListing, KernelCount, KernelStatus, LiveSession,
    Response, Sweep, WorkloadStatus,
};
use crate::credential::LeaseId;
use crate::finding::{Finding, FindingId};
use crate::identity::{OciState, Revocation, Which};
use crate::kernel::{KernelError, ManagedCgroups, ProcessStanding, Tier, existing};
use crate::model::WorkloadName;
use crate::ship::Backlog;

use super::accept::Reception;
use super::containers::Containers;
use super::demands;
use super::egress::Egress;
use super::findings;
use super::identities;
use super::leases;
use super::reload::Reloader;
use super::sweep;
use super::upgrade::Upgrader;

/// What the control socket is answered from.
pub(super) struct FrontDesk {
    pub(super) reception: Arc<Reception>,
    pub(super) started: DateTime<Utc>,
    pub(super) managed: watch::Receiver<ManagedCgroups>,
    pub(super) backlog: Option<watch::Receiver<Backlog>>,
    pub(super) reloader: Arc<Reloader>,
    pub(super) upgrader: Arc<Upgrader>,
    /// Why another version did not take over.
    pub(super) failed_upgrade: Option<String>,
    pub(super) egress: Arc<Egress>,
    pub(super) containers: Containers,
}

impl ControlHandler for FrontDesk {
    fn status(&self) -> AgentStatus {
        let host = &self.reception.host;
        let managed = Arc::clone(&self.managed.borrow());
        let policies = self.reception.policies.current();
        let workloads = policies.set.policies().iter().map(|policy| WorkloadStatus {
            name: policy.doc.workload.name.clone(),
            policy: policy.doc.path.clone(),
            policy_hash: policy.doc.hash.clone(),
            mode: match policy.doc.workload.mode {
                Mode::Enforce => "enforce".to_owned(),
                Mode::Observe => "observe".to_owned(),
            },
            cgroups: managed
                .values()
                .filter(|cgroup| cgroup.policy == policy.id)
                .map(|cgroup| cgroup.path.clone())
                .collect(),
            selected_by: managed
                .values()
                .filter(|cgroup| cgroup.policy == policy.id)
                .map(|cgroup| cgroup.by.to_string())
                .collect(),
            services: policy
                .services
                .iter()
                .map(|service| service.doc.name.clone())
                .collect(),
        });
        let mut warnings = self.warnings();
        let kernel = self.counts().unwrap_or_else(|error| {
            warnings.push(format!("the kernel side's counters cannot be read: {error}"));
            KernelStatus::default()
        });
        AgentStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: self.started,
            workloads: workloads.collect(),
            live_sessions: host.live.lock().len() as u64,
            total_sessions: host.total.load(Ordering::Relaxed),
            held_commands: host.holds.list().len() as u64,
            findings: host.findings.count() as u64,
            kernel,
            warnings,
            failed_upgrade: self.failed_upgrade.clone(),
        }
    }

    fn sessions(&self) -> Vec<LiveSession> {
        let live = self.reception.host.live.lock();
        live.iter()
            .map(|(id, live)| LiveSession {
                id: *id,
                workload: live.workload.clone(),
                service: live.service.clone(),
                identity: live.life.standing().identity.summary(),
                started_at: live.started,
                commands: live.commands.load(Ordering::Relaxed),
                bytes_to_client: live.bytes_to_client.load(Ordering::Relaxed),
            })
            .collect()
    }

    fn reload(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async {
            Response::Reloaded {
                report: self.reloader.reload().await,
            }
        })
    }

    fn upgrade(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async {
            match self.upgrader.begin().await {
                Ok(()) => Response::Upgrading,
                Err(error) => Response::Refused {
                    message: format!("this version goes on: {error}"),
                },
            }
        })
    }

    fn leases(&self) -> Response {
        Response::Leases {
            leases: self.reception.host.leases.list(),
        }
    }

    fn revoke_lease(&self, id: LeaseId) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(leases::revoke(&self.reception.host.leases, id))
    }

    fn sweep_leases(&self, sweep: Sweep) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(sweep::sweep(&self.reception, sweep))
    }

    fn prepare(
        &self,
        asker: u32,
        pid: u32,
        state: Option<OciState>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(self.containers.prepare(asker, pid, state))
    }

    fn egress(&self) -> Result<EgressListing, String> {
        let catalogue = self.reception.policies.current();
        let workloads = catalogue.set.policies().iter();
        let workloads = workloads
            .map(|policy| (policy.id, policy.doc.workload.name.clone()))
            .collect();
        let resolved = self.reception.resolved.borrow().clone();
        self.egress
            .list(&self.reception.kernel, &workloads, |policy, address| {
                // What the workload was told, the last first; then what the agent knows besides.
                let told = self.reception.dns.names_of(policy, address);
                let mut names: Vec<String> = told.iter().map(ToString::to_string).collect();
                names.extend(resolved.names_of(address));
                let mut seen = BTreeSet::new();
                names.retain(|name| seen.insert(name.clone()));
                names
            })
            .map_err(|error| error.to_string())
    }

    fn identities(&self) -> Vec<ActiveIdentity> {
        identities::active(&self.reception)
    }

    fn revocations(&self) -> Vec<Revocation> {
        self.reception.revoked.list()
    }

    fn revoke(&self, which: Which, issuer: Option<String>, by: String, reason: String) -> Response {
        identities::revoke(&self.reception, which, issuer, by, reason)
    }

    fn lift(&self, id: &str, by: &str) -> Response {
        identities::lift(&self.reception, id, by)
    }

    fn findings(&self, workload: Option<&WorkloadName>) -> Vec<Finding> {
        self.reception.host.findings.list(workload)
    }

    fn forget_finding(&self, id: &FindingId, by: &str) -> Response {
        findings::forget(&self.reception.host.findings, id, by)
    }

    fn is_managed(&self, pid: u32) -> bool {
        let kernel = &self.reception.kernel;
        // By the kernel side's own walk, not by the globs: a cgroup that is not classified yet may be a workload's.
        let standing = kernel
            .cgroup2()
            .of_process(pid)
            .map(|cgroup| kernel.standing_of(&cgroup));
        !matches!(standing, Some(Ok(ProcessStanding::Free)))
    }
}

impl FrontDesk {
    fn counts(&self) -> Result<KernelStatus, KernelError> {
        let stats = self.reception.kernel.stats()?;
        let events = stats.events.into_iter().map(|(kind, count)| KernelCount {
            kind: kind.name().to_owned(),
            program: kind.program().to_owned(),
            count,
        });
        Ok(KernelStatus {
            redirected: stats.redirected,
            lsm: self.reception.kernel.lacks_tier(Tier::Lsm).is_none(),
            events: events.collect(),
        })
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings = self.reception.policies.faults();
        if let Some(why) = &self.failed_upgrade {
            warnings.push(format!("another version was to take over and could not: {why}"));
        }
        warnings.extend(self.reception.containers.warnings());
        warnings.extend(self.reception.host.leases.warnings());
        warnings.extend(self.reception.host.findings.warnings());
        if let Some(error) = self
            .backlog
            .as_ref()
            .and_then(|backlog| backlog.borrow().error.clone())
        {
            warnings.push(format!(
                "records cannot be shipped, and wait on this host: {error}"
            ));
        }
        if let Ok(Some(lack)) = existing::shortcoming() {
            warnings.push(lack.to_owned());
        }
        if let Err(error) = self.reception.kernel.check_links() {
            warnings.push(format!("managed cgroups may be open: {error}"));
        }
        warnings.extend(self.reloader.protection.unix_warnings());
        warnings.extend(demands::warnings(&self.reception.kernel));
        warnings
    }
}
