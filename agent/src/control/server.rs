//! The agent's end of the control socket.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::ControlError;
use super::egress::EgressListing;
use super::identity::ActiveIdentity;
use super::message::{AgentStatus, LiveSession, Request, Response};
use super::peer::Peer;
use super::socket::{Access, Listening, PATIENCE, read_line, refused, send};
use crate::approval::{Approver, Decision, Holds};
use crate::credential::LeaseId;
use crate::finding::{Finding, FindingId};
use crate::identity::{OciState, Revocation, Which};
use crate::model::{HoldId, ServiceName, WorkloadName};

/// What the socket asks of the agent. Kept by the composition root.
pub trait ControlHandler: Send + Sync {
    /// How the agent is.
    fn status(&self) -> AgentStatus;

    /// Sessions that live, oldest first.
    fn sessions(&self) -> Vec<LiveSession>;

    /// Reads the policy files again.
    fn reload(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async { refused("this agent cannot read its policies again; restart it") })
    }

    /// Has the version that is installed now take over.
    fn upgrade(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async { refused("this agent cannot be replaced; restart it") })
    }

    /// Credentials that were made and are not void yet.
    fn leases(&self) -> Response {
        refused("this agent makes no credentials")
    }

    /// Voids one of them.
    fn revoke_lease(&self, _id: LeaseId) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async { refused("this agent makes no credentials") })
    }

    /// Looks for what agents have left on a server.
    fn sweep_leases(&self, _sweep: Sweep) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async { refused("this agent makes no credentials") })
    }

    /// Listens in the network namespace of process `pid`, if a policy concerns it; `asker` is the peer's pid. Root asks.
    /// `state`: what its runtime says of the container.
    fn prepare(
        &self,
        _asker: u32,
        _pid: u32,
        _state: Option<OciState>,
    ) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async { refused("this agent prepares no containers") })
    }

    /// What workloads reach around the services of their policies. The error is a sentence.
    fn egress(&self) -> Result<EgressListing, String>;

    /// Identities that have sessions.
    fn identities(&self) -> Vec<ActiveIdentity> {
        Vec::new()
    }

    /// What was revoked.
    fn revocations(&self) -> Vec<Revocation> {
        Vec::new()
    }

    /// Has tokens not count any more; `by` is the name of who asks. Blocks for the disk.
    fn revoke(&self, _which: Which, _issuer: Option<String>, _by: String, _reason: String) -> Response {
        refused("this agent keeps no identities")
    }

    /// Has tokens count again. Blocks for the disk.
    fn lift(&self, _id: &str, _by: &str) -> Response {
        refused("this agent keeps no identities")
    }

    /// Secrets that workloads have of their own; those of one workload, if one is named.
    fn findings(&self, _workload: Option<&WorkloadName>) -> Vec<Finding> {
        Vec::new()
    }

    /// Forgets one of them; `by` is the name of who asks. Blocks for the disk.
    fn forget_finding(&self, _id: &FindingId, _by: &str) -> Response {
        refused("this agent keeps no findings")
    }

    /// Whether process `pid` is in a managed cgroup. True where that cannot be found out.
    fn is_managed(&self, pid: u32) -> bool;
}

/// What is to be swept: see [`Request::SweepLeases`].
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The workload whose policy has the service; `None`: any.
    pub workload: Option<WorkloadName>,
    /// The service.
    pub service: ServiceName,
    /// The host; `None`: only look.
    pub host: Option<String>,
    /// Drop also what is not expired and in use.
    pub in_use: bool,
}

/// The control socket. Removed from the file system when it is dropped.
#[derive(Debug)]
pub struct Server(Listening);

/// What every connection works with.
struct Desk {
    holds: Arc<Holds>,
    handler: Arc<dyn ControlHandler>,
}

impl Server {
    /// Listens at `path`, mode 0660, of root and of `group` where such a group exists. Makes the directory (0755)
    /// where it is missing, and takes the place of a socket that nobody listens on. Needs a tokio runtime.
    pub fn bind(path: &Path, group: Option<&str>) -> Result<Self, ControlError> {
        Listening::bind(path, Access::Operators(group)).map(Self)
    }

    /// Answers until `stop` resolves. Connections that are open then are closed.
    pub async fn serve(
        self,
        holds: Arc<Holds>,
        handler: Arc<dyn ControlHandler>,
        stop: impl Future<Output = ()>,
    ) {
        let desk = Arc::new(Desk { holds, handler });
        let converse = |stream, peer| {
            let desk = Arc::clone(&desk);
            async move { desk.converse(stream, peer).await }
        };
        self.0.serve(converse, stop).await;
    }
}

impl Desk {
    async fn converse(&self, stream: UnixStream, peer: Peer) -> io::Result<()> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Some(line) = read_line(&mut reader).await? {
            let Ok(request) = serde_json::from_slice(&line) else {
                return send(&mut writer, &refused(UNINTELLIGIBLE)).await;
            };
            // A job may run containers: this does no more for it than its first socket would have.
            let for_jobs_too = matches!(request, Request::Prepare { .. });
            // Asked for each request: a process can be moved into a managed cgroup while it is connected.
            if !for_jobs_too && self.handler.is_managed(peer.pid) {
                tracing::warn!(
                    ?peer,
                    ?request,
                    "refused on the control socket: the peer is in a managed cgroup"
                );
                return send(
                    &mut writer,
                    &refused(
                        "processes in a managed cgroup may not speak to the agent; decide from outside of it",
                    ),
                )
                .await;
            }
            let response = match request {
                Request::Status => Response::Status {
                    status: self.handler.status(),
                },
                Request::Sessions => Response::Sessions {
                    sessions: self.handler.sessions(),
                },
                Request::Reload if peer.uid != 0 => refused("only root may change which policies count"),
                Request::Reload => self.handler.reload().await,
                Request::Upgrade if peer.uid != 0 => refused("only root may have another version take over"),
                Request::Upgrade => self.handler.upgrade().await,
                Request::Leases => self.handler.leases(),
                Request::RevokeLease { .. } | Request::SweepLeases { .. } if peer.uid != 0 => {
                    refused("only root may void credentials")
                }
                Request::RevokeLease { id } => self.handler.revoke_lease(id).await,
                Request::SweepLeases {
                    workload,
                    service,
                    host,
                    in_use,
                } => {
                    let sweep = Sweep {
                        workload,
                        service,
                        host,
                        in_use,
                    };
                    self.handler.sweep_leases(sweep).await
                }
                Request::Prepare { .. } if peer.uid != 0 => {
                    refused("only root may have the agent prepare a container")
                }
                Request::Prepare { pid, state } => self.handler.prepare(peer.pid, pid, state).await,
                Request::Egress => match self.handler.egress() {
                    Ok(listing) => Response::Egress { listing },
                    Err(message) => refused(&message),
                },
                Request::Identities => Response::Identities {
                    identities: self.handler.identities(),
                },
                Request::Revocations => Response::Revocations {
                    revocations: self.handler.revocations(),
                },
                Request::Revoke { .. } | Request::Lift { .. } if peer.uid != 0 => {
                    refused("only root may change whose tokens count")
                }
                Request::Revoke {
                    which,
                    issuer,
                    reason,
                } => match legible(&reason) {
                    Some(reason) => {
                        self.off_the_runtime(peer, move |handler, by| {
                            handler.revoke(which, issuer, by, reason)
                        })
                        .await
                    }
                    None => refused(NO_REASON),
                },
                Request::Lift { id } => {
                    self.off_the_runtime(peer, move |handler, by| handler.lift(&id, &by))
                        .await
                }
                Request::Findings { workload } => Response::Findings {
                    findings: self.handler.findings(workload.as_ref()),
                },
                Request::ForgetFinding { .. } if peer.uid != 0 => refused("only root may forget a finding"),
                Request::ForgetFinding { id } => {
                    self.off_the_runtime(peer, move |handler, by| handler.forget_finding(&id, &by))
                        .await
                }
                Request::Approvals { watch: false } => self.approvals(peer).await,
                Request::Approvals { watch: true } => return self.watch(peer, reader, writer).await,
                Request::Approve { id, binding } => self.approve(peer, &id, binding).await,
                Request::Deny { id, reason } => self.deny(peer, &id, &reason).await,
            };
            send(&mut writer, &response).await?;
        }
        Ok(())
    }

    async fn approvals(&self, peer: Peer) -> Response {
        match look_up(peer).await {
            Ok(approver) => Response::Approvals {
                holds: self.holds.list_for(&approver),
            },
            Err(refused) => refused,
        }
    }

    async fn watch(
        &self,
        peer: Peer,
        mut reader: BufReader<OwnedReadHalf>,
        mut writer: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut changes = self.holds.changes();
        loop {
            changes.mark_unchanged();
            if self.handler.is_managed(peer.pid) {
                return Ok(());
            }
            send(&mut writer, &self.approvals(peer).await).await?;
            let mut more = [0];
            tokio::select! {
                next = changes.changed() => if next.is_err() { return Ok(()) },
                // A watcher has nothing more to say; whatever comes, above all its end, ends the watch.
                _ = reader.read(&mut more) => return Ok(()),
            }
        }
    }

    async fn approve(&self, peer: Peer, id: &HoldId, binding: Option<String>) -> Response {
        let binding = match binding.map(|digits| binding_from_hex(&digits)) {
            None => None,
            Some(Some(binding)) => Some(binding),
            Some(None) => {
                return refused(
                    "the binding has to be the 64 hex digits that `tollgate approvals --json` shows",
                );
            }
        };
        self.decide(peer, id, Decision::Approve { binding }).await
    }

    async fn deny(&self, peer: Peer, id: &HoldId, reason: &str) -> Response {
        match legible(reason) {
            Some(reason) => self.decide(peer, id, Decision::Deny { reason }).await,
            None => refused(NO_REASON),
        }
    }

    /// Has the handler do something that blocks, in the peer's name.
    async fn off_the_runtime(
        &self,
        peer: Peer,
        act: impl FnOnce(&dyn ControlHandler, String) -> Response + Send + 'static,
    ) -> Response {
        let by = match look_up(peer).await {
            Ok(approver) => approver.name().clone(),
            Err(refused) => return refused,
        };
        let handler = Arc::clone(&self.handler);
        tokio::task::spawn_blocking(move || act(handler.as_ref(), by))
            .await
            .unwrap_or_else(|_| refused("the agent stops"))
    }

    async fn decide(&self, peer: Peer, id: &HoldId, decision: Decision) -> Response {
        let approver = match look_up(peer).await {
            Ok(approver) => approver,
            Err(refused) => return refused,
        };
        match self.holds.decide(id, decision.clone(), &approver) {
            Ok(hold) => {
                tracing::info!(hold = %id, by = approver.name(), ?decision, "decided on a held command");
                Response::Decided { hold: Box::new(hold) }
            }
            Err(error) => {
                tracing::warn!(hold = %id, by = approver.name(), ?decision, %error, "a decision did not count");
                refused(&error.to_string())
            }
        }
    }
}

/// A reason as the workload is shown it, in one line of an error message; `None`: there is none.
fn legible(reason: &str) -> Option<String> {
    let reason: String = reason
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(LONGEST_REASON)
        .collect();
    let reason = reason.trim();
    (!reason.is_empty()).then(|| reason.to_owned())
}

async fn look_up(peer: Peer) -> Result<Approver, Response> {
    let looked_up = tokio::task::spawn_blocking(move || Approver::look_up(peer.uid));
    match timeout(PATIENCE, looked_up).await {
        Ok(Ok(Ok(approver))) => Ok(approver),
        Ok(Ok(Err(error))) => Err(refused(&error.to_string())),
        Ok(Err(_)) | Err(_) => Err(refused("the host's user database does not answer; try again")),
    }
}

fn binding_from_hex(digits: &str) -> Option<[u8; 32]> {
    hex::decode(digits).ok()?.try_into().ok()
}

pub(super) const UNINTELLIGIBLE: &str =
    "the request cannot be understood; command and agent have to be of the same version";
const NO_REASON: &str = "a refusal needs a reason: the author of the job reads it";
const LONGEST_REASON: usize = 500;
