//! What the JSON frames of a record say: the contract between the engine, which writes them, and whatever reads
//! records.
//!
//! A reader has to accept keys that it does not know (a later version may add some) and gives a key that is missing
//! its empty value where that is marked `default`; keys are never renamed and never change their meaning.
//! Nothing here holds a secret or a value that a mask hid.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Command, HoldId, Parameter, RuleName, ServiceName, SessionId, WorkloadName};

/// Frame [`Open`](crate::model::FrameKind::Open): the first of a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpenMeta {
    /// The session. The same as in the file's name and header.
    pub session: SessionId,
    /// When the connection was accepted, by the host's wall clock; RFC 3339 in UTC.
    pub started: DateTime<Utc>,
    /// Name of the host.
    pub host: String,
    /// Workload to which the flow belongs.
    pub workload: WorkloadName,
    /// Service that it asked for.
    pub service: ServiceName,
    /// Protocol that is spoken, as policies name it: `postgres`, `opaque` …
    pub protocol: String,
    /// BLAKE3 of the policy file under which the session runs, in lower-case hex.
    pub policy_hash: String,
    /// Address and port of the workload's end, in its own network namespace.
    pub client: String,
    /// Address and port that the workload asked for.
    pub original_destination: String,
    /// Who it is: process, cgroup, validated claims. A key `summary` in it, if there is one, is the line that
    /// listings show.
    pub identity: serde_json::Value,
    /// `enforce` or `observe`.
    pub mode: String,
}

/// Frame [`Close`](crate::model::FrameKind::Close): the last of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CloseMeta {
    /// Why it ended, one sentence for people. [`CloseMeta::KILLED`] where the agent died under the session and the
    /// next start sealed its journal; the counts are 0 then.
    pub reason: String,
    /// Commands that were decoded.
    pub commands: u64,
    /// Of these, commands that passed, held and approved ones among them.
    pub allowed: u64,
    /// Of these, commands that were refused, by a rule, a person or a time-out.
    pub denied: u64,
    /// Of these, commands that waited for a person.
    pub held: u64,
    /// Result rows that went to the client.
    pub rows: u64,
    /// Bytes that went to the client.
    pub bytes_to_client: u64,
    /// Bytes that the client sent.
    pub bytes_to_server: u64,
    /// Values that a mask replaced.
    pub masked_values: u64,
}

impl CloseMeta {
    /// Reason of a session that the agent did not end itself.
    pub const KILLED: &'static str = "the agent was killed while the session was open";
}

/// Frame [`Command`](crate::model::FrameKind::Command): a decoded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandMeta {
    /// Number of the command in its session, from 1. Verdict, approval and mask frames refer to it.
    pub number: u64,
    /// Number of the exchange that it is, where exchanges run side by side: what its bytes are marked with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exchange: Option<u64>,
    /// Number of the identity that it ran under: 0 is the open frame's, others those of [identity frames](IdentityMeta).
    #[serde(default)]
    pub identity: u32,
    /// The command, its secrets replaced.
    pub command: Command,
    /// Its bind parameters, masked for people.
    #[serde(default)]
    pub parameters: Vec<Parameter>,
}

/// What the rules said of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is refused.
    Deny,
    /// It waits for a person.
    Hold,
}

/// Frame [`Verdict`](crate::model::FrameKind::Verdict): what the rules said of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictMeta {
    /// Number of the command.
    pub number: u64,
    /// What the rules said.
    pub verdict: Verdict,
    /// Rules that said so; empty where no rule covered the command.
    #[serde(default)]
    pub rules: Vec<RuleName>,
    /// For a refusal, the sentence that the client got; in observe mode, what it would have got.
    #[serde(default)]
    pub message: String,
    /// For a refusal, what can be done about it.
    #[serde(default)]
    pub hint: String,
}

/// Where a hold stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApprovalState {
    /// The command waits.
    Requested,
    /// A person let it pass.
    Approved,
    /// A person refused it.
    Denied,
    /// Nobody decided in time.
    TimedOut,
    /// The client withdrew it, or went away.
    Cancelled,
}

/// Frame [`Approval`](crate::model::FrameKind::Approval): a hold, or its end. One frame a change of state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalMeta {
    /// Id of the hold.
    pub hold: HoldId,
    /// Number of the command that is held.
    pub number: u64,
    /// What happened.
    pub state: ApprovalState,
    /// Who decided; `None` where no person did.
    #[serde(default)]
    pub by: Option<String>,
    /// What they said.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Frame [`Mask`](crate::model::FrameKind::Mask): what was masked in the results of a command, and how often. Never
/// a value. One frame a column or detector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskMeta {
    /// Number of the command.
    pub number: u64,
    /// Origin of the column, `schema.table.column`, where a column rule masked it.
    #[serde(default)]
    pub column: Option<String>,
    /// Name of the detector, where one masked it.
    #[serde(default)]
    pub detector: Option<String>,
    /// How many values.
    pub count: u64,
}

/// What happened to a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// A credential was taken for the session.
    Taken,
    /// Its time was prolonged.
    Renewed,
    /// It is void.
    Revoked,
    /// It could not be taken.
    Failed,
    /// It is not void yet: the agent goes on trying after the session.
    Pending,
    /// The session has it no more; others of the workload have, or may yet.
    Returned,
}

/// Frame [`Lease`](crate::model::FrameKind::Lease): what happened to a credential. Never a secret, and never the
/// name of the injected user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseMeta {
    /// What happened.
    pub state: LeaseState,
    /// Kind of source, as policies name it: `file`, `env`, `systemd` …
    pub source: String,
    /// Until when it is valid, where it ends by itself.
    #[serde(default)]
    pub expires: Option<DateTime<Utc>>,
    /// For a failure, why, in words without a secret.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What happened to the identity of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdentityState {
    /// The job has a newer token: commands from here on run under it.
    Renewed,
    /// The token's time was over, and there was no newer one.
    Expired,
    /// An operator revoked it, or a policy denies it.
    Revoked,
}

/// Frame [`Identity`](crate::model::FrameKind::Identity): a change of the identity that commands run under.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IdentityMeta {
    /// Number of the identity in its session; the open frame's is 0.
    pub number: u32,
    /// What happened.
    pub state: IdentityState,
    /// Who it is, as in the open frame.
    pub identity: serde_json::Value,
    /// For a revocation, by what.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Frame [`Finding`](crate::model::FrameKind::Finding): the workload has a secret of its own, and where it was seen. Never
/// the secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingMeta {
    /// Name of the finding, as `tollgate findings list` has it.
    pub finding: String,
    /// Kind of the secret: `password`, `password-proof`, `token` …
    pub kind: String,
    /// Stands for the secret: a keyed hash, the same for the same secret on one host.
    pub fingerprint: String,
    /// Where it was seen: `login as app`, `variable PGPASSWORD`, `argument 3`.
    pub at: String,
    /// In how many sessions it was seen, this one among them.
    pub count: u64,
}

/// Whose fault an error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The workload's: it broke the protocol.
    Client,
    /// The target's: it broke the protocol, refused, or went away.
    Target,
    /// The agent's or its host's.
    Agent,
    /// Nobody's: the policy ended the session.
    Policy,
}

/// Frame [`Error`](crate::model::FrameKind::Error): something that went wrong in the session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorMeta {
    /// Whose fault.
    pub fault: Fault,
    /// What, in one sentence without a secret.
    pub message: String,
}

/// Frame [`Gap`](crate::model::FrameKind::Gap): bytes that the record does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapMeta {
    /// Why, one sentence for people.
    pub reason: String,
    /// How many bytes, where that is known.
    #[serde(default)]
    pub bytes: Option<u64>,
}
