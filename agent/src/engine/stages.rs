//! What the stages behind a protocol do for one session.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::approval::{HoldEnd, HoldInfo, Holds, Requester};
use crate::config::Mode;
use crate::credential::Credentials;
use crate::kernel::{dial, netns::Netns};
use crate::mask::Masks;
use crate::model::{Command, Direction, FrameKind, HoldId, Parameter, SessionId};
use crate::policy::{self, Denied, Ruling};
use crate::protocol::{
    HoldDecision, HoldEnding, HoldRequest, Login, MaskedBy, Occasion, PlacedHold, SessionEnd, Stages,
};
use crate::record::SessionRecord;
use crate::record::meta::{
    ApprovalMeta, ApprovalState, CommandMeta, LeaseMeta, LeaseState, MaskMeta, Verdict, VerdictMeta,
};

use super::account::Account;

/// How long a target may take to accept a connection.
const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// The stages of one session.
pub(super) struct SessionStages {
    pub(super) id: SessionId,
    pub(super) record: SessionRecord,
    pub(super) account: Account,
    pub(super) rules: Arc<policy::Service>,
    pub(super) mode: Mode,
    pub(super) masks: Arc<Masks>,
    pub(super) credentials: Option<Arc<Credentials>>,
    /// Kind of source of the login, as policies name it.
    pub(super) source: String,
    pub(super) holds: Arc<Holds>,
    pub(super) requester: Requester,
    pub(super) workload: crate::model::WorkloadName,
    pub(super) service: crate::model::ServiceName,
    pub(super) target: SocketAddr,
    pub(super) netns: Arc<Netns>,
    pub(super) expires: Option<SystemTime>,
    pub(super) stop: watch::Receiver<bool>,
    /// Number of the command that was recorded last.
    pub(super) number: u64,
    /// JSON of a frame, before it is recorded.
    pub(super) json: Vec<u8>,
}

impl SessionStages {
    /// Records `value` as a JSON frame.
    pub(super) fn note<T: Serialize>(&mut self, kind: FrameKind, value: &T) -> Result<(), SessionEnd> {
        self.json.clear();
        serde_json::to_writer(&mut self.json, value).map_err(|error| SessionEnd::Agent(error.to_string()))?;
        self.record
            .append(kind, Direction::ToServer, &[&self.json])
            .map_err(unrecorded)
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

    fn expired(&self) -> Option<Denied> {
        self.expires
            .filter(|expires| *expires <= SystemTime::now())
            .map(|_| token_expired())
    }
}

impl Stages for SessionStages {
    fn record(&mut self, kind: FrameKind, direction: Direction, parts: &[&[u8]]) -> Result<(), SessionEnd> {
        if kind == FrameKind::ClientBytes {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            self.account.totals.bytes_to_server += bytes as u64;
        }
        self.record.append(kind, direction, parts).map_err(unrecorded)
    }

    fn judge(&mut self, command: &Arc<Command>, occasion: Occasion<'_>) -> Result<Ruling, SessionEnd> {
        let ruling = match self.expired() {
            Some(denied) => Ruling::Deny(denied),
            None => self.rules.policy.judge(command),
        };
        let parameters: &[Parameter] = match (occasion, &ruling) {
            // It is judged, and recorded, when it runs.
            (Occasion::Check, Ruling::Allow(_) | Ruling::Hold(_)) => return Ok(ruling),
            (Occasion::Check, Ruling::Deny(_)) => &[],
            (Occasion::Run(parameters), _) => parameters,
        };
        self.number += 1;
        self.account.command();
        let meta = CommandMeta {
            number: self.number,
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
                outcome: crate::protocol::HoldOutcome::Refused(denied),
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
        let name = id.clone();
        let decision = async move { decided(&held.wait().await, &name, &terms) };
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
            number: self.number,
            state,
            by: decision.by.clone(),
            reason: decision.reason.clone(),
        };
        self.note(FrameKind::Approval, &meta)
    }

    fn count(&mut self, rows: u64, bytes: u64) -> Result<(), SessionEnd> {
        self.account.count(rows, bytes).map_err(SessionEnd::Policy)
    }

    fn masked(&mut self, column: &str, by: MaskedBy, values: u64) -> Result<(), SessionEnd> {
        self.account.totals.masked_values += values;
        let meta = MaskMeta {
            number: self.number,
            column: Some(column.to_owned()),
            detector: (by == MaskedBy::Detector).then(|| "by its looks".to_owned()),
            count: values,
        };
        self.note(FrameKind::Mask, &meta)
    }

    fn masks(&self) -> Arc<Masks> {
        Arc::clone(&self.masks)
    }

    async fn login(&mut self) -> Result<Login, SessionEnd> {
        let Some(credentials) = &self.credentials else {
            return Err(SessionEnd::Agent("the service has no credential".to_owned()));
        };
        let login = credentials
            .lease(self.id)
            .await
            .map_err(|error| SessionEnd::Agent(error.to_string()))?;
        let meta = LeaseMeta { state: LeaseState::Taken, source: self.source.clone(), expires: None, reason: None };
        self.note(FrameKind::Lease, &meta)?;
        Ok(login)
    }

    async fn dial(&mut self) -> Result<TcpStream, SessionEnd> {
        dial::connect(&self.netns, self.target, DIAL_PATIENCE)
            .await
            .map_err(|error| SessionEnd::Target(format!("it cannot be reached: {error}")))
    }

    fn ending(&self) -> Pin<Box<dyn Future<Output = SessionEnd> + Send>> {
        let mut stop = self.stop.clone();
        let time_left = self.account.time_left();
        Box::pin(async move {
            let limit = async {
                match time_left {
                    Some(left) => tokio::time::sleep(left).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => SessionEnd::Policy(Denied {
                    rules: Vec::new(),
                    message: "tollgate: the agent stops".to_owned(),
                    hint: "connect again when it runs again".to_owned(),
                }),
                () = limit => SessionEnd::Policy(Denied {
                    rules: Vec::new(),
                    message: "tollgate: this session has lasted as long as its policy allows".to_owned(),
                    hint: "connect again, or have `session` raised in the policy's [service.limits]".to_owned(),
                }),
            }
        })
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

fn token_expired() -> Denied {
    Denied {
        rules: Vec::new(),
        message: "tollgate: the token of this job has expired".to_owned(),
        hint: "open a new session with a fresh token, or ask the CI system for a token that lives longer"
            .to_owned(),
    }
}
