//! Containers that are about to start: the agent listens in their network namespace before their first process runs, which
//! their runtime's hook asks for.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::Response;
use crate::flow::{Expander, FlowError};
use crate::kernel::inhabitant::Inhabitant;
use crate::kernel::process::{ProcessDirectory, counts_as_this_one};
use crate::kernel::{Kernel, KernelError, ProcessStanding};
use crate::model::CgroupPath;

use super::policies::Policies;

/// How long a cgroup may take to be classified where the kernel does not do that by itself.
const CLASSIFYING: Duration = Duration::from_secs(2);

/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(2);

/// What containers are prepared with.
pub(super) struct Containers {
    kernel: Arc<Kernel>,
    policies: Arc<Policies>,
    expander: Expander,
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
    /// The agent cannot listen.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl Containers {
    pub(super) fn new(kernel: &Arc<Kernel>, policies: &Arc<Policies>, expander: Expander) -> Self {
        Self {
            kernel: Arc::clone(kernel),
            policies: Arc::clone(policies),
            expander,
        }
    }

    /// Listens in the network namespace of process `pid`, if a policy concerns it, for `asker`, a process.
    pub(super) async fn prepare(&self, asker: u32, pid: u32) -> Response {
        // It would mean somebody else by the number.
        if !counts_as_this_one(asker).unwrap_or(false) {
            return Response::Refused {
                message: "a container can be prepared only for a runtime in the host's own pid namespace"
                    .to_owned(),
            };
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
            Err(error) => {
                tracing::warn!(%error, pid, "a container was not prepared, and its runtime told not to start it");
                Response::Unprepared {
                    message: error.to_string(),
                }
            }
        }
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
