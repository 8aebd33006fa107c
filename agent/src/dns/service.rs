//! Workloads' queries, one after the other: judged, asked, read, and answered when what they tell is protected.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::{self, Alias, Answer, NoAnswer, Told};
use super::ask::{self, AskError, Connection};
use super::judge::{Terms, Views};
use super::name::DnsName;
use super::question::{self, Question, Unreadable};
use super::resolv_conf::{ResolvConf, effective};
use super::throttle::Throttle;
use super::told::Names;
use super::views::Configured;
use crate::flow::{Flow, Origin, Query};
use crate::kernel::netns::Netns;
use crate::model::{CgroupId, NetnsCookie, PolicyId};
use crate::policy::WorkloadPolicy;

/// What the agent knows of workloads, and does for them.
pub trait Workloads: Send + Sync + 'static {
    /// The policy of a number.
    fn policy(&self, policy: PolicyId) -> Option<Arc<WorkloadPolicy>>;

    /// The policy of a cgroup that was not classified yet when it asked. `None`: it is no workload.
    fn classified(
        &self,
        cgroup: CgroupId,
    ) -> impl Future<Output = Result<Option<PolicyId>, NotProtected>> + Send;

    /// The protected name that led to `alias` before.
    fn name_of(&self, policy: PolicyId, alias: &DnsName) -> Option<DnsName>;

    /// Protects what a workload is about to be told; when this is over, it is protected. `proven`: a nameserver that is
    /// believed has said so.
    fn protect(
        &self,
        policy: PolicyId,
        told: Vec<Told>,
        aliases: Vec<Alias>,
        proven: bool,
    ) -> impl Future<Output = Result<(), NotProtected>> + Send;
}

/// What a workload asks for cannot be protected, so it is not told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotProtected(pub String);

/// Answers workloads' queries.
#[derive(Debug)]
pub struct Dns<W> {
    workloads: W,
    host: NetnsCookie,
    configured: Configured,
    terms: Mutex<HashMap<PolicyId, Known>>,
    names: Mutex<Names>,
    /// For those who turned out to be no workload.
    others: Arc<Semaphore>,
    refusals: Throttle,
}

/// What was made of a policy, for as long as it is the same.
#[derive(Clone, Debug)]
struct Known {
    policy: Arc<WorkloadPolicy>,
    terms: Option<Arc<Terms>>,
    outstanding: Arc<Semaphore>,
    conversations: Arc<Semaphore>,
}

/// Datagrams of a workload that are asked at a time. More are dropped, and asked again.
const OUTSTANDING: usize = 256;
/// Connections of a workload to nameservers at a time. More are closed.
const CONVERSATIONS: usize = 64;
/// How long a connection may be silent (RFC 7766 §6.2.3).
const IDLE: Duration = Duration::from_secs(30);

const SERVFAIL: u8 = 2;
const REFUSED: u8 = 5;

/// Who asks, from where.
struct Client {
    /// `None`: no workload, or one whose DNS is nothing to its policy.
    terms: Option<Arc<Terms>>,
    host: Arc<ResolvConf>,
    own: Option<Arc<ResolvConf>>,
    /// Whether it asks from the host's own network namespace. In another one anybody may be any nameserver.
    on_host: bool,
    nameserver: SocketAddr,
    process: u32,
    command: String,
}

impl Client {
    fn views(&self) -> Views<'_> {
        Views {
            host: &self.host,
            own: self.own.as_deref(),
        }
    }
}

/// What becomes of a query.
enum Step {
    /// It is answered here.
    Reply(Vec<u8>),
    /// These bytes are sent to the nameserver.
    Ask(Question, Vec<u8>),
    /// Nobody waits for an answer.
    Nothing,
}

impl<W: Workloads> Dns<W> {
    /// `host`: the host's own network namespace.
    pub fn new(workloads: W, host: NetnsCookie) -> Self {
        Self {
            workloads,
            host,
            configured: Configured::default(),
            terms: Mutex::default(),
            names: Mutex::default(),
            others: Arc::new(Semaphore::new(OUTSTANDING)),
            refusals: Throttle::default(),
        }
    }

    /// The names for which a workload was told an address, the last told first.
    pub fn names_of(&self, policy: PolicyId, address: IpAddr) -> Vec<DnsName> {
        self.names.lock().of(policy, address)
    }

    /// Answers a datagram.
    pub async fn answer(&self, query: Query) {
        let origin = Origin::from(query.origin.clone());
        let client = self.client(&origin, query.origin.original.0, query.netns.cookie());
        let (client, known) = match client.await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "a DNS query was dropped");
                return;
            }
        };
        let Some(_permit) = permit(known.as_ref().map_or(&self.others, |known| &known.outstanding)) else {
            self.refusals.say(known.map(|known| known.policy.id), || {
                tracing::warn!(
                    process = client.process,
                    command = client.command,
                    "a workload asks more than {OUTSTANDING} DNS queries at a time; more are dropped"
                );
            });
            return;
        };
        let reply = match self.judge(&query.bytes, &client) {
            Step::Nothing => return,
            Step::Reply(reply) => reply,
            Step::Ask(question, bytes) => {
                let read = |answer: &[u8]| self.read(&question, answer, &client);
                match ask::by_datagram(&query.netns, client.nameserver, &bytes, read).await {
                    Ok(answer) => self.tell(&question, answer, &client).await,
                    // Whoever asked has given up, as it would have without an agent.
                    Err(AskError::Silence) => return,
                    Err(error) => failure(&question, &error),
                }
            }
        };
        if let Err(error) = query.answer(&reply) {
            tracing::debug!(%error, "a DNS answer could not be delivered");
        }
    }

    /// Answers the queries of a connection to a nameserver, for as long as it lasts.
    pub async fn converse(&self, flow: Flow, nameserver: SocketAddr) {
        let client = self.client(&flow.origin, nameserver, flow.netns.cookie());
        let (client, known) = match client.await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(%error, "a connection to a nameserver was closed");
                return;
            }
        };
        let Some(_permit) = permit(known.as_ref().map_or(&self.others, |known| &known.conversations)) else {
            tracing::warn!(
                process = client.process,
                command = client.command,
                "a workload has more than {CONVERSATIONS} connections to nameservers; one was closed"
            );
            return;
        };
        let netns: &Netns = &flow.netns;
        let mut upstream = Connection::new(netns, client.nameserver);
        let mut stream = flow.stream;
        while let Ok(Ok(bytes)) = timeout(IDLE, ask::read(&mut stream)).await {
            let reply = match self.judge(&bytes, &client) {
                Step::Nothing => return,
                Step::Reply(reply) => reply,
                Step::Ask(question, _) if is_transfer(&question) => {
                    // A transfer is many messages, none of which says that it is the last.
                    question.refusal(REFUSED, Some((21, "tollgate passes no zone transfers")))
                }
                Step::Ask(question, bytes) => {
                    let read = |answer: &[u8]| self.read(&question, answer, &client);
                    match upstream.ask(&bytes, read).await {
                        Ok(answer) => self.tell(&question, answer, &client).await,
                        Err(error) => failure(&question, &error),
                    }
                }
            };
            match timeout(IDLE, ask::write(&mut stream, &reply)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }

    async fn client(
        &self,
        origin: &Origin,
        nameserver: SocketAddr,
        netns: NetnsCookie,
    ) -> Result<(Client, Option<Known>), NotProtected> {
        let policy = match origin.policy {
            PolicyId(0) => self.workloads.classified(origin.cgroup).await?,
            policy => Some(policy),
        };
        let known = match policy {
            Some(policy) => Some(self.known(policy)?),
            None => None,
        };
        let terms = known.as_ref().and_then(|known| known.terms.clone());
        // Who was not classified yet when it asked has no managed cgroup in its record.
        let cgroup = match origin.managed_cgroup {
            CgroupId(0) => origin.cgroup,
            managed => managed,
        };
        let own = match &terms {
            Some(_) => self.configured.of_workload(cgroup, origin.tgid).await,
            None => None,
        };
        let client = Client {
            terms,
            host: self.configured.host(),
            own,
            on_host: netns == self.host,
            nameserver: SocketAddr::new(effective(nameserver.ip()), nameserver.port()),
            process: origin.tgid,
            command: origin.comm.clone(),
        };
        Ok((client, known))
    }

    fn known(&self, id: PolicyId) -> Result<Known, NotProtected> {
        let policy = self
            .workloads
            .policy(id)
            .ok_or_else(|| NotProtected(format!("there is no policy {id} any more")))?;
        let mut all = self.terms.lock();
        match all.get_mut(&id) {
            Some(known) if Arc::ptr_eq(&known.policy, &policy) => Ok(known.clone()),
            Some(known) => {
                known.terms = Terms::of(&policy).map(Arc::new);
                known.policy = policy;
                Ok(known.clone())
            }
            None => {
                let known = Known {
                    terms: Terms::of(&policy).map(Arc::new),
                    policy,
                    outstanding: Arc::new(Semaphore::new(OUTSTANDING)),
                    conversations: Arc::new(Semaphore::new(CONVERSATIONS)),
                };
                all.retain(|id, _| self.workloads.policy(*id).is_some());
                all.insert(id, known.clone());
                self.names.lock().retain(|id| all.contains_key(&id));
                Ok(known)
            }
        }
    }

    fn judge(&self, bytes: &[u8], client: &Client) -> Step {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Unreadable::NoQuery) => return Step::Nothing,
            Err(Unreadable::Malformed(id)) => return Step::Reply(question::malformed(id)),
        };
        let Some(terms) = &client.terms else {
            return Step::Ask(question, bytes.to_vec());
        };
        match terms.judge(&question, bytes, client.nameserver.ip(), client.views()) {
            Ok(words) => Step::Ask(question, words),
            Err(refusal) => {
                let asked = question.asked.as_ref();
                self.refusals.say(Some(terms.policy), || {
                    tracing::warn!(
                        workload = %terms.workload,
                        name = asked.map(|asked| asked.name.to_string()),
                        kind = asked.map(|asked| asked.kind.to_string()),
                        nameserver = %client.nameserver.ip(),
                        process = client.process,
                        command = client.command,
                        "DNS: {refusal}"
                    );
                });
                let reason = format!("tollgate, policy {}: {refusal}", terms.workload);
                let rcode = refusal.rcode(asked);
                Step::Reply(question.refusal(rcode, Some((refusal.extended(), &reason))))
            }
        }
    }

    fn read(&self, question: &Question, bytes: &[u8], client: &Client) -> Result<Answer, NoAnswer> {
        answer::read(question, bytes, |name| {
            let terms = client.terms.as_ref()?;
            let known = terms.protected(name, client.views()).cloned();
            known.or_else(|| self.workloads.name_of(terms.policy, name))
        })
    }

    /// Protects what the answer tells, and gives the bytes for the workload.
    async fn tell(&self, question: &Question, answer: Answer, client: &Client) -> Vec<u8> {
        let Some(terms) = &client.terms else {
            return answer.bytes;
        };
        if !answer.protect.is_empty() || !answer.aliases.is_empty() {
            let proven = client.on_host && terms.trusts(client.nameserver.ip(), &client.host);
            let protected = self
                .workloads
                .protect(terms.policy, answer.protect, answer.aliases, proven)
                .await;
            if let Err(error) = protected {
                tracing::error!(workload = %terms.workload, %error, "an address was not told, because it cannot be protected");
                return question.refusal(SERVFAIL, Some((0, "tollgate cannot protect this address")));
            }
        }
        let mut names = self.names.lock();
        for (address, name) in &answer.told {
            names.tell(terms.policy, *address, name);
        }
        answer.bytes
    }
}

/// `None`: there are too many already.
fn permit(limit: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    Arc::clone(limit).try_acquire_owned().ok()
}

fn failure(question: &Question, error: &AskError) -> Vec<u8> {
    const NETWORK_ERROR: u16 = 23;
    const OTHER: u16 = 0;
    let code = match error {
        AskError::Silence | AskError::Unreachable(_) => NETWORK_ERROR,
        AskError::Answer(_) => OTHER,
    };
    question.refusal(SERVFAIL, Some((code, &format!("tollgate: {error}"))))
}

fn is_transfer(question: &Question) -> bool {
    question
        .asked
        .as_ref()
        .is_some_and(|asked| matches!(asked.kind, RecordType::AXFR | RecordType::IXFR))
}
