//! What goes over the socket: one JSON document a line.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::egress::EgressListing;
use super::identity::ActiveIdentity;
use crate::approval::HoldView;
use crate::credential::on_server::FoundRole;
use crate::credential::{LeaseId, LeaseView};
use crate::finding::{Finding, FindingId};
use crate::identity::{OciState, Revocation, Which};
use crate::model::{CgroupPath, HoldId, ServiceName, SessionId, WorkloadName};

/// What is asked of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the agent is.
    Status,
    /// Sessions that live.
    Sessions,
    /// What workloads reach around the services of their policies.
    Egress,
    /// Identities that have sessions.
    Identities,
    /// What was revoked.
    Revocations,
    /// Have tokens not count any more. For root alone.
    Revoke {
        /// Which.
        which: Which,
        /// Of this issuer alone.
        #[serde(default)]
        issuer: Option<String>,
        /// For the author of the job.
        reason: String,
    },
    /// Have tokens count again. For root alone.
    Lift {
        /// Which revocation.
        id: String,
    },
    /// Commands that wait for the peer's decision; for root, all.
    Approvals {
        /// Send them again at each change, until the peer closes.
        #[serde(default)]
        watch: bool,
    },
    /// Credentials that were made and are not void yet.
    Leases,
    /// Void one of them. For root alone.
    RevokeLease {
        /// Which.
        id: LeaseId,
    },
    /// Look on a service's server for what agents have left, and drop what one host left. For root alone.
    SweepLeases {
        /// The workload whose policy has the service; `None`: any.
        workload: Option<WorkloadName>,
        /// The service.
        service: ServiceName,
        /// The host; `None`: only look.
        host: Option<String>,
        /// Drop also what is not expired and in use.
        #[serde(default)]
        in_use: bool,
    },
    /// Secrets that workloads have of their own.
    Findings {
        /// Of this workload alone.
        #[serde(default)]
        workload: Option<WorkloadName>,
    },
    /// Forget one of them. For root alone.
    ForgetFinding {
        /// Which.
        id: FindingId,
    },
    /// Read the policy files again. For root alone.
    Reload,
    /// Let the version that is installed now take over. For root alone.
    Upgrade,
    /// Listen in the network namespace of a container that is about to start, if a policy concerns it. For root alone, in
    /// managed cgroups too: jobs may run containers.
    Prepare {
        /// Its first process, by its number in the agent's pid namespace.
        pid: u32,
        /// What its runtime says of it; heard of whoever is in no managed cgroup.
        #[serde(default)]
        state: Option<OciState>,
    },
    /// Let a held command run.
    Approve {
        /// Which.
        id: HoldId,
        /// The binding that was seen, as 64 hex digits.
        #[serde(default)]
        binding: Option<String>,
    },
    /// Refuse a held command.
    Deny {
        /// Which.
        id: HoldId,
        /// For the author of the job.
        reason: String,
    },
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "response", rename_all = "snake_case")]
pub enum Response {
    /// To [`Request::Status`].
    Status {
        /// The status.
        status: AgentStatus,
    },
    /// To [`Request::Sessions`].
    Sessions {
        /// The sessions, oldest first.
        sessions: Vec<LiveSession>,
    },
    /// To [`Request::Egress`].
    Egress {
        /// The list.
        listing: EgressListing,
    },
    /// To [`Request::Identities`].
    Identities {
        /// The identities, by issuer and subject.
        identities: Vec<ActiveIdentity>,
    },
    /// To [`Request::Revocations`].
    Revocations {
        /// What was revoked, oldest first.
        revocations: Vec<Revocation>,
    },
    /// It counts.
    Revoked {
        /// As it is kept.
        revocation: Revocation,
    },
    /// It does not count any more.
    Lifted,
    /// To [`Request::Leases`].
    Leases {
        /// The leases, oldest first.
        leases: Vec<LeaseView>,
    },
    /// To [`Request::RevokeLease`]: it is void.
    LeaseRevoked,
    /// To [`Request::SweepLeases`].
    Swept {
        /// What was found.
        report: SweepReport,
    },
    /// To [`Request::Findings`].
    Findings {
        /// The findings; those seen last come first.
        findings: Vec<Finding>,
    },
    /// To [`Request::ForgetFinding`].
    Forgotten,
    /// To [`Request::Approvals`].
    Approvals {
        /// The held commands, oldest first.
        holds: Vec<HoldView>,
    },
    /// The decision counts.
    Decided {
        /// On what it was.
        hold: Box<HoldView>,
    },
    /// To [`Request::Reload`].
    Reloaded {
        /// What came of it.
        report: ReloadReport,
    },
    /// To [`Request::Prepare`]: it may start.
    Prepared {
        /// Under whose policy it will be; `None`: under none.
        workload: Option<WorkloadName>,
    },
    /// To [`Request::Prepare`]: a policy concerns it, or may, and its connections would be refused.
    Unprepared {
        /// One sentence: why, and what to do.
        message: String,
    },
    /// To [`Request::Upgrade`]: it begins. Whether it succeeded, the status tells that is there afterwards.
    Upgrading,
    /// The request was not carried out.
    Refused {
        /// One sentence: why, and what to do.
        message: String,
    },
}

/// What agents have made on one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepReport {
    /// Workload and service whose admin looked.
    pub service: String,
    /// The server.
    pub server: String,
    /// What this host is called in names.
    pub this_host: String,
    /// What was found.
    pub roles: Vec<SweptRole>,
}

/// Something that an agent made, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweptRole {
    /// What was found.
    #[serde(flatten)]
    pub found: FoundRole,
    /// What became of it.
    pub state: SweptState,
    /// Why it could not be dropped.
    pub error: Option<String>,
}

/// What became of something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SweptState {
    /// This host's agent has it in its journal, and sees to it.
    Held,
    /// It was left alone.
    Left,
    /// It was to be dropped, and is in use or not expired.
    InUse,
    /// It was dropped.
    Dropped,
    /// It could not be dropped.
    Failed,
}

/// What came of reading the policy files again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Policies that count now.
    pub policies: u64,
    /// Services (`workload/service`) that are gone or mean something else than before.
    pub changed: Vec<String>,
    /// Sessions that were told to connect again.
    pub sessions_ended: u64,
    /// Cgroups that were under no policy before.
    pub newly_managed: u64,
    /// Destinations of a policy that were not protected before.
    pub newly_protected: u64,
    /// Why a file does not count as it is: a sentence each, with file and line. Then its last good policy counts.
    pub faults: Vec<String>,
}

/// How the agent is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// Version of the running agent.
    pub version: String,
    /// Its pid.
    pub pid: u32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Workloads with a policy.
    pub workloads: Vec<WorkloadStatus>,
    /// Sessions that live.
    pub live_sessions: u64,
    /// Sessions since it started, those that live among them.
    pub total_sessions: u64,
    /// Commands that wait for a decision.
    pub held_commands: u64,
    /// Secrets that workloads have of their own.
    #[serde(default)]
    pub findings: u64,
    /// What the kernel side has counted.
    pub kernel: KernelStatus,
    /// What the operator should know: a policy file that was not taken, a kernel feature that is missing. A sentence each.
    pub warnings: Vec<String>,
    /// Why the last upgrade failed, after which the version from before went on; `None`: it did not.
    #[serde(default)]
    pub failed_upgrade: Option<String>,
}

/// Exact counts of the kernel side since its programs were loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelStatus {
    /// Connections that were redirected to the proxy.
    pub redirected: u64,
    /// Whether every program on security hooks is there.
    #[serde(default)]
    pub lsm: bool,
    /// What it refused, dropped and observed. Every kind stands here, those that never happened too.
    pub events: Vec<KernelCount>,
}

/// How often one kind of thing happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelCount {
    /// What: `"packet-dropped"`.
    pub kind: String,
    /// The program that saw it: `"cgroup_skb/egress"`.
    pub program: String,
    /// How often.
    pub count: u64,
}

/// One workload under a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadStatus {
    /// Its name.
    pub name: WorkloadName,
    /// The policy file.
    pub policy: PathBuf,
    /// BLAKE3 of the file, hex.
    pub policy_hash: String,
    /// "enforce" or "observe".
    pub mode: String,
    /// Cgroups that are managed under it now.
    pub cgroups: Vec<CgroupPath>,
    /// The selector of the policy that each of them was found by, in the same order.
    #[serde(default)]
    pub selected_by: Vec<String>,
    /// Services that are protected for it.
    pub services: Vec<ServiceName>,
}

/// A session that lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveSession {
    /// Its id; `tollgate replay` takes it.
    pub id: SessionId,
    /// Workload.
    pub workload: WorkloadName,
    /// Service.
    pub service: ServiceName,
    /// Who, in one line.
    pub identity: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Commands so far.
    pub commands: u64,
    /// Bytes to the client so far.
    pub bytes_to_client: u64,
}
