//! The control socket: how people and the command line speak to a running agent.
//!
//! A unix socket with one JSON document a line, in both directions. It is root's and, where it exists, the group
//! `tollgate`'s (mode 0660): membership lets a person reach the agent, the policy's `approvers` decide what he may
//! do there. Who is at the other end comes from the kernel (`SO_PEERCRED`) and not from the message, and is looked
//! up again for each request.
//!
//! A peer inside a managed cgroup is refused, root too: a job cannot approve itself. A process that is gone or
//! cannot be looked at counts as managed.
//!
//! Known limits: `SO_PEERCRED` names the process that connected. One outside managed cgroups that passes its
//! connection into one speaks for it; and root inside a managed cgroup can leave the cgroup unless the kernel
//! side forbids it.

mod client;
mod egress;
mod identity;
mod jobs;
mod message;
mod peer;
mod server;
mod socket;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub use client::Client;
pub use egress::{EgressDestination, EgressListing, EgressProcess};
pub use identity::{ActiveIdentity, IdentitySession};
pub use jobs::{Job, JobHandler, JobServer, JobsClient, LoggedIn};
pub use message::{
    AgentStatus, KernelCount, KernelStatus, LiveSession, ReloadReport, Request, Response, SweepReport,
    SweptRole, SweptState, WorkloadStatus,
};
pub use server::{ControlHandler, Server, Sweep};

/// Where the agent listens unless it is told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/tollgate/control.sock";
/// The group whose members may reach the agent, where it exists.
pub const DEFAULT_GROUP: &str = "tollgate";

/// Why the control socket cannot be opened or spoken over.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens.
    #[error("no agent is running: nobody listens on {}; start it with `systemctl start tollgate`", .path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is closed to this user.
    #[error("you may not speak to the agent on {}; become root, or a member of the group `{DEFAULT_GROUP}`", .path.display())]
    NotAllowed {
        /// The socket.
        path: PathBuf,
    },
    /// A second agent.
    #[error("another agent already listens on {}; stop it first", .path.display())]
    AlreadyRunning {
        /// The socket.
        path: PathBuf,
    },
    /// What is at the path is no socket, and is not removed for one.
    #[error("{} exists and is not a socket; remove it, or name another path", .path.display())]
    InTheWay {
        /// The path.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("the control socket {} cannot be made ({})", .path.display(), .source.kind())]
    Bind {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The connection broke.
    #[error("the connection to the agent broke ({})", .source.kind())]
    Broken {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The agent went away.
    #[error("the agent closed the connection without an answer; it may have been stopped")]
    Closed,
    /// Something else than an agent of this version listens.
    #[error("the agent's answer cannot be understood; agent and command have to be of the same version")]
    Unintelligible,
}
