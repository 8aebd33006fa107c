//! A cgroup for a command, that a policy selects.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::cli::ask::{Failed, Socket, ask, unexpected};
use crate::config::{AgentConfig, PolicyErrors, load_policy};
use crate::control::{AgentStatus, Request, Response};
use crate::kernel::KernelError;
use crate::kernel::cgroup2::Cgroup2;

/// How long the agent may take to know of a new cgroup. The kernel tells it at once.
const KNOWN: Duration = Duration::from_secs(5);
/// How long processes that are killed may take to be gone.
const GONE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    #[error(transparent)]
    Agent(#[from] Failed),
    #[error("the agent has no policy for a workload \"{name}\"; it has: {known}")]
    NoPolicy { name: String, known: String },
    #[error(
        "the policy of \"{name}\" selects no cgroup that could be made for a command: give it another, as in cgroup = \
         [\"/tollgate.slice/{name}-*\"], and run `tollgate reload`"
    )]
    NoPlace { name: String },
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(
        "cannot {doing} the cgroup {}: {source}; become root, or have this part of the tree delegated to you",
        path.display()
    )]
    Cgroup {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the agent does not know the cgroup {path} as one of \"{name}\": the command is not started, since nothing would hold it"
    )]
    NotManaged { name: String, path: String },
}

/// A cgroup of a command's own.
pub(super) struct Place {
    dir: PathBuf,
    /// What was made besides, the outermost first.
    above: Vec<PathBuf>,
}

impl Place {
    /// Makes one that the policy of `name` selects, and waits until the agent knows it.
    pub(super) async fn make(name: &str, socket: &Socket, config: &AgentConfig) -> Result<Self, PlaceError> {
        let mut client = socket.connect(&config.control_socket).await?;
        let status = |response| match response {
            Response::Status { status } => Ok(status),
            _ => Err(unexpected()),
        };
        let found = status(ask(&mut client, &Request::Status).await?)?;
        let Some(workload) = found
            .workloads
            .iter()
            .find(|workload| workload.name.as_str() == name)
        else {
            let known = found.workloads.iter().map(|workload| workload.name.as_str());
            return Err(PlaceError::NoPolicy {
                name: name.to_owned(),
                known: known.collect::<Vec<_>>().join(", "),
            });
        };
        let policy = load_policy(&workload.policy)?;
        let word = format!("run-{}", uuid::Uuid::now_v7().simple());
        let selectors = policy.workload.selectors.iter();
        let contained = policy.workload.container.is_some();
        let Some(path) = selectors
            .filter(|_| !contained)
            .find_map(|selector| selector.example(&word))
        else {
            return Err(PlaceError::NoPlace {
                name: name.to_owned(),
            });
        };
        let place = Self::create(&Cgroup2::discover()?, &path)?;
        let deadline = Instant::now() + KNOWN;
        loop {
            let now = status(ask(&mut client, &Request::Status).await?)?;
            if is_managed(&now, name, &path) {
                return Ok(place);
            }
            if Instant::now() > deadline {
                place.remove()?;
                return Err(PlaceError::NotManaged {
                    name: name.to_owned(),
                    path,
                });
            }
            sleep(STEP).await;
        }
    }

    fn create(cgroup2: &Cgroup2, path: &str) -> Result<Self, PlaceError> {
        let dir = cgroup2.mount().join(path.trim_start_matches('/'));
        let missing: Vec<PathBuf> = dir
            .ancestors()
            .skip(1)
            .take_while(|above| !above.is_dir())
            .map(Path::to_owned)
            .collect();
        let mut place = Self {
            dir: dir.clone(),
            above: Vec::new(),
        };
        let made = missing
            .into_iter()
            .rev()
            .chain([dir.clone()])
            .try_for_each(|level| {
                match fs::create_dir(&level) {
                    Ok(()) if level != dir => place.above.push(level),
                    Ok(()) => {}
                    // Another command of the same policy was first.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level != dir => {}
                    Err(source) => {
                        return Err(PlaceError::Cgroup {
                            doing: "make",
                            path: level,
                            source,
                        });
                    }
                }
                Ok(())
            });
        if let Err(error) = made {
            place.remove_above();
            return Err(error);
        }
        Ok(place)
    }

    /// Where a process enters it.
    pub(super) fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// Ends what is left in it, and removes it.
    pub(super) fn remove(self) -> Result<(), PlaceError> {
        let failed = |source| PlaceError::Cgroup {
            doing: "remove",
            path: self.dir.clone(),
            source,
        };
        fs::write(self.dir.join("cgroup.kill"), "1").map_err(failed)?;
        let deadline = std::time::Instant::now() + GONE;
        loop {
            match remove_tree(&self.dir) {
                Ok(()) => break,
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && std::time::Instant::now() < deadline =>
                {
                    std::thread::sleep(STEP);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.remove_above();
        Ok(())
    }

    /// What others use by now stays.
    fn remove_above(&self) {
        for level in self.above.iter().rev() {
            let _used = fs::remove_dir(level);
        }
    }
}

/// A cgroup and those below it.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(dir)
}

/// Whether the agent counts `path`, or a cgroup that it is in, to the workload.
fn is_managed(status: &AgentStatus, name: &str, path: &str) -> bool {
    let workloads = status
        .workloads
        .iter()
        .filter(|workload| workload.name.as_str() == name);
    workloads.flat_map(|workload| &workload.cgroups).any(|managed| {
        let rest = path.strip_prefix(managed.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
