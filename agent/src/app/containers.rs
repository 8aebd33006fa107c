//! Containers that are about to start: the agent finds out what they are, and listens in their network namespace before
//! their first process runs, which their runtime's hook asks for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::container_at;
use crate::control::Response;
use crate::flow::{Expander, FlowError};
use crate::identity::{EngineError, OciState, container_of_state};
use crate::kernel::inhabitant::Inhabitant;
use crate::kernel::process::{ProcessDirectory, counts_as_this_one};
use crate::kernel::{AwaitedCgroups, Kernel, KernelError, ProcessStanding};
use crate::model::{CgroupId, CgroupPath};

use super::known_containers::KnownContainers;
use super::policies::Policies;
use super::protection::Protection;

/// How long a cgroup may take to be classified where the kernel does not do that by itself.
const CLASSIFYING: Duration = Duration::from_secs(2);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(2);

/// What containers are prepared with.
pub(super) struct Containers {
    kernel: Arc<Kernel>,
    policies: Arc<Policies>,
    expander: Expander,
    known: Arc<KnownContainers>,
    protection: Arc<Protection>,
    awaited: watch::Receiver<AwaitedCgroups>,
}

/// Why a container cannot be prepared.
#[derive(Debug, thiserror::Error)]
enum Unprepared {
    /// It is gone already, or cannot be looked at.
    #[error(
        "its process {pid} cannot be looked at ({source}); the runtime has to give its number on the host"
    )]
    Process {
        /// As asked for.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// A policy may concern it.
    #[error(
        "whether a policy is meant for its cgroup {cgroup} has not been found out within {} s; see the agent's log",
        CLASSIFYING.as_secs()
    )]
    Pending {
        /// Its cgroup.
        cgroup: CgroupPath,
    },
    /// Nobody says what it is.
    #[error("which policy is meant for its cgroup {cgroup} is not known: {source}")]
    Engine {
        /// Its cgroup.
        cgroup: CgroupPath,
        /// Why.
        source: EngineError,
    },
    /// The agent cannot listen.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Containers {
    pub(super) fn new(
        kernel: &Arc<Kernel>,
        policies: &Arc<Policies>,
        expander: Expander,
        known: &Arc<KnownContainers>,
        protection: &Arc<Protection>,
    ) -> Self {
        Self {
            kernel: Arc::clone(kernel),
            policies: Arc::clone(policies),
            expander,
            known: Arc::clone(known),
            awaited: protection.awaited(),
            protection: Arc::clone(protection),
        }
    }

    /// Listens in the network namespace of process `pid`, if a policy concerns it, for `asker`, a process. `state`: what the
    /// runtime says of the container.
    pub(super) async fn prepare(&self, asker: u32, pid: u32, state: Option<OciState>) -> Response {
        // It would mean somebody else by the number.
        if !counts_as_this_one(asker).unwrap_or(false) {
            return Response::Refused {
                message: "a container can be prepared only for a runtime in the host's own pid namespace"
                    .to_owned(),
            };
        }
        // A job may run containers, and must not say what others are.
        let state = state.filter(|_| self.is_outside(asker));
        if let Err(error) = self.find_out(pid, state).await {
            return unprepared(pid, &error);
        }
        let (kernel, expander) = (Arc::clone(&self.kernel), self.expander.clone());
        let prepared = tokio::task::spawn_blocking(move || prepare(&kernel, &expander, pid)).await;
        let prepared = prepared.unwrap_or_else(|_| {
            Err(KernelError::system("preparing a container")(io::Error::other("a thread panicked")).into())
        });
        match prepared {
            Ok(ProcessStanding::Managed(policy)) => Response::Prepared {
                workload: self
                    .policies
                    .current()
                    .set
                    .get(policy)
                    .map(|policy| policy.doc.workload.name.clone()),
            },
            Ok(_) => Response::Prepared { workload: None },
            Err(error) => unprepared(pid, &error),
        }
    }

    /// Whether a process is under no policy, and will not be.
    fn is_outside(&self, pid: u32) -> bool {
        let cgroup = self.kernel.cgroup2().of_process(pid);
        cgroup.is_some_and(|cgroup| matches!(self.kernel.standing_of(&cgroup), Ok(ProcessStanding::Free)))
    }

    /// Finds out what the container of process `pid` is, if that decides which policy it is under.
    async fn find_out(&self, pid: u32, state: Option<OciState>) -> Result<(), Unprepared> {
        let process = ProcessDirectory::open(pid).and_then(|process| process.cgroup());
        let cgroup = process.map_err(|source| Unprepared::Process { pid, source })?;
        let Some((id, path)) = self.awaited_at(&cgroup).await? else {
            return Ok(());
        };
        if self.known.of_cgroup(id).is_none() {
            let unknown = |source| Unprepared::Engine {
                cgroup: path.clone(),
                source,
            };
            let name = container_at(path.as_str());
            if let (Some(name), Some(state)) = (&name, &state)
                && name.id != state.id
            {
                return Err(unknown(EngineError::Another {
                    state: state.id.clone(),
                    cgroup: name.id.clone(),
                }));
            }
            let said = state.and_then(|state| container_of_state(name.as_ref(), &state));
            let container = match (said, name) {
                (Some(container), _) => container,
                (None, Some(name)) => self.known.ask(&name).await.map_err(unknown)?,
                (None, None) => return Err(unknown(EngineError::Nameless)),
            };
            self.known.learn(id, container, self.kernel.cgroup2());
        }
        self.protection.look_again();
        Ok(())
    }

    /// The cgroup at or above `cgroup` of which it has to be found out whose it is. The agent sees a new one within a moment.
    async fn awaited_at(&self, cgroup: &CgroupPath) -> Result<Option<(CgroupId, CgroupPath)>, Unprepared> {
        let until = Instant::now() + CLASSIFYING;
        while Instant::now() < until && self.kernel.standing_of(cgroup)? == ProcessStanding::Pending {
            let awaited = Arc::clone(&self.awaited.borrow());
            let found = awaited.iter().find(|(_, path)| {
                let below = cgroup.as_str().strip_prefix(path.as_str());
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            });
            if let Some((id, path)) = found {
                return Ok(Some((*id, path.clone())));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(None)
    }
}

fn unprepared(pid: u32, error: &Unprepared) -> Response {
    tracing::warn!(%error, pid, "a container was not prepared, and its runtime told not to start it");
    Response::Unprepared {
        message: error.to_string(),
    }
}

fn prepare(kernel: &Kernel, expander: &Expander, pid: u32) -> Result<ProcessStanding, Unprepared> {
    let gone = |source| Unprepared::Process { pid, source };
    let process = ProcessDirectory::open(pid).map_err(gone)?;
    let inhabitant = Inhabitant::of_thread(pid, pid).map_err(gone)?;
    let standing = classified(kernel, &process.cgroup().map_err(gone)?)?;
    if standing != ProcessStanding::Free {
        let netns = process.netns().map_err(gone)?;
        expander.listen_in(Arc::new(netns), Some(inhabitant))?;
    }
    Ok(standing)
}

/// How the cgroup stands, once that is known.
fn classified(kernel: &Kernel, cgroup: &CgroupPath) -> Result<ProcessStanding, Unprepared> {
    let until = Instant::now() + CLASSIFYING;
    loop {
        match kernel.standing_of(cgroup)? {
            ProcessStanding::Pending if Instant::now() > until => {
                return Err(Unprepared::Pending {
                    cgroup: cgroup.clone(),
                });
            }
            ProcessStanding::Pending => std::thread::sleep(LOOK),
            known => return Ok(known),
        }
    }
}
