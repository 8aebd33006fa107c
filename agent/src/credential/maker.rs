//! Sources that make a credential: what they are asked for, and what they answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{CredentialError, Handle, Material};
use crate::config::Share;
use crate::kernel::netns::Netns;
use crate::model::{CgroupId, CgroupPath, ServiceName, SessionId, WorkloadName};
use crate::protocol::postgres::Target;

/// A future of a trait that is used behind a pointer.
pub type Working<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A source that makes something for a session or a workload, and voids it afterwards.
///
/// A new source is a file with this trait and, where what it makes outlives a crash of the agent, a [`Handle`].
pub trait Maker: fmt::Debug + Send + Sync {
    /// Whether its own secrets and programs are there: asked at start and reload, so it asks no server.
    fn check(&self) -> Working<'_, Result<(), CredentialError>>;

    /// Names what [`Self::make`] is going to make, so that it can be found after a crash. Does nothing else. `None`: what
    /// it makes ends by itself, and nothing can or need be revoked.
    fn plan(&self, ask: &Ask) -> Option<Handle>;

    /// Makes it. `planned` is what [`Self::plan`] said, and is in the journal by now. If this is given up half-way, what was
    /// planned is revoked.
    fn make<'a>(&'a self, ask: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>>;
}

/// What a credential is made for.
#[derive(Clone, Debug)]
pub struct Ask {
    /// For whom.
    pub owner: Owner,
    /// The server that it is for.
    pub target: Target,
    /// The network namespace in which the target's address means what it says.
    pub netns: Arc<Netns>,
}

/// Whose a lease is: it is revoked when they end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The workload.
    pub workload: WorkloadName,
    /// The service that it is for.
    pub service: ServiceName,
    /// The job: the outermost cgroup that is under the policy.
    pub cgroup: CgroupId,
    /// Its path.
    pub cgroup_path: CgroupPath,
    /// Who: what the job's token says, or else the user that it runs as.
    pub identity: String,
    /// The session that it was made for.
    pub session: SessionId,
    /// Whether it is that session's alone.
    pub share: Share,
}

/// What was made.
#[derive(Debug)]
pub struct Made {
    /// The credential.
    pub material: Material,
    /// When it ends by itself; the agent revokes it then in any case.
    pub expires: Option<SystemTime>,
    /// What revokes it, where more is known now than was planned.
    pub handle: Option<Handle>,
}

/// Why nothing was made.
#[derive(Debug)]
pub struct MakeError {
    /// Why.
    pub error: CredentialError,
    /// Whether it may be there nevertheless.
    pub left: Left,
}

/// What a failure leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Certainly nothing.
    Nothing,
    /// Perhaps what was planned: it has to be revoked.
    Perhaps,
}

impl MakeError {
    /// A failure before anything was asked for.
    pub fn before(error: impl Into<CredentialError>) -> Self {
        Self {
            error: error.into(),
            left: Left::Nothing,
        }
    }
}
