//! Sources that make a credential: what they are asked for, and what they answer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{CredentialError, Handle, Material};
use crate::config::Share;
use crate::identity::JobToken;
use crate::kernel::netns::Netns;
use crate::model::{CgroupId, CgroupPath, ServiceName, SessionId, WorkloadName};
use crate::protocol::Target;

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

    /// Asks for what has to be in the journal before anything is made, where only a server can name it: a token of its own, say,
    /// with which everything goes that is made under it. Its answer takes the place of what was planned. What it leaves when it
    /// is given up half-way has to end by itself, and soon. By default nothing is asked for.
    fn prepare<'a>(&'a self, _ask: &'a Ask) -> Working<'a, Result<Option<Handle>, MakeError>> {
        Box::pin(async { Ok(None) })
    }

    /// Makes it. `planned` is what [`Self::plan`] or [`Self::prepare`] said, and is in the journal by now. If this is given up half-way, what was
    /// planned is revoked.
    fn make<'a>(&'a self, ask: &'a Ask, planned: Option<&'a Handle>) -> Working<'a, Result<Made, MakeError>>;

    /// For how long, from its making on, what `handle` names is renewed. `None`, and by default: not at all, it ends when it
    /// was said to.
    fn renewed_for(&self, _handle: &Handle) -> Option<Duration> {
        None
    }

    /// Has it last longer. Asked when two thirds of its time are over and somebody has it; after an error again, for as long
    /// as it lasts.
    fn renew<'a>(&'a self, _handle: &'a Handle) -> Working<'a, Result<Renewal, CredentialError>> {
        Box::pin(async { Ok(Renewal::Final) })
    }

    /// The agent stops, and everything that was made is void: gives up what the source itself was let in with.
    fn close(&self) -> Working<'_, ()> {
        Box::pin(async {})
    }
}

/// What a renewal came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// It lasts until then.
    Until(SystemTime),
    /// It ends when it was said to, whatever is asked.
    Final,
    /// It is not there any more.
    Gone,
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
    /// The workload's own token, where its policy asks for one: the newest that was found good.
    pub token: Option<JobToken>,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Certainly nothing.
    Nothing,
    /// Perhaps what was planned: it has to be revoked.
    Perhaps,
    /// Something for certain, which nobody gets, and which this voids.
    There(Box<Handle>),
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
