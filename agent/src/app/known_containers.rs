//! What is known of the containers of this host, and of which it is not known yet what they are.
//!
//! A cgroup that may be a container's stays unclassified until its engine has said what it is: no connection of it gets to what
//! a policy protects before. What was said is kept beside the agent's sockets, since some runtimes say it only once.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::config::{AgentConfig, ContainerName, container_at, container_in};
use crate::identity::{EngineError, Engines};
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::{AwaitedCgroups, Decide, Decided, PatternError, Patterns};
use crate::model::{CgroupId, CgroupPath, Container, PolicyId};
use crate::policy::PolicySet;

use super::kernel_side;
use super::policies::Policies;
use super::protection::Protection;

/// After how long an engine is asked again that did not know.
const AGAIN: Duration = Duration::from_secs(1);

/// How many containers are asked for at a time.
const AT_A_TIME: usize = 8;

/// How long a start or a reload waits for what engines say of the containers that are there already.
const BEFORE: Duration = Duration::from_secs(5);

/// How long a flow waits for what is only told the record.
const FOR_THE_RECORD: Duration = Duration::from_millis(300);

/// For how long it is not asked for again then, if there was no answer.
const NOT_AGAIN: Duration = Duration::from_secs(30);

/// Most containers that are kept for the record alone.
const MOST: usize = 4096;

/// How podman and CRI-O name cgroups of the processes that look after their containers.
const MONITORS: [&str; 2] = ["libpod-conmon-", "crio-conmon-"];

/// What engines said.
pub(super) struct KnownContainers {
    engines: Engines,
    policies: Arc<Policies>,
    memory: PathBuf,
    by_cgroup: Mutex<BTreeMap<CgroupId, Arc<Container>>>,
    /// Why nothing is known of these.
    unknown: Mutex<BTreeMap<CgroupId, (CgroupPath, String)>>,
    /// Of cgroups that the path alone puts under a policy, by the container's id: for the record.
    for_the_record: Mutex<HashMap<String, Said>>,
}

/// What came of asking for a container for the record alone, and when.
type Said = (Instant, Option<Arc<Container>>);

impl fmt::Debug for KnownContainers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KnownContainers").finish_non_exhaustive()
    }
}

impl Decide for KnownContainers {
    fn decide(&self, id: CgroupId, path: &CgroupPath, among: &[PolicyId]) -> Decided {
        // The engine's own process beside each container.
        let name = path.as_str().rsplit('/').next().unwrap_or_default();
        if MONITORS.iter().any(|prefix| name.starts_with(prefix)) {
            return Decided::NoneOfThem;
        }
        let Some(container) = self.of_cgroup(id) else {
            return Decided::NotYet;
        };
        let catalogue = self.policies.current();
        let mut policies = catalogue.set.policies().iter();
        policies
            .find_map(|policy| {
                let spec = policy.doc.workload.container.as_ref()?;
                let found = among.contains(&policy.id) && spec.matches(&container);
                found.then(|| Decided::Under(policy.id, spec.to_string().into()))
            })
            .unwrap_or(Decided::NoneOfThem)
    }
}

impl KnownContainers {
    /// What engines say of the containers that are there, and by what cgroups are classified.
    pub(super) async fn begin(
        config: &AgentConfig,
        set: &PolicySet,
        policies: &Arc<Policies>,
        cgroup2: &Cgroup2,
    ) -> Result<(Arc<Self>, Patterns), PatternError> {
        let engines = Engines::new(config.docker_socket.clone(), config.podman_socket.clone());
        let known = Self::restored(engines, Arc::clone(policies), &config.run_dir, cgroup2);
        let known = Arc::new(known);
        let patterns = kernel_side::patterns(set, Arc::clone(&known) as _)?;
        known.learn_existing(&patterns, cgroup2).await;
        Ok((known, patterns))
    }

    /// With what an agent before this one was told, as far as the cgroups are still there.
    fn restored(engines: Engines, policies: Arc<Policies>, run_dir: &Path, cgroup2: &Cgroup2) -> Self {
        let memory = memory(run_dir);
        let kept: BTreeMap<CgroupId, Arc<Container>> = match fs::read(&memory) {
            Ok(json) => serde_json::from_slice(&json).unwrap_or_else(|error| {
                tracing::error!(path = %memory.display(), %error, "what containers are cannot be read; their engines are asked again");
                BTreeMap::new()
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => {
                tracing::error!(path = %memory.display(), %error, "what containers are cannot be read; their engines are asked again");
                BTreeMap::new()
            }
        };
        let there = kept.into_iter().filter(|(id, _)| cgroup2.path_of(*id).is_some());
        Self {
            engines,
            policies,
            by_cgroup: Mutex::new(there.collect()),
            memory,
            unknown: Mutex::default(),
            for_the_record: Mutex::default(),
        }
    }

    /// What is known of the container of this cgroup.
    pub(super) fn of_cgroup(&self, id: CgroupId) -> Option<Arc<Container>> {
        self.by_cgroup.lock().get(&id).cloned()
    }

    /// Asks the engine.
    pub(super) async fn ask(&self, name: &ContainerName) -> Result<Container, EngineError> {
        self.engines.ask(name).await
    }

    /// Takes what its engine or runtime said of the container of the cgroup `id`.
    pub(super) fn learn(&self, id: CgroupId, container: Container, cgroup2: &Cgroup2) {
        tracing::info!(
            engine = %container.engine,
            container = container.id,
            image = container.image,
            "it is known what a container is"
        );
        self.unknown.lock().remove(&id);
        let mut known = self.by_cgroup.lock();
        known.retain(|id, _| cgroup2.path_of(*id).is_some());
        known.insert(id, Arc::new(container));
        if let Err(error) = self.save(&known) {
            tracing::error!(path = %self.memory.display(), %error, "what containers are cannot be kept for the next agent");
        }
    }

    /// What is known of the container that a flow comes from; its engine is asked if it has not been, for the record alone.
    /// `job`: the managed cgroup that it is in.
    pub(super) async fn of_flow(&self, job: CgroupId, cgroup: &CgroupPath) -> Option<Arc<Container>> {
        if let Some(known) = self.of_cgroup(job) {
            return Some(known);
        }
        let name = container_in(cgroup.as_str())?;
        if let Some((at, known)) = self.for_the_record.lock().get(&name.id)
            && (known.is_some() || at.elapsed() < NOT_AGAIN)
        {
            return known.clone();
        }
        let asked = tokio::time::timeout(FOR_THE_RECORD, self.ask(&name)).await;
        let container = asked.ok().and_then(Result::ok).map(Arc::new);
        let mut known = self.for_the_record.lock();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(name.id, (Instant::now(), container.clone()));
        container
    }

    /// Asks for the containers that are there and that `patterns` leave open, before anything is classified by these.
    pub(super) async fn learn_existing(&self, patterns: &Patterns, cgroup2: &Cgroup2) {
        let open = patterns.not_decided(cgroup2);
        if tokio::time::timeout(BEFORE, self.ask_all(&open, cgroup2))
            .await
            .is_err()
        {
            tracing::warn!(
                "engines take long to say what their containers are; those are refused what is protected meanwhile"
            );
        }
    }

    /// Asks for each container that is waited for, for as long as the agent runs.
    pub(super) async fn follow(
        self: Arc<Self>,
        mut awaited: watch::Receiver<AwaitedCgroups>,
        protection: Arc<Protection>,
        cgroup2: Cgroup2,
    ) {
        loop {
            let now = Arc::clone(&awaited.borrow_and_update());
            self.unknown.lock().retain(|id, _| now.contains_key(id));
            let all_known = self.ask_all(&now, &cgroup2).await;
            if now.keys().any(|id| self.of_cgroup(*id).is_some()) {
                protection.look_again();
            }
            let changed = awaited.changed();
            if all_known {
                if changed.await.is_err() {
                    return;
                }
            } else if let Ok(Err(_)) = tokio::time::timeout(AGAIN, changed).await {
                return;
            }
        }
    }

    /// Whether each of them is known now.
    async fn ask_all(&self, open: &BTreeMap<CgroupId, CgroupPath>, cgroup2: &Cgroup2) -> bool {
        let asked = open.iter().filter(|(id, _)| self.of_cgroup(**id).is_none());
        stream::iter(asked)
            .for_each_concurrent(AT_A_TIME, |(id, path)| async move {
                let answer = match container_at(path.as_str()) {
                    Some(name) => self.ask(&name).await,
                    None => Err(EngineError::Nameless),
                };
                match answer {
                    Ok(container) => self.learn(*id, container, cgroup2),
                    Err(error) => self.not_known(*id, path, &error),
                }
            })
            .await;
        open.keys().all(|id| self.of_cgroup(*id).is_some())
    }

    /// A sentence for each cgroup that is refused what is protected because nothing is known of it.
    pub(super) fn warnings(&self) -> Vec<String> {
        let unknown = self.unknown.lock();
        unknown
            .values()
            .map(|(path, why)| {
                format!(
                    "whether a policy is meant for the container in {path} is not known, and it is refused whatever any policy \
                     protects: {why}"
                )
            })
            .collect()
    }

    fn not_known(&self, id: CgroupId, path: &CgroupPath, error: &EngineError) {
        // By whoever it was told meanwhile.
        if self.of_cgroup(id).is_some() {
            return;
        }
        let why = error.to_string();
        let before = self.unknown.lock().insert(id, (path.clone(), why.clone()));
        if before.is_none_or(|(_, before)| before != why) {
            tracing::warn!(cgroup = %path, why, "it is not known which policy a container is under; it is refused what is protected");
        }
    }

    fn save(&self, known: &BTreeMap<CgroupId, Arc<Container>>) -> io::Result<()> {
        let coming = self.memory.with_extension("new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&coming)?;
        file.write_all(&serde_json::to_vec(known)?)?;
        drop(file);
        fs::rename(&coming, &self.memory)
    }
}

/// Forgets what containers are.
pub(super) fn forget(run_dir: &Path) -> io::Result<()> {
    let path = memory(run_dir);
    for path in [path.with_extension("new"), path] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn memory(run_dir: &Path) -> PathBuf {
    run_dir.join("containers.json")
}
