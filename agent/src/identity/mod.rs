//! From a flow's kernel facts to an identity: cgroup, process, validated token.
//!
//! The cgroup is what the kernel side saw at the connect and cannot be missing. The process may be gone by the time
//! it is looked at; then the identity says so. A token is read and checked where the policy asks for one, and a flow
//! whose token does not count is refused.
//!
//! Known limits: reading another user's process takes `CAP_SYS_PTRACE`; giving up rights to read a token file takes
//! `CAP_SETUID` and `CAP_SETGID`. The agent has to be in the pid namespace that the facts' pid is of, and see cgroup
//! paths from the root of the hierarchy. See [`scrub`] and [`process`] for what a command line can and cannot show.

mod cgroup;
mod engines;
mod interior;
mod job;
mod keep;
mod life;
mod logins;
mod process;
mod readers;
mod resident;
mod revoked;
mod scrub;
mod source;
mod token;

#[cfg(test)]
mod tests;

use std::fmt::Write;
use std::time::SystemTime;

use serde::Serialize;

use crate::config::{IdentitySpec, TokenSource};
use crate::model::{CgroupId, CgroupPath, Secret};

pub use cgroup::{CgroupIdentity, SaysEngine};
pub use engines::{EngineError, Engines, OciState, container_of_state};
pub use interior::Interior;
pub use keep::keep;
pub use life::{Lapse, Life, Standing};
pub use logins::{Logins, TooMany, Unreadable};
pub use process::{Process, is_gone};
pub use resident::{Image, Resident};
pub use revoked::{Revocation, RevocationError, Revoked, Which};
pub use scrub::{Looks, SecretPlace, secret_variable, secrets_by_looks, secrets_in_arguments};
pub use token::{JobToken, SamlError, TokenClaims, TokenError, TokenKind, TokenVerifier};

use process::ProcessHandle;
pub use readers::{Hangs, read_beside};

/// What tokens are looked for and checked with. One for the whole agent.
#[derive(Debug)]
pub struct Tokens {
    /// Checks them.
    pub verifier: TokenVerifier,
    /// Those that jobs registered.
    pub logins: Logins,
}

/// What the kernel side knows of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFacts {
    /// Cgroup of the connecting thread at the time of the connect.
    pub cgroup: CgroupId,
    /// Its path.
    pub cgroup_path: CgroupPath,
    /// Thread group id, in the agent's pid namespace.
    pub pid: u32,
    /// Uid, in the agent's user namespace.
    pub uid: u32,
    /// What the engine says of the container that it is in.
    pub says_engine: Option<SaysEngine>,
    /// The selector that its cgroup, or one above it, was found by.
    pub selected_by: Option<std::sync::Arc<str>>,
    /// Environment variables that the policy asks for.
    pub variables: Vec<String>,
    /// `CLOCK_BOOTTIME` at the connect (`bpf_ktime_get_boot_ns`), in nanoseconds.
    pub connected_at_boottime_ns: u64,
}

/// Who opened a flow. Goes whole into the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// Cgroup, systemd unit, container.
    pub cgroup: CgroupIdentity,
    /// Uid at the connect.
    pub uid: u32,
    /// The process.
    pub process: ProcessState,
    /// What its token says; `None`: the policy asks for none.
    pub token: Option<TokenClaims>,
}

/// The process, as far as it could still be looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ProcessState {
    /// It was there.
    Known(Process),
    /// It had ended before it was looked at.
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// It is there and cannot be read.
    Unreadable {
        /// Its pid.
        pid: u32,
        /// Why, for people.
        reason: String,
    },
}

/// Why a flow has no identity that the policy accepts: the flow is refused.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No process, so no environment.
    #[error(
        "process {pid} ended before its token could be read; keep the token in a file, or let the job wait"
    )]
    ProcessGone {
        /// Its pid.
        pid: u32,
    },
    /// No such variable in the workload.
    #[error(
        "neither process {pid} nor its ancestors in cgroup {cgroup} have a token in ${name}; let the CI job ask for an ID token under that name"
    )]
    NoVariable {
        /// The variable.
        name: String,
        /// The connecting process.
        pid: u32,
        /// Its cgroup at the connect.
        cgroup: CgroupPath,
    },
    /// Nobody has registered a token for the cgroup.
    #[error("nobody has logged in in cgroup {cgroup}; let the job run `tollgate identity login` first")]
    NotLoggedIn {
        /// The cgroup of the flow.
        cgroup: CgroupPath,
    },
    /// The token's place cannot be read.
    #[error("{what} cannot be read: {source}")]
    Unreadable {
        /// The place.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// The workload does not let itself be read.
    #[error(
        "reading the token of process {pid} took too long; its memory or its file system does not answer"
    )]
    Hangs {
        /// The connecting process.
        pid: u32,
    },
    /// An empty file.
    #[error("{origin} is empty")]
    TokenEmpty {
        /// The place.
        origin: String,
    },
    /// Not a token.
    #[error("{origin} is longer than 64 KiB, which no token is")]
    TokenTooLong {
        /// The place.
        origin: String,
    },
    /// The token does not count.
    #[error("the token in {origin} is not accepted: {error}")]
    Token {
        /// The place.
        origin: String,
        /// Why.
        error: TokenError,
    },
}

/// Identifies a flow. `spec`: what the policy asks for; `None`: no token is read.
///
/// Takes as long as the workload lets itself be read (at most 5 s for each of process and token) and the issuer
/// answers (at most 10 s, seldom asked).
pub async fn identify(
    facts: &FlowFacts,
    spec: Option<&IdentitySpec>,
    tokens: &Tokens,
) -> Result<Identity, IdentityError> {
    let cgroup = CgroupIdentity {
        says_engine: facts.says_engine.clone(),
        selected_by: facts.selected_by.clone(),
        ..CgroupIdentity::new(facts.cgroup, facts.cgroup_path.clone())
    };
    let token = match spec {
        Some(spec) => Some(validated_token(facts, &cgroup, spec, tokens).await?),
        None => None,
    };
    Ok(Identity {
        cgroup,
        uid: facts.uid,
        process: look_at_process(facts).await,
        token,
    })
}

/// The cgroup2 path that process `pid` is in now, as the agent's cgroup namespace shows it. An error where the process
/// is gone. For other questions than a flow's: whose end of the control socket is it?
pub fn cgroup_of_process(pid: u32) -> std::io::Result<CgroupPath> {
    ProcessHandle::open(pid)?.cgroup()
}

async fn look_at_process(facts: &FlowFacts) -> ProcessState {
    let pid = facts.pid;
    let flow = facts.clone();
    let read = read_beside(facts.cgroup, move || {
        let handle = ProcessHandle::of_flow(&flow)?;
        let mut process = handle.describe()?;
        process.claims = job::claims(&flow, handle);
        Ok(process)
    });
    match read.await {
        Ok(Ok(process)) => ProcessState::Known(process),
        Ok(Err(error)) if is_gone(&error) => ProcessState::Gone { pid },
        Ok(Err(error)) => ProcessState::Unreadable {
            pid,
            reason: error.kind().to_string(),
        },
        Err(readers::Hangs) => ProcessState::Unreadable {
            pid,
            reason: "its memory does not answer".to_owned(),
        },
    }
}

async fn validated_token(
    facts: &FlowFacts,
    cgroup: &CgroupIdentity,
    spec: &IdentitySpec,
    tokens: &Tokens,
) -> Result<TokenClaims, IdentityError> {
    let token = match &spec.token {
        TokenSource::Login => tokens
            .logins
            .token_for(facts.cgroup, &facts.cgroup_path)
            .ok_or_else(|| IdentityError::NotLoggedIn {
                cgroup: facts.cgroup_path.clone(),
            })?,
        source => read_token(facts, cgroup.container.is_some(), source).await?,
    };
    let verified = match &spec.token {
        TokenSource::Login => tokens.verifier.verify_login(&token, spec).await,
        TokenSource::Env(_) | TokenSource::File(_) => tokens.verifier.verify(&token, spec).await,
    };
    verified.map_err(|error| IdentityError::Token {
        origin: match &spec.token {
            TokenSource::Env(name) => format!("${name}"),
            TokenSource::File(path) => path.display().to_string(),
            TokenSource::Login => "the job's login".to_owned(),
        },
        error,
    })
}

async fn read_token(
    facts: &FlowFacts,
    container: bool,
    source: &TokenSource,
) -> Result<Secret, IdentityError> {
    let (flow, source) = (facts.clone(), source.clone());
    read_beside(facts.cgroup, move || match source {
        TokenSource::Env(name) => source::from_environment(&flow, &name),
        TokenSource::File(path) => source::from_file(&flow, container, &path),
        TokenSource::Login => Err(IdentityError::NotLoggedIn {
            cgroup: flow.cgroup_path.clone(),
        }),
    })
    .await
    .unwrap_or(Err(IdentityError::Hangs { pid: facts.pid }))
}

impl Identity {
    /// When the right to run commands ends: the token's expiry and the policy's leeway. `None`: no token, no end.
    pub fn expires_at(&self) -> Option<SystemTime> {
        self.token.as_ref().map(|token| token.valid_until)
    }

    /// What the environment of its processes says of the job under this name. Its own claim, which nobody has proven.
    pub fn claim(&self, name: &str) -> Option<&str> {
        match &self.process {
            ProcessState::Known(process) => process.claims.get(name).map(String::as_str),
            ProcessState::Gone { .. } | ProcessState::Unreadable { .. } => None,
        }
    }

    /// Account that logged in to start the process, where that is known.
    pub fn login_uid(&self) -> Option<u32> {
        match &self.process {
            ProcessState::Known(process) => process.login_uid,
            ProcessState::Gone { .. } | ProcessState::Unreadable { .. } => None,
        }
    }

    /// Who it is, whatever process it runs as: what its token is about and who says so, or else its user.
    pub fn principal(&self) -> String {
        match &self.token {
            Some(token) => format!("{} ({})", token.subject, token.issuer),
            None => format!("uid {}", self.uid),
        }
    }

    /// One line for people: where it runs, what runs, on whose behalf.
    pub fn summary(&self) -> String {
        let place = self.cgroup.unit.as_deref().unwrap_or(self.cgroup.path.as_str());
        let mut line = place.to_owned();
        if let Some(SaysEngine { name, image, .. }) = &self.cgroup.says_engine {
            let said: Vec<&str> = name.iter().chain(image).map(String::as_str).collect();
            // Writing to a String cannot fail.
            let _infallible = write!(line, " [{}]", said.join(", "));
        }
        // Writing to a String cannot fail.
        let _infallible = match &self.process {
            ProcessState::Known(process) => match &process.executable {
                Some(executable) => write!(line, ", {} (pid {})", executable.display(), process.pid),
                None => write!(line, ", pid {}", process.pid),
            },
            ProcessState::Gone { pid } => write!(line, ", pid {pid} (ended)"),
            ProcessState::Unreadable { pid, .. } => write!(line, ", pid {pid}"),
        };
        let _infallible = write!(line, ", uid {}", self.uid);
        if let Some(token) = &self.token {
            let _infallible = write!(line, ", {}", token.subject);
        }
        line
    }
}
