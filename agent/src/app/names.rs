//! What the DNS of workloads asks of the agent, and what it keeps of names over a restart.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::dns::{Alias, Dns, DnsName, NotProtected, SavedName, Told, Workloads};
use crate::flow::Query;
use crate::kernel::{Kernel, ProcessStanding};
use crate::model::{CgroupId, PolicyId};
use crate::policy::WorkloadPolicy;

use super::policies::Policies;
use super::protection::Protection;

/// Workloads, as their DNS sees them.
pub(super) struct Known {
    pub(super) kernel: Arc<Kernel>,
    pub(super) policies: Arc<Policies>,
    pub(super) protection: Arc<Protection>,
}

/// How often a cgroup that is not classified yet is looked at again, and how many times.
const LOOK: Duration = Duration::from_millis(10);
const LOOKS: u32 = 200;

/// Queries of all workloads that are answered at a time. Each workload has a limit of its own besides.
const AT_A_TIME: usize = 4096;

impl Workloads for Known {
    fn policy(&self, policy: PolicyId) -> Option<Arc<WorkloadPolicy>> {
        self.policies.current().set.get(policy).cloned()
    }

    async fn classified(&self, cgroup: CgroupId) -> Result<Option<PolicyId>, NotProtected> {
        for _ in 0..LOOKS {
            let path = self
                .kernel
                .cgroup2()
                .path_of(cgroup)
                .ok_or_else(|| NotProtected("the cgroup that asked is gone".to_owned()))?;
            match self.kernel.standing_of(&path) {
                Ok(ProcessStanding::Managed(policy)) => return Ok(Some(policy)),
                Ok(ProcessStanding::Free) => return Ok(None),
                Ok(ProcessStanding::Pending) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(NotProtected(error.to_string())),
            }
        }
        Err(NotProtected(
            "the cgroup that asked is not classified yet".to_owned(),
        ))
    }

    fn name_of(&self, policy: PolicyId, alias: &DnsName) -> Option<DnsName> {
        self.protection.name_of(policy, alias)
    }

    async fn protect(
        &self,
        policy: PolicyId,
        told: Vec<Told>,
        aliases: Vec<Alias>,
        proven: bool,
    ) -> Result<(), NotProtected> {
        let told_already = self
            .protection
            .tell(policy, &told, &aliases, proven)
            .map_err(|error| NotProtected(error.to_string()))?;
        if told_already {
            return Ok(());
        }
        let protection = Arc::clone(&self.protection);
        // Waits for a reload to be over, and changes the kernel's maps.
        tokio::task::spawn_blocking(move || protection.protect_what_is_told())
            .await
            .map_err(|error| NotProtected(error.to_string()))?
            .map_err(|error| NotProtected(error.to_string()))
    }
}

/// Answers queries as they come, for as long as the agent runs.
pub(super) async fn answer(dns: Arc<Dns<Known>>, mut queries: mpsc::Receiver<Query>) {
    let mut answering = JoinSet::new();
    loop {
        tokio::select! {
            query = queries.recv(), if answering.len() < AT_A_TIME => {
                let Some(query) = query else { return };
                let dns = Arc::clone(&dns);
                answering.spawn(async move { dns.answer(query).await });
            }
            Some(ended) = answering.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "a DNS query failed");
            },
        }
    }
}

/// What workloads were told, in a file: an agent that is started anew protects it from its first moment on.
#[derive(Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    /// In `run_dir`: what a host knew before it was started anew concerns nobody any more.
    pub(super) fn below(run_dir: &std::path::Path) -> Self {
        Self(run_dir.join("told-names.json"))
    }

    /// What an agent before this one has kept; nothing if there is none.
    pub(super) fn load(&self) -> Vec<SavedName> {
        match fs::read(&self.0) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::error!(path = %self.0.display(), %error, "what workloads were told cannot be read; they have to ask again");
                Vec::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                tracing::error!(path = %self.0.display(), %error, "what workloads were told cannot be read; they have to ask again");
                Vec::new()
            }
        }
    }

    /// Forgets everything, and removes the file.
    pub(super) fn remove(&self) -> io::Result<()> {
        for path in [self.0.clone(), self.coming()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps `names`; either these or those from before are there afterwards.
    pub(super) fn save(&self, names: &[SavedName]) {
        if let Err(error) = self.try_save(names) {
            tracing::error!(path = %self.0.display(), %error, "what workloads were told cannot be kept for the next agent");
        }
    }

    fn coming(&self) -> PathBuf {
        self.0.with_extension("new")
    }

    fn try_save(&self, names: &[SavedName]) -> io::Result<()> {
        let beside = self.coming();
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(&serde_json::to_vec(names)?)?;
        drop(file);
        fs::rename(&beside, &self.0)
    }
}
