//! Unix sockets of services: redirected, refused, or reported as open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Egress, EndpointHost};
use crate::flow::{FlowError, UnixListeners};
use crate::kernel::{Kernel, UnixTier, UnixTreatment};
use crate::model::{PolicyId, SocketPath};
use crate::policy::{PolicySet, WorkloadPolicy};

/// Sockets over which the C library asks a resolver of this host for names. What is asked there is not seen, so workloads
/// whose destinations have names do not get through, and their library asks name servers, which is.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"];

/// Where the agent's unix sockets for workloads are.
pub(super) fn directory(run_dir: &Path) -> PathBuf {
    run_dir.join("unix")
}

/// Listens for the unix sockets that the policies name, and keeps the kernel side told of them.
pub(super) struct UnixSockets {
    kernel: Arc<Kernel>,
    listeners: UnixListeners,
}

type Treatments = BTreeMap<PolicyId, BTreeMap<SocketPath, UnixTreatment>>;

impl UnixSockets {
    pub(super) fn new(kernel: Arc<Kernel>, listeners: UnixListeners) -> Self {
        Self { kernel, listeners }
    }

    /// Has what any of `sets` names redirected or refused, and nothing else. Works by difference.
    pub(super) fn protect(&self, sets: &[&PolicySet]) -> Result<(), FlowError> {
        let treatments = treatments(sets, |path| self.listeners.listener(path));
        let redirected: BTreeSet<SocketPath> = treatments
            .values()
            .flatten()
            .filter(|(_, treatment)| matches!(treatment, UnixTreatment::Redirect(_)))
            .map(|(path, _)| path.clone())
            .collect();
        self.listeners.listen_for(&redirected)?;
        for (policy, wanted) in treatments {
            self.kernel.set_unix(policy, &wanted)?;
        }
        self.listeners.retain(&redirected);
        Ok(())
    }

    /// What is not closed, a sentence each.
    pub(super) fn warnings(&self, set: &PolicySet) -> Vec<String> {
        let tier = self.kernel.unix_tier();
        let services = set.policies().iter().flat_map(|policy| {
            policy
                .services
                .iter()
                .map(|service| (&policy.doc.workload.name, &service.doc))
        });
        services
            .flat_map(|(workload, service)| service.unix.iter().map(move |path| (workload, &service.name, path)))
            .filter(|(_, _, path)| path.as_path().exists())
            .filter_map(|(workload, service, path)| match &tier {
                UnixTier::Redirected { .. } => None,
                UnixTier::Refused { reason } => Some(format!(
                    "{path} of service {service} is refused to workload {workload} instead of redirected: {reason}"
                )),
                UnixTier::Open { reason } => Some(format!(
                    "{path} of service {service} is OPEN to workload {workload}: {reason}; give the socket to a group that the \
                     workload's user is not in"
                )),
            })
            .collect()
    }
}

/// What becomes of which path under which policy. What two sets or services say of one path, the first says.
fn treatments(sets: &[&PolicySet], listener: impl Fn(&SocketPath) -> PathBuf) -> Treatments {
    let mut all = Treatments::new();
    for policy in sets.iter().flat_map(|set| set.policies()) {
        let treatments = all.entry(policy.id).or_default();
        for path in policy.services.iter().flat_map(|service| &service.doc.unix) {
            treatments
                .entry(path.clone())
                .or_insert_with(|| UnixTreatment::Redirect(listener(path)));
        }
        if depends_on_names(policy) {
            for path in RESOLVERS.into_iter().filter_map(SocketPath::parse) {
                treatments.entry(path).or_insert(UnixTreatment::Absent);
            }
        }
    }
    all
}

/// Whether what a workload may do follows from the names that it is told addresses of.
fn depends_on_names(policy: &WorkloadPolicy) -> bool {
    let named = |host: &EndpointHost| matches!(host, EndpointHost::Name(_));
    let mut endpoints = policy.services.iter().flat_map(|service| &service.doc.addresses);
    policy.doc.workload.egress == Egress::Deny || endpoints.any(|endpoint| named(&endpoint.host))
}
