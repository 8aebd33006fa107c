//! Protocol adapters: bytes to commands, verdicts to bytes.
//!
//! One folder a protocol. The traits here are stated for what three shapes of protocol need (a pipelined one,
//! a multiplexed one, one whose library drives the connection) and are not frozen before all three stand.

pub mod http;
pub mod mysql;
pub mod opaque;
pub mod postgres;
mod shared;
pub mod sql;
mod target;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::finding::{Question, Sighting};
use crate::flow::Stream;
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId, HttpAsks, Material, Parameter, Secret, SessionId};
use crate::policy::{Authorized, Denied, HoldTerms, Ruling};
use crate::tls::LocalCa;

pub use shared::Shared;
pub use target::Target;

/// What the sessions of each protocol share on a host.
#[derive(Debug)]
pub struct Adapters {
    /// PostgreSQL: certificates, cancel keys, catalogs.
    pub postgres: postgres::Adapter,
    /// HTTP: certificates.
    pub http: http::Adapter,
}

impl Adapters {
    /// Adapters whose clients are shown certificates of `authority`.
    pub fn new(authority: Arc<LocalCa>) -> Self {
        Self {
            postgres: postgres::Adapter::new(Arc::clone(&authority)),
            http: http::Adapter::new(authority),
        }
    }
}

/// Something that the stages wait for, and that is not bound to them.
pub type Wait<T> = Pin<Box<dyn Future<Output = Result<T, SessionEnd>> + Send>>;

/// Tells the stages what came of [`Stages::material`]. `None`: the service has no credential.
pub type TakeMaterial<S> = Box<dyn FnOnce(&mut S) -> Result<Option<Material>, SessionEnd> + Send>;

/// What a session may ask of the stages behind its protocol. Kept by `engine`.
///
/// A session of a protocol in which one thing follows on another has them to itself. One whose exchanges run side by side
/// shares them as [`Shared`]: so what may be waited for while others go on is not bound to `self`, and what is said of
/// a command names it, where it need not be the last one.
pub trait Stages: Send {
    /// `None`: the next frame of up to 64 KiB can be recorded without waiting for the disk. Otherwise what to wait for before
    /// this is asked again.
    fn room(&mut self) -> Option<Wait<()>>;

    /// Resolves when [`room`](Self::room) is there. To be called before [`record`](Self::record), so that a slow disk holds
    /// back this session and not the thread that it runs on.
    fn ready(&mut self) -> impl Future<Output = Result<(), SessionEnd>> + Send {
        async {
            while let Some(room) = self.room() {
                room.await?;
            }
            Ok(())
        }
    }

    /// Records `parts`, joined, as one frame. Returns when they would survive SIGKILL of the agent; so call it
    /// before the bytes are forwarded. Blocks for the disk only where [`ready`](Self::ready) was not asked before.
    fn record(&mut self, kind: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd>;

    /// Judges a command, and records command and verdict. In observe mode a refusal is recorded and the command passes.
    fn judge(&mut self, command: &Arc<Command>, occasion: Occasion<'_>) -> Result<Ruling, SessionEnd>;

    /// What the rules have to know of the bodies of requests. Whoever cannot say asks for everything.
    fn asks(&self) -> HttpAsks {
        HttpAsks::EVERYTHING
    }

    /// The session, where it has a name in the records.
    fn session(&self) -> Option<SessionId> {
        None
    }

    /// The command that was judged last.
    fn judged(&self) -> CommandNumber;

    /// Puts the command that was judged last, which was [`Ruling::Hold`], before its approvers.
    fn hold(&mut self, hold: HoldRequest) -> Result<PlacedHold, SessionEnd>;

    /// Records how a hold ended.
    fn hold_ended(&mut self, id: &HoldId, decision: &HoldDecision) -> Result<(), SessionEnd>;

    /// Counts what is about to go to the client, against the limits of the service. An error: it must not go, and is
    /// not counted.
    fn count(&mut self, rows: u64, bytes: u64) -> Result<(), SessionEnd>;

    /// Records that values of a result column, by its name in the result, were masked in what `command` returned.
    fn masked(
        &mut self,
        command: CommandNumber,
        column: &str,
        by: MaskedBy,
        values: u64,
    ) -> Result<(), SessionEnd>;

    /// What a client that logs in as `user` is asked for before it is let in, because the policy wants to know whether it has
    /// a password of its own; `None`: nothing.
    fn question(&self, user: &str) -> Option<Question>;

    /// A client that logs in as `user` was asked, and has no password.
    fn has_no_password(&mut self, user: &str);

    /// Notes and records that the workload has a secret of its own. Nothing is kept of the secret but its fingerprint.
    fn found(&mut self, sighting: Sighting) -> Result<(), SessionEnd>;

    /// The masks of the session's service.
    fn masks(&self) -> Arc<Masks>;

    /// A login for the target: the lease is the session's and ends with it.
    fn login(&mut self) -> impl Future<Output = Result<Login, SessionEnd>> + Send;

    /// What the target is shown, for protocols that know more than logins. The lease is the session's and ends with it. Not bound
    /// to `self`; what comes of it has to be told to the stages, which then say what it is.
    fn material(&mut self) -> Wait<TakeMaterial<Self>>
    where
        Self: Sized + 'static;

    /// How requests get what [`material`](Self::material) gives; by default not at all.
    fn injection(&self) -> http::inject::Injection {
        http::inject::Injection::default()
    }

    /// A connection to the target, dialled outside every managed cgroup. Not bound to `self`.
    fn dial(&mut self) -> Wait<Stream>;

    /// What follows is not judged command by command, so that the session ends with its identity. [`Self::ending`] has to be asked
    /// anew afterwards.
    fn unjudged(&mut self);

    /// Resolves when the session has to end for a reason of its own: its identity expired, the agent stops.
    /// Not bound to `self`, so that it can be waited for beside everything else.
    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>>;
}

/// On which occasion a command is judged.
#[derive(Clone, Copy, Debug)]
pub enum Occasion<'a> {
    /// It does not begin to run by this: it is prepared, or it goes on. Recorded only when it does not pass.
    Check,
    /// It would run now, with these parameters.
    Run(&'a [Parameter]),
    /// It would run now, and is the exchange of this number: of a protocol whose exchanges run side by side.
    Exchange(u64, &'a [Parameter]),
}

/// Number of a command in its session, from 1; 0: none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandNumber(pub u64);

/// Why values were masked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaskedBy {
    /// They came, or may have come, from a column that the policy masks.
    Column,
    /// A detector knew them by their looks.
    Detector,
    /// The policy names the path, the key or the header field that they stood under.
    Name,
}

/// A command to be put before an approver.
#[derive(Clone, Debug)]
pub struct HoldRequest {
    /// The command.
    pub command: Arc<Command>,
    /// Its bind parameters, masked for people.
    pub parameters: Vec<Parameter>,
    /// BLAKE3 of the exact bytes that will run if it is approved.
    pub binding: [u8; 32],
    /// On which terms, from the ruling.
    pub terms: HoldTerms,
    /// Since when the session's transaction has been open and has written; `None`: it has not.
    pub writing_since: Option<SystemTime>,
}

/// A command that waits.
pub struct PlacedHold {
    /// What approvers type.
    pub id: HoldId,
    /// The decision, or the time-out. Dropping it withdraws the hold: nobody can decide on it any more.
    pub decision: Pin<Box<dyn Future<Output = HoldDecision> + Send>>,
}

/// How a hold ended, and by whom.
#[derive(Clone, Debug)]
pub struct HoldDecision {
    /// For the protocol.
    pub outcome: HoldOutcome,
    /// For the record.
    pub end: HoldEnding,
    /// Who decided, where a person did.
    pub by: Option<String>,
    /// In their words.
    pub reason: Option<String>,
}

/// How a hold ended, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldEnding {
    /// A person let it pass.
    Approved,
    /// A person refused it.
    Denied,
    /// Nobody decided in time.
    TimedOut,
    /// The client or the agent took it back.
    Cancelled,
}

/// How a hold ended, for the protocol.
#[derive(Clone, Debug)]
pub enum HoldOutcome {
    /// Approved, bound to these bytes.
    Approved(Authorized, [u8; 32]),
    /// Refused by a person or by time.
    Refused(Denied),
    /// Taken back by the client itself (a cancel request); the protocol's own words for that are the answer.
    Cancelled,
}

/// A login for the target.
#[derive(Clone, Debug)]
pub struct Login {
    /// User name.
    pub user: Secret,
    /// Password.
    pub password: Secret,
    /// Database to ask for instead of the client's.
    pub database: Option<String>,
}

/// Why a session cannot go on: whose fault it is decides who is told what.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionEnd {
    /// The workload broke the protocol.
    #[error("the client broke the protocol: {0}")]
    Client(String),
    /// The target broke the protocol, or went away.
    #[error("the target failed: {0}")]
    Target(String),
    /// The record cannot be written: the session must not go on.
    #[error("the session cannot be recorded: {0}")]
    Record(String),
    /// Something in the agent failed.
    #[error("the agent failed: {0}")]
    Agent(String),
    /// No credential could be had for the session.
    #[error("there is no credential for this session: {0}")]
    Credential(String),
    /// The credential of the session is void: its time is over, or it was revoked.
    #[error("the credential of this session is void: {0}")]
    CredentialEnded(String),
    /// Policy ends the session: an expired token, a limit, a revocation.
    #[error("{}", .0.message)]
    Policy(Denied),
    /// The policy is another one by now, and does not have the service as this session knows it.
    #[error("the policy of the workload was changed")]
    Changed,
    /// Nobody's fault: the agent stops.
    #[error("the agent was stopped")]
    Stop,
}
