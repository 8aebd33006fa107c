//! What the stages behind a protocol do for one session.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::sync::watch;

use crate::approval::{HoldEnd, HoldInfo, Holds, Requester};
use crate::config::Mode;
use crate::credential::{Ask, CredentialError, Credentials, Lease, LeaseEnd, Leases, Owner};
use crate::finding::{Question, Sighting};
use crate::flow::Stream;
use crate::identity::{Identity, Lapse, Life, TokenClaims};
use crate::kernel::{dial, netns::Netns};
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId, HttpAsks, Parameter, Place, SessionId};
use crate::policy::{self, Denied, Ruling};
use crate::protocol::http::inject::Injection;
use crate::protocol::{
    CommandNumber, HoldDecision, HoldEnding, HoldOutcome, HoldRequest, Login, MaskedBy, Occasion, PlacedHold,
    SessionEnd, Stages, TakeMaterial, Target, Wait,
};
use crate::record::SessionRecord;
use crate::record::meta::{
    ApprovalMeta, ApprovalState, CommandMeta, GapMeta, IdentityMeta, IdentityState, LeaseMeta, LeaseState,
    MaskMeta, Verdict, VerdictMeta,
};

use super::account::Account;
use super::found::Lookout;
use super::term::Term;

/// How long a target may take to accept a connection.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// How long a session that has ended waits for its credential to be void, so that its record can say so. Shorter than
/// sessions are given to end when the agent stops.
const REVOKE_PATIENCE: Duration = Duration::from_secs(3);

/// The stages of one session.
pub(super) struct SessionStages {
    pub(super) id: SessionId,
    pub(super) record: SessionRecord,
    pub(super) account: Account,
    pub(super) rules: Arc<policy::Service>,
    pub(super) mode: Mode,
    pub(super) masks: Arc<Masks>,
    pub(super) credentials: Option<Arc<Credentials>>,
    pub(super) holds: Arc<Holds>,
    pub(super) requester: Requester,
    pub(super) workload: crate::model::WorkloadName,
    pub(super) service: crate::model::ServiceName,
    pub(super) target: Target,
    pub(super) netns: Arc<Netns>,
    /// Who it is, as long as that counts.
    pub(super) life: Life,
    /// Number of the identity that was recorded last.
    pub(super) identity: u32,
    /// Whether what it does is judged command by command; elsewhere it ends with its identity.
    pub(super) judged: bool,
    pub(super) leases: Leases,
    pub(super) owner: Owner,
    /// What was made for the session.
    pub(super) lease: Option<Lease>,
    pub(super) stop: watch::Receiver<bool>,
    /// Where secrets of the workload's own are noted.
    pub(super) lookout: Lookout,
    /// For how long the service has its sessions, and for how long this one may go on.
    pub(super) terms: [Term; 2],
    /// Number of the command that was recorded last.
    pub(super) number: u64,
    /// Which commands wait for a decision.
    pub(super) held: BTreeMap<HoldId, u64>,
    /// JSON of a frame, before it is recorded.
    pub(super) json: Vec<u8>,
    /// What the record lacks since it failed (observe mode alone: elsewhere a session that cannot be recorded ends).
    pub(super) missing: Option<Missing>,
}

/// Frames that could not be recorded.
#[derive(Debug)]
pub(super) struct Missing {
    reason: String,
    bytes: u64,
}

impl SessionStages {
    /// Records `value` as a JSON frame.
    pub(super) fn note<T: Serialize>(&mut self, kind: FrameKind, value: &T) -> Result<(), SessionEnd> {
        self.json.clear();
        serde_json::to_writer(&mut self.json, value).map_err(|error| SessionEnd::Agent(error.to_string()))?;
        let json = std::mem::take(&mut self.json);
        let written = self.write(kind, Direction::ToServer, &[&json]);
        self.json = json;
        written
    }

    /// Records one frame. In observe mode, which refuses nothing, a record that fails does not end the session: it gets a
    /// gap as soon as it can be written again.
    fn write(&mut self, kind: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd> {
        if self.mode == Mode::Enforce {
            return self.record.append(kind, direction, parts).map_err(unrecorded);
        }
        let bytes = || parts.iter().map(|part| part.len() as u64).sum::<u64>();
        if self.missing.is_some() && self.state_gap().is_err() {
            if let Some(missing) = &mut self.missing {
                missing.bytes = missing.bytes.saturating_add(bytes());
            }
            return Ok(());
        }
        if let Err(error) = self.record.append(kind, direction, parts) {
            let reason = error.to_string();
            tracing::error!(session = %self.id, "the session goes on unrecorded, because its workload is only observed: {reason}");
            self.missing = Some(Missing {
                reason,
                bytes: bytes(),
            });
        }
        Ok(())
    }

    /// Says in the record what it lacks, if anything.
    pub(super) fn state_gap(&mut self) -> Result<(), crate::record::RecordError> {
        let Some(missing) = &self.missing else {
            return Ok(());
        };
        let gap = serde_json::json!(GapMeta {
            reason: missing.reason.clone(),
            bytes: Some(missing.bytes)
        })
        .to_string();
        self.record
            .append(FrameKind::Gap, Direction::ToClient, &[gap.as_bytes()])?;
        self.missing = None;
        Ok(())
    }

    /// Gives back what was made for the session, and says in the record what became of it.
    pub(super) async fn give_back(&mut self) {
        if let Err(error) = self.note_renewal() {
            tracing::error!(session = %self.id, "the record lacks that the credential was renewed: {error}");
        }
        let Some(lease) = self.lease.take() else {
            return;
        };
        if let Some(Lapse::Revoked { by }) = self.life.lapse(SystemTime::now()) {
            // Others of the same identity must not go on with it, nor anybody find it later.
            lease.void(&format!("its identity was revoked: {by}"));
        }
        let expires = lease.expires();
        let (state, why) = match lease.end(REVOKE_PATIENCE).await {
            LeaseEnd::Nothing => return,
            LeaseEnd::Revoked => (LeaseState::Revoked, None),
            LeaseEnd::Shared => (LeaseState::Returned, None),
            LeaseEnd::Pending(why) => (LeaseState::Pending, Some(why)),
        };
        if let Err(error) = self.note_lease(state, expires, why) {
            tracing::error!(session = %self.id, "the record lacks what became of the credential: {error}");
        }
    }

    /// What to wait for until something can be recorded; `None`: nothing.
    fn has_no_room(&mut self) -> Option<Wait<()>> {
        match self.record.room() {
            Ok(None) => None,
            Ok(Some(room)) => Some(Box::pin(async {
                room.await;
                Ok(())
            })),
            // What follows fails too, and becomes a gap.
            Err(_) if self.mode == Mode::Observe => None,
            Err(error) => Some(Box::pin(std::future::ready(Err(unrecorded(error))))),
        }
    }

    /// Says in the record that the credential was renewed, before what comes next in the session. Whether it was.
    fn note_renewal(&mut self) -> Result<bool, SessionEnd> {
        let Some(until) = self.lease.as_mut().and_then(Lease::renewed) else {
            return Ok(false);
        };
        self.note_lease(LeaseState::Renewed, Some(until), None)?;
        Ok(true)
    }

    fn note_lease(
        &mut self,
        state: LeaseState,
        expires: Option<SystemTime>,
        reason: Option<String>,
    ) -> Result<(), SessionEnd> {
        let meta = LeaseMeta {
            state,
            source: self
                .credentials
                .as_ref()
                .map_or("none", |credentials| credentials.source())
                .to_owned(),
            expires: expires.map(chrono::DateTime::from),
            reason,
        };
        self.note(FrameKind::Lease, &meta)
    }

    fn verdict(&mut self, ruling: &Ruling) -> Result<(), SessionEnd> {
        let number = self.number;
        let meta = match ruling {
            Ruling::Allow(authorized) => VerdictMeta {
                number,
                verdict: Verdict::Allow,
                rules: authorized.rules().to_vec(),
                message: String::new(),
                hint: String::new(),
            },
            Ruling::Hold(terms) => VerdictMeta {
                number,
                verdict: Verdict::Hold,
                rules: terms.rules.clone(),
                message: String::new(),
                hint: String::new(),
            },
            Ruling::Deny(denied) => VerdictMeta {
                number,
                verdict: Verdict::Deny,
                rules: denied.rules.clone(),
                message: denied.message.clone(),
                hint: denied.hint.clone(),
            },
        };
        self.note(FrameKind::Verdict, &meta)
    }

    fn lapsed(&self) -> Option<Denied> {
        self.life.lapse(SystemTime::now()).map(|lapse| denial(&lapse))
    }

    /// Records a newer identity before the first command that runs under it.
    fn note_identity(&mut self) -> Result<(), SessionEnd> {
        if self.life.number() == self.identity {
            return Ok(());
        }
        let standing = self.life.standing();
        self.identity = standing.number;
        let meta = IdentityMeta {
            number: standing.number,
            state: IdentityState::Renewed,
            identity: identity_json(&standing.identity),
            reason: None,
        };
        self.note(FrameKind::Identity, &meta)
    }

    /// Asks for a credential. `None`: the service has none. Not bound to `self`.
    fn lease(&self) -> Option<impl Future<Output = Result<Lease, CredentialError>> + Send + use<>> {
        let credentials = Arc::clone(self.credentials.as_ref()?);
        let leases = self.leases.clone();
        let ask = Ask {
            owner: self.owner.clone(),
            target: self.target.clone(),
            netns: Arc::clone(&self.netns),
            token: self
                .life
                .standing()
                .identity
                .token
                .as_ref()
                .map(TokenClaims::job_token),
        };
        Some(async move { credentials.lease(&leases, ask).await })
    }

    /// Takes what came of [`lease`](Self::lease), and `what` of it.
    fn take<T>(
        &mut self,
        leased: Result<Lease, CredentialError>,
        what: impl FnOnce(&Lease) -> T,
    ) -> Result<T, SessionEnd> {
        let lease = match leased {
            Ok(lease) => lease,
            Err(error) => {
                self.note_lease(LeaseState::Failed, None, Some(error.to_string()))?;
                return Err(error.into());
            }
        };
        let taken = what(&lease);
        self.note_lease(LeaseState::Taken, lease.expires(), None)?;
        if lease.is_made() {
            self.lease = Some(lease);
        }
        Ok(taken)
    }

    /// Records that the identity does not count any more, if that is so.
    pub(super) fn note_lapse(&mut self) -> Result<(), SessionEnd> {
        let Some(lapse) = self.life.lapse(SystemTime::now()) else {
            return Ok(());
        };
        let standing = self.life.standing();
        let (state, reason) = match lapse {
            Lapse::Expired => (IdentityState::Expired, None),
            Lapse::Revoked { by } => (IdentityState::Revoked, Some(by.to_string())),
        };
        let meta = IdentityMeta {
            number: standing.number,
            state,
            identity: identity_json(&standing.identity),
            reason,
        };
        self.note(FrameKind::Identity, &meta)
    }
}

impl Stages for SessionStages {
    fn room(&mut self) -> Option<Wait<()>> {
        if self.missing.is_some() {
            return None;
        }
        if let Some(waiting) = self.has_no_room() {
            return Some(waiting);
        }
        match self.note_renewal() {
            Ok(false) => None,
            Ok(true) => self.has_no_room(),
            Err(end) => Some(Box::pin(std::future::ready(Err(end)))),
        }
    }

    fn record(&mut self, kind: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd> {
        if kind == FrameKind::ClientBytes {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            self.account.totals.bytes_to_server += bytes as u64;
        }
        self.write(kind, direction, parts)
    }

    fn judge(&mut self, command: &Arc<Command>, occasion: Occasion<'_>) -> Result<Ruling, SessionEnd> {
        let ruling = match self.lapsed() {
            Some(denied) => Ruling::Deny(denied),
            None => self.rules.policy.judge(command),
        };
        let (exchange, parameters): (_, &[Parameter]) = match (occasion, &ruling) {
            // It is judged, and recorded, when it runs.
            (Occasion::Check, Ruling::Allow(_) | Ruling::Hold(_)) => return Ok(ruling),
            (Occasion::Check, Ruling::Deny(_)) => (None, &[]),
            (Occasion::Run(parameters), _) => (None, parameters),
            (Occasion::Exchange(number, parameters), _) => (Some(number), parameters),
        };
        self.note_identity()?;
        self.number += 1;
        self.account.command();
        let meta = CommandMeta {
            number: self.number,
            exchange,
            identity: self.identity,
            command: Command::clone(command),
            parameters: parameters.to_vec(),
        };
        self.note(FrameKind::Command, &meta)?;
        self.verdict(&ruling)?;
        let totals = &mut self.account.totals;
        match &ruling {
            Ruling::Allow(_) => totals.allowed += 1,
            Ruling::Hold(_) => totals.held += 1,
            Ruling::Deny(_) => totals.denied += 1,
        }
        Ok(match self.mode {
            Mode::Enforce => ruling,
            Mode::Observe => Ruling::Allow(ruling.observed()),
        })
    }

    fn asks(&self) -> HttpAsks {
        self.rules.policy.asks()
    }

    fn session(&self) -> Option<SessionId> {
        Some(self.id)
    }

    fn judged(&self) -> CommandNumber {
        CommandNumber(self.number)
    }

    fn hold(&mut self, hold: HoldRequest) -> Result<PlacedHold, SessionEnd> {
        let terms = hold.terms.clone();
        if hold.writing_since.is_some() {
            let denied = Denied {
                rules: terms.rules,
                message: "tollgate: this needs approval, and the transaction has already written: waiting would keep its \
                          locks"
                    .to_owned(),
                hint: "run the command that needs approval first in its transaction, or in one of its own".to_owned(),
            };
            let id = HoldId::from("-");
            let decision = HoldDecision {
                outcome: HoldOutcome::Refused(denied),
                end: HoldEnding::Denied,
                by: None,
                reason: Some("the transaction had already written".to_owned()),
            };
            return Ok(PlacedHold {
                id,
                decision: Box::pin(std::future::ready(decision)),
            });
        }
        let held = self.holds.place(HoldInfo {
            session: self.id,
            requester: self.requester.clone(),
            workload: self.workload.clone(),
            service: self.service.clone(),
            command: hold.command,
            parameters: hold.parameters,
            binding: hold.binding,
            terms: hold.terms,
            writing_since: hold.writing_since,
        });
        let id = held.id().clone();
        let meta = ApprovalMeta {
            hold: id.clone(),
            number: self.number,
            state: ApprovalState::Requested,
            by: None,
            reason: None,
        };
        self.note(FrameKind::Approval, &meta)?;
        self.held.insert(id.clone(), self.number);
        let name = id.clone();
        let lapsed = self.life.lapsed();
        let decision = async move {
            tokio::select! {
                end = held.wait() => decided(&end, &name, &terms),
                // A job whose identity does not count any more runs nothing, approved or not.
                lapse = lapsed => lapsed_while_held(&lapse),
            }
        };
        Ok(PlacedHold {
            id,
            decision: Box::pin(decision),
        })
    }

    fn hold_ended(&mut self, id: &HoldId, decision: &HoldDecision) -> Result<(), SessionEnd> {
        let state = match decision.end {
            HoldEnding::Approved => ApprovalState::Approved,
            HoldEnding::Denied => ApprovalState::Denied,
            HoldEnding::TimedOut => ApprovalState::TimedOut,
            HoldEnding::Cancelled => ApprovalState::Cancelled,
        };
        match decision.end {
            HoldEnding::Approved => self.account.totals.allowed += 1,
            HoldEnding::Denied | HoldEnding::TimedOut | HoldEnding::Cancelled => {
                self.account.totals.denied += 1;
            }
        }
        let meta = ApprovalMeta {
            hold: id.clone(),
            number: self.held.remove(id).unwrap_or(self.number),
            state,
            by: decision.by.clone(),
            reason: decision.reason.clone(),
        };
        self.note(FrameKind::Approval, &meta)
    }

    fn count(&mut self, rows: u64, bytes: u64) -> Result<(), SessionEnd> {
        self.account.count(rows, bytes).map_err(SessionEnd::Policy)
    }

    fn masked(
        &mut self,
        command: CommandNumber,
        column: &str,
        by: MaskedBy,
        values: u64,
    ) -> Result<(), SessionEnd> {
        self.account.totals.masked_values += values;
        let meta = MaskMeta {
            number: command.0,
            column: Some(column.to_owned()),
            detector: (by == MaskedBy::Detector).then(|| "by its looks".to_owned()),
            count: values,
        };
        self.note(FrameKind::Mask, &meta)
    }

    fn question(&self, user: &str) -> Option<Question> {
        self.lookout.question(user)
    }

    fn has_no_password(&mut self, user: &str) {
        self.lookout.has_no_password(user);
    }

    fn found(&mut self, sighting: Sighting) -> Result<(), SessionEnd> {
        self.note_sighting(sighting)
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::clone(&self.masks)
    }

    async fn login(&mut self) -> Result<Login, SessionEnd> {
        // The agent's own look-ups use what was made for the session.
        if let Some(lease) = &self.lease {
            return Ok(lease.login()?);
        }
        let Some(leasing) = self.lease() else {
            return Err(SessionEnd::Agent("the service has no credential".to_owned()));
        };
        let leased = leasing.await;
        Ok(self.take(leased, Lease::login)??)
    }

    fn material(&mut self) -> Wait<TakeMaterial<Self>> {
        let had = self.lease.as_ref().map(|lease| lease.material().clone());
        let leasing = if had.is_some() { None } else { self.lease() };
        Box::pin(async move {
            let Some(leasing) = leasing else {
                return Ok(Box::new(|_: &mut Self| Ok(had)) as TakeMaterial<Self>);
            };
            let leased = leasing.await;
            Ok(
                Box::new(move |stages: &mut Self| stages.take(leased, |lease| Some(lease.material().clone())))
                    as TakeMaterial<Self>,
            )
        })
    }

    fn injection(&self) -> Injection {
        let spec = self
            .credentials
            .as_ref()
            .and_then(|credentials| credentials.http());
        Injection::new(spec.cloned(), self.lookout.spec.cookies)
    }

    fn dial(&mut self) -> Wait<Stream> {
        let (address, netns) = (self.target.address.clone(), Arc::clone(&self.netns));
        Box::pin(async move {
            let dialled = match &address {
                Place::Network(address) => dial::connect(&netns, *address, DIAL_PATIENCE)
                    .await
                    .map(Stream::from),
                Place::Unix(path) => dial::connect_unix(path, DIAL_PATIENCE).await.map(Stream::from),
            };
            dialled.map_err(|error| SessionEnd::Target(format!("it cannot be reached: {error}")))
        })
    }

    fn unjudged(&mut self) {
        self.judged = false;
    }

    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>> {
        let mut stop = self.stop.clone();
        let time_left = self.account.time_left();
        let [service, session] = self.terms.each_ref().map(Term::ended);
        let (revoked, lapsed) = (self.life.revoked(), self.life.lapsed());
        let judged = self.judged;
        let void = self.lease.as_ref().map(Lease::over);
        Box::pin(async move {
            tokio::select! {
                // An agent that is gone stops as well.
                _ = stop.wait_for(|stop| *stop) => SessionEnd::Stop,
                () = service => SessionEnd::Changed,
                () = session => SessionEnd::Changed,
                lapse = revoked => SessionEnd::Policy(denial(&lapse)),
                lapse = lapsed, if !judged => SessionEnd::Policy(denial(&lapse)),
                why = awaited(void) => SessionEnd::CredentialEnded(why),
                () = elapsed(time_left) => SessionEnd::Policy(Denied {
                    rules: Vec::new(),
                    message: "tollgate: this session has lasted as long as its policy allows".to_owned(),
                    hint: "connect again, or have `session` raised in the policy's [service.limits]".to_owned(),
                }),
            }
        })
    }
}

/// Resolves as `future` does; never, where there is none.
async fn awaited<T>(future: Option<impl Future<Output = T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Resolves after `time`; never, where there is no limit.
async fn elapsed(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

fn lapsed_while_held(lapse: &Lapse) -> HoldDecision {
    let denied = denial(lapse);
    HoldDecision {
        end: HoldEnding::Cancelled,
        by: None,
        reason: Some(denied.message.trim_start_matches("tollgate: ").to_owned()),
        outcome: HoldOutcome::Refused(denied),
    }
}

fn decided(end: &HoldEnd, id: &HoldId, terms: &crate::policy::HoldTerms) -> HoldDecision {
    let (ending, by, reason) = match end {
        HoldEnd::Approved { by, .. } => (HoldEnding::Approved, Some(by.clone()), None),
        HoldEnd::Denied { by, reason } => (HoldEnding::Denied, Some(by.clone()), Some(reason.clone())),
        HoldEnd::TimedOut => (HoldEnding::TimedOut, None, None),
        HoldEnd::Cancelled { why } => (HoldEnding::Cancelled, None, Some(why.clone())),
    };
    HoldDecision {
        outcome: end.outcome(id, terms),
        end: ending,
        by,
        reason,
    }
}

fn unrecorded(error: crate::record::RecordError) -> SessionEnd {
    SessionEnd::Record(error.to_string())
}

/// What a client is told whose identity does not count.
pub fn denial(lapse: &Lapse) -> Denied {
    match lapse {
        Lapse::Expired => Denied {
            rules: Vec::new(),
            message: "tollgate: the token of this job has expired".to_owned(),
            hint:
                "put a fresh token where the old one was, or ask the CI system for a token that lives longer"
                    .to_owned(),
        },
        Lapse::Revoked { by } => Denied {
            rules: Vec::new(),
            message: format!("tollgate: the identity of this job does not count any more: {by}"),
            hint:
                "ask the operators of this host; `tollgate identity revocations` shows them what was revoked"
                    .to_owned(),
        },
    }
}

/// The identity, with the line that listings show.
pub(super) fn identity_json(identity: &Identity) -> serde_json::Value {
    let mut json = serde_json::to_value(identity).unwrap_or_default();
    if let Some(object) = json.as_object_mut() {
        object.insert("summary".to_owned(), identity.summary().into());
    }
    json
}
