//! `tollgate doctor`: whether this host has what is needed, and whether what is promised holds here and now.
//!
//! Facts are looked up; promises are tried: processes of the doctor's own, in cgroups and network namespaces of its
//! own, do what a workload might try. Where an agent's programs are pinned, those are tried, whether it runs or not;
//! else a kernel side is loaded for the time of the examination. Nothing leaves the loopback of those namespaces.
//!
//! Limits: what only a running agent does (log in, judge, mask, record) is not tried here. What may change a moment
//! later (who is in which group, what a process holds) is told as it is now.

mod attached;
mod files;
mod host;
mod jobs;
mod leftovers;
mod neighbours;
mod promises;
mod scene;
#[cfg(test)]
mod tests;
mod workload;

use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::config::{AgentConfig, PolicyDoc, load_policies};
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::{self, KernelError};

pub use workload::{Launcher, serve};

/// What the doctor found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this tollgate.
    pub version: &'static str,
    /// Which programs were tried.
    pub tried: Tried,
    /// What was looked at, in the order in which it is told.
    pub checks: Vec<Check>,
}

/// Which programs were tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tried {
    /// Those of an agent that runs.
    RunningAgent,
    /// Those that an agent left which does not run.
    StoppedAgent,
    /// Programs loaded for the examination alone: none are pinned on this host.
    OwnPrograms,
    /// None: they could not be loaded.
    Nothing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Under which heading it stands.
    pub group: Group,
    /// What it is, or what is promised.
    pub title: String,
    /// How it is.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means, and what to do about it; empty where nothing has to be done.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// Programs of the kernel side without which this would be bad.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub programs: Vec<&'static str>,
}

/// A heading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// What the host has to have.
    Host,
    /// Programs of the kernel side, loaded for a trial.
    Programs,
    /// Programs that an agent attached.
    Attached,
    /// What is promised, tried.
    Promises,
    /// Other owners of programs on cgroups.
    Neighbours,
    /// Processes under a policy, and what they could do.
    Workloads,
    /// Files, sockets and pins.
    Files,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// As it should be.
    Good,
    /// Something that is weaker than it could be.
    Warning,
    /// Not as it has to be.
    Bad,
    /// It does not apply here; what was found says why.
    Skipped,
}

/// The examination cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DoctorError {
    /// Not root.
    #[error(
        "the doctor has to be root: it tries programs of the kernel, and looks at other users' processes"
    )]
    NotRoot,
    /// Started by a workload, whose sockets are not those of an unmanaged process.
    #[error("the doctor runs in a cgroup of the workload {0}: run it from a login that no policy names")]
    InWorkload(String),
    /// Told to stop.
    #[error("stopped; what was set up for the examination is taken down again")]
    Stopped,
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A pattern for cgroups of the doctor's own.
    #[error(transparent)]
    Pattern(#[from] crate::kernel::PatternError),
    /// The system.
    #[error("{operation} failed: {source}")]
    System {
        /// What was tried.
        operation: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What to examine.
#[derive(Debug)]
pub struct Examination<'a> {
    /// The agent's own file.
    pub config: &'a AgentConfig,
    /// How processes in cgroups are started.
    pub launcher: Launcher,
    /// Set to stop between two checks.
    pub stop: &'a AtomicBool,
}

impl Examination<'_> {
    /// Looks at everything. To be called outside of asynchronous code: it waits for processes.
    pub fn report(&self) -> Result<Report, DoctorError> {
        if !nix::unistd::Uid::effective().is_root() {
            return Err(DoctorError::NotRoot);
        }
        let (policies, unreadable) = policies(self.config);
        let own = Cgroup2::discover().and_then(|cgroup2| cgroup2.own());
        if let Some(policy) = own
            .ok()
            .and_then(|own| jobs::workload_of(&policies, own.as_str()))
        {
            return Err(DoctorError::InWorkload(policy.workload.name.to_string()));
        }
        let mut checks = host::requirements();
        let trials = kernel::trial();
        checks.extend(host::programs(&trials));
        self.go_on()?;
        checks.extend(attached::programs(&self.config.pin_dir)?);
        let (tried, promises) = promises::examine(self, &trials.unwrap_or_default())?;
        checks.extend(promises);
        self.go_on()?;
        checks.extend(neighbours::programs(&self.config.pin_dir)?);
        let closed = attached::security_hooks(&self.config.pin_dir)?;
        checks.extend(jobs::examine(&policies, closed));
        checks.extend(unreadable);
        checks.extend(files::examine(self.config, &policies));
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            tried,
            checks,
        })
    }

    fn go_on(&self) -> Result<(), DoctorError> {
        if self.stop.load(Ordering::Relaxed) {
            Err(DoctorError::Stopped)
        } else {
            Ok(())
        }
    }
}

impl Report {
    /// Whether nothing is bad.
    pub fn is_good(&self) -> bool {
        self.checks.iter().all(|check| check.state != State::Bad)
    }

    /// How many checks are in `state`.
    pub fn count(&self, state: State) -> usize {
        self.checks.iter().filter(|check| check.state == state).count()
    }
}

impl Check {
    fn new(group: Group, title: impl Into<String>, state: State, found: impl Into<String>) -> Self {
        Self {
            group,
            title: title.into(),
            state,
            found: found.into(),
            advice: String::new(),
            programs: Vec::new(),
        }
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn of_programs(mut self, programs: &[&'static str]) -> Self {
        self.programs = programs.to_vec();
        self
    }
}

/// The policies that can be used, and a line for each file that cannot.
fn policies(config: &AgentConfig) -> (Vec<PolicyDoc>, Vec<Check>) {
    let mut policies = Vec::new();
    let mut unreadable = Vec::new();
    // Where there is no folder, nothing is installed yet.
    let loaded = if config.policy_dir.exists() {
        load_policies(&config.policy_dir)
    } else {
        Vec::new()
    };
    for loaded in loaded {
        match loaded {
            Ok(policy) => policies.push(policy),
            Err(errors) => {
                let path = errors.problems().path().display().to_string();
                let check = Check::new(
                    Group::Files,
                    format!("policy {path}"),
                    State::Bad,
                    "cannot be used",
                );
                unreadable.push(check.advise(format!("see `tollgate policy check {path}`")));
            }
        }
    }
    (policies, unreadable)
}

fn system(operation: impl Into<String>) -> impl FnOnce(std::io::Error) -> DoctorError {
    let operation = operation.into();
    move |source| DoctorError::System { operation, source }
}
