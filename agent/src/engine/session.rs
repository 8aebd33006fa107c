//! One session, from its first recorded frame to its last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chrono::Utc;
use futures_util::FutureExt;
use tokio::sync::watch;

use crate::approval::{Holds, Requester};
use crate::config::{EndpointHost, FindingsSpec, Limits, Mode, Protocol, Share};
use crate::credential::{Credentials, Leases, Owner};
use crate::finding::{Findings, Sighting, Witness};
use crate::flow::Stream;
use crate::identity::{Identity, Life};
use crate::kernel::netns::Netns;
use crate::mask::Masks;
use crate::model::{
    Caller, CgroupId, CgroupPath, FrameKind, Place, PolicyId, ServiceName, SessionId, WorkloadName,
};
use crate::policy::{self, Denied};
use crate::protocol::{Adapters, SessionEnd, Shared, Target, opaque};
use crate::record::meta::{ErrorMeta, Fault, OpenMeta};
use crate::record::{Recorder, SessionRecord};
use crate::tls::Upstream;

use super::account::Account;
use super::found::Lookout;
use super::live::Live;
use super::stages::{SessionStages, identity_json};
use super::term::Term;

/// What all sessions of this host share.
pub struct Host {
    /// Where records go.
    pub recorder: Recorder,
    /// Commands that wait.
    pub holds: Arc<Holds>,
    /// Credentials that were made, and are to be void in the end.
    pub leases: Leases,
    /// Secrets that workloads have of their own.
    pub findings: Findings,
    /// What sessions of one protocol share.
    pub adapters: Adapters,
    /// Name of the host, for records.
    pub name: String,
    /// True when the agent stops.
    pub stop: watch::Receiver<bool>,
    /// Sessions that run.
    pub live: parking_lot::Mutex<BTreeMap<SessionId, Arc<Live>>>,
    /// Sessions since the agent started.
    pub total: AtomicU64,
}

/// A service of a workload, ready for sessions.
pub struct Service {
    /// The policy's number.
    pub policy: PolicyId,
    /// Whose it is.
    pub workload: WorkloadName,
    /// Its name.
    pub name: ServiceName,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// BLAKE3 of the policy file.
    pub policy_hash: String,
    /// Its rules.
    pub rules: Arc<policy::Service>,
    /// Its masks.
    pub masks: Arc<Masks>,
    /// Its login; `None` for an opaque one.
    pub credentials: Option<Arc<Credentials>>,
    /// Where secrets of the workload's own are looked for.
    pub findings: FindingsSpec,
    /// Its limits.
    pub limits: Limits,
    /// How it is spoken to.
    pub upstream: Arc<Upstream>,
    /// For how long its sessions may go on.
    pub term: Term,
}

/// One redirected connection.
pub struct Flow {
    /// The workload's end.
    pub stream: Stream,
    /// Its address.
    pub client: Caller,
    /// Where it wanted to go.
    pub original: Place,
    /// Network namespace from which the target is dialled: the workload's.
    pub netns: Arc<Netns>,
    /// The endpoint of the service that matched.
    pub endpoint: EndpointHost,
    /// The job that it came from: the outermost cgroup that is under the policy.
    pub job: (CgroupId, CgroupPath),
    /// Secrets that were seen in the process that opened it.
    pub sightings: Vec<Sighting>,
}

/// Runs a session to its end. Never fails: what goes wrong is told to the client, the record and the log.
///
/// `refused` says why the flow's identity is not the one that the policy asks for: the client is then told so in its protocol,
/// and that is recorded as well.
pub async fn run(host: &Host, service: &Service, flow: Flow, life: Life, refused: Option<Denied>) {
    let id = SessionId::new();
    let identity = life.standing().identity;
    let ends = (flow.client.to_string(), flow.original.to_string());
    let meta = open_meta(id, host, service, ends, &identity);
    let target = Target {
        service: service.name.clone(),
        host: flow.endpoint.clone(),
        address: dialled(&flow.original),
        tls: Arc::clone(&service.upstream),
    };
    let record = match begin(host, id, &meta) {
        Ok(record) => record,
        Err(why) => {
            tracing::error!(session = %id, "a session was refused because it cannot be recorded: {why}");
            refuse(host, service, flow.stream, &target, &SessionEnd::Record(why)).await;
            return;
        }
    };
    let live = Live {
        workload: service.workload.clone(),
        service: service.name.clone(),
        life: life.clone(),
        started: meta.started,
        commands: AtomicU64::new(0),
        bytes_to_client: AtomicU64::new(0),
        policy: service.policy,
        cgroup: identity.cgroup.path.clone(),
        service_term: service.term.clone(),
        term: Term::new(),
    };
    let live = Arc::new(live);
    host.live.lock().insert(id, Arc::clone(&live));
    host.total.fetch_add(1, Ordering::Relaxed);
    let _gone = Gone { host, id };
    let mut stages = SessionStages {
        id,
        record,
        account: Account::new(service.limits, Arc::clone(&live)),
        rules: Arc::clone(&service.rules),
        mode: service.mode,
        masks: Arc::clone(&service.masks),
        credentials: service.credentials.clone(),
        holds: Arc::clone(&host.holds),
        requester: requester(&identity),
        workload: service.workload.clone(),
        service: service.name.clone(),
        target: target.clone(),
        netns: flow.netns,
        life,
        identity: 0,
        judged: service.protocol != Protocol::Opaque,
        leases: host.leases.clone(),
        owner: owner(service, id, flow.job, &identity),
        lease: None,
        stop: host.stop.clone(),
        lookout: Lookout {
            findings: host.findings.clone(),
            spec: service.findings.clone(),
            witness: Witness::new(
                (&service.workload, &service.name),
                protocol_name(service.protocol),
                id,
                &identity,
            ),
        },
        terms: [live.service_term.clone(), live.term.clone()],
        number: 0,
        held: BTreeMap::new(),
        json: Vec::with_capacity(1024),
        missing: None,
    };
    tracing::info!(session = %id, workload = %service.workload, service = %service.name, client = %flow.client, "session");
    let noted = flow
        .sightings
        .into_iter()
        .try_for_each(|sighting| stages.note_sighting(sighting));
    let refused = refused.map(SessionEnd::Policy).or(noted.err());
    let end = match refused {
        Some(end) => {
            refuse(host, service, flow.stream, &target, &end).await;
            Err(end)
        }
        None if service.protocol == Protocol::Http => {
            let shared = Shared::new(stages);
            let session = host
                .adapters
                .http
                .run(flow.stream, &service.rules.doc, &target, shared.clone());
            let end = contained(Box::pin(session)).await;
            let Some(back) = shared.take_back() else {
                // It is sealed as it stands, without an end.
                tracing::error!(session = %id, "something of a session outlived it; this is a fault of the agent: please report it");
                return;
            };
            stages = back;
            end
        }
        None => {
            contained(Box::pin(async {
                match service.protocol {
                    Protocol::Postgres => {
                        host.adapters
                            .postgres
                            .run(flow.stream, service.policy, &target, &mut stages)
                            .await
                    }
                    Protocol::Opaque => opaque::run(flow.stream, &mut stages).await,
                    // Its exchanges share the stages, above.
                    Protocol::Http => Ok(()),
                }
            }))
            .await
        }
    };
    stages.give_back().await;
    close(stages, &end);
}

/// A panic inside of a session ends that session, and its record says so.
async fn contained(session: impl Future<Output = Result<(), SessionEnd>>) -> Result<(), SessionEnd> {
    // Nothing that the session worked with is used again but its record, which a panic leaves whole: a frame counts only
    // when its last store is done.
    AssertUnwindSafe(session)
        .catch_unwind()
        .await
        .unwrap_or_else(|_| {
            // What it was about is on standard error already, and may name what must not be in a record.
            Err(SessionEnd::Agent(
                "it panicked; standard error of tollgate.service has the place".to_owned(),
            ))
        })
}

pub(super) fn begin(host: &Host, id: SessionId, meta: &OpenMeta) -> Result<SessionRecord, String> {
    let meta = serde_json::to_value(meta).map_err(|error| error.to_string())?;
    host.recorder.begin(id, &meta).map_err(|error| error.to_string())
}

async fn refuse(host: &Host, service: &Service, stream: Stream, target: &Target, why: &SessionEnd) {
    let mut stop = host.stop.clone();
    match service.protocol {
        Protocol::Postgres => tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = host.adapters.postgres.refuse(stream, target, why) => {}
        },
        Protocol::Http => tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            () = host.adapters.http.refuse(stream, &service.rules.doc, target, why) => {}
        },
        // A protocol that is not understood has no words for a refusal: the connection is closed.
        Protocol::Opaque => drop(stream),
    }
}

fn close(mut stages: SessionStages, end: &Result<(), SessionEnd>) {
    let id = stages.id;
    // Where the record itself has failed this fails as well; the journal holds what was acknowledged.
    stages.note_lapse().ok();
    let reason = match end {
        Ok(()) => "the client closed the session".to_owned(),
        Err(end) => {
            let fault = match end {
                SessionEnd::Client(_) => Fault::Client,
                SessionEnd::Target(_) => Fault::Target,
                SessionEnd::Record(_)
                | SessionEnd::Agent(_)
                | SessionEnd::Credential(_)
                | SessionEnd::Stop => Fault::Agent,
                SessionEnd::Policy(_) | SessionEnd::CredentialEnded(_) | SessionEnd::Changed => Fault::Policy,
            };
            let message = end.to_string();
            tracing::warn!(session = %id, fault = ?fault, "{message}");
            // Where the record itself has failed this fails as well; the journal holds what was acknowledged.
            stages
                .note(
                    FrameKind::Error,
                    &ErrorMeta {
                        fault,
                        message: message.clone(),
                    },
                )
                .ok();
            message
        }
    };
    if let Err(error) = stages.state_gap() {
        tracing::error!(session = %id, "the record lacks what it could not say any more: {error}");
    }
    let mut totals = stages.account.totals;
    totals.reason = reason;
    let closed = serde_json::to_value(&totals).map_err(|error| error.to_string());
    let closed = closed.and_then(|totals| stages.record.close(&totals).map_err(|error| error.to_string()));
    if let Err(error) = closed {
        tracing::error!(session = %id, "the record could not be closed: {error}; the next start seals what it holds");
    }
}

/// `ends`: the workload's end of the connection, and where it wanted to go.
pub(super) fn open_meta(
    id: SessionId,
    host: &Host,
    service: &Service,
    (client, original_destination): (String, String),
    identity: &Identity,
) -> OpenMeta {
    OpenMeta {
        session: id,
        started: Utc::now(),
        host: host.name.clone(),
        workload: service.workload.clone(),
        service: service.name.clone(),
        protocol: protocol_name(service.protocol).to_owned(),
        policy_hash: service.policy_hash.clone(),
        client,
        original_destination,
        identity: identity_json(identity),
        mode: match service.mode {
            Mode::Enforce => "enforce".to_owned(),
            Mode::Observe => "observe".to_owned(),
        },
    }
}

/// What is spoken, as policies name it.
fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Postgres => "postgres",
        Protocol::Http => "http",
        Protocol::Opaque => "opaque",
    }
}

/// A v4-mapped address is the v4 address on the wire; a destination of 0.0.0.0 or :: is this host.
fn dialled(original: &Place) -> Place {
    let Place::Network(address) = original else {
        return original.clone();
    };
    let ip = match address.ip().to_canonical() {
        std::net::IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    Place::Network(SocketAddr::new(ip, address.port()))
}

/// Whose the credentials are that are made for the session.
fn owner(
    service: &Service,
    session: SessionId,
    (cgroup, cgroup_path): (CgroupId, CgroupPath),
    identity: &Identity,
) -> Owner {
    Owner {
        workload: service.workload.clone(),
        service: service.name.clone(),
        cgroup,
        cgroup_path,
        identity: identity.principal(),
        session,
        share: service
            .credentials
            .as_ref()
            .map_or(Share::Session, |credentials| credentials.share()),
    }
}

fn requester(identity: &Identity) -> Requester {
    Requester {
        summary: identity.summary(),
        uid: identity.uid,
        login_uid: identity.login_uid(),
    }
}

/// Takes the session off the list, also when its task is dropped.
struct Gone<'a> {
    host: &'a Host,
    id: SessionId,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.host.live.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, SessionEnd, contained, dialled};

    #[tokio::test]
    async fn a_panic_ends_one_session_and_says_that_the_agent_failed() {
        let panicking = async { panic!("the words of a panic") };
        let end = contained(panicking).await.unwrap_err();
        assert!(matches!(&end, SessionEnd::Agent(_)), "{end}");
        assert!(!end.to_string().contains("the words"), "{end}");
        assert!(contained(async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn the_dialled_address_is_the_one_that_the_kernel_would_have_reached() {
        for (asked, reached) in [
            ("192.0.2.7:5432", "192.0.2.7:5432"),
            ("[::ffff:192.0.2.7]:5432", "192.0.2.7:5432"),
            ("0.0.0.0:5432", "127.0.0.1:5432"),
            ("[::]:5432", "[::1]:5432"),
            ("[2001:db8::1]:5432", "[2001:db8::1]:5432"),
        ] {
            assert_eq!(
                dialled(&Place::Network(asked.parse().unwrap())).to_string(),
                reached
            );
        }
    }
}
