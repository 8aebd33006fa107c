//! Unix sockets of services: redirected, refused, or reported as open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Egress, EndpointHost};
use crate::kernel::{Kernel, KernelError, UnixTier, UnixTreatment};
use crate::model::{PolicyId, SocketPath};
use crate::policy::{PolicySet, WorkloadPolicy};

/// Sockets over which the C library asks a resolver of this host for names. What is asked there is not seen, so workloads
/// whose destinations have names do not get through, and their library asks name servers, which is.
const RESOLVERS: [&str; 2] = ["/run/systemd/resolve/io.systemd.Resolve", "/run/nscd/socket"];

/// Keeps the kernel side told of the unix sockets that the policies name.
pub(super) struct UnixSockets {
    kernel: Arc<Kernel>,
    directory: PathBuf,
}

type Treatments = BTreeMap<PolicyId, BTreeMap<SocketPath, UnixTreatment>>;

impl UnixSockets {
    pub(super) fn new(kernel: Arc<Kernel>, run_dir: &Path) -> Self {
        Self {
            kernel,
            directory: run_dir.join("unix"),
        }
    }

    /// Has what any of `sets` names redirected or refused, and nothing else. Works by difference.
    pub(super) fn protect(&self, sets: &[&PolicySet]) -> Result<(), KernelError> {
        for (policy, wanted) in treatments(sets, &self.directory) {
            self.kernel.set_unix(policy, &wanted)?;
        }
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

/// Where the agent listens for connections to `path`.
fn listener(directory: &Path, path: &SocketPath) -> PathBuf {
    directory.join(format!("{:016x}.sock", path.slot()))
}

/// What becomes of which path under which policy. What two sets or services say of one path, the first says.
fn treatments(sets: &[&PolicySet], directory: &Path) -> Treatments {
    let mut all = Treatments::new();
    for policy in sets.iter().flat_map(|set| set.policies()) {
        let treatments = all.entry(policy.id).or_default();
        for path in policy.services.iter().flat_map(|service| &service.doc.unix) {
            treatments
                .entry(path.clone())
                .or_insert_with(|| UnixTreatment::Redirect(listener(directory, path)));
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
