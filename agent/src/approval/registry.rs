//! The holds that wait at this moment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rand::RngCore;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::{Approver, Decision, HoldEnd, HoldInfo, HoldView};
use crate::model::HoldId;

/// Every hold that waits. Shared by the sessions, which place, and the control socket, which decides.
#[derive(Debug)]
pub struct Holds {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<HoldId, Waiting>,
    /// The last ones that ended, so that a late approver is told what happened.
    ended: VecDeque<(HoldId, String)>,
}

#[derive(Debug)]
struct Waiting {
    info: HoldInfo,
    placed_at: DateTime<Utc>,
    tell: oneshot::Sender<HoldEnd>,
}

/// A hold that was placed. Dropping it withdraws the hold.
#[derive(Debug)]
#[must_use = "dropping it withdraws the hold"]
pub struct Held {
    holds: Arc<Holds>,
    id: HoldId,
    deadline: Instant,
    end: oneshot::Receiver<HoldEnd>,
}

/// Why a decision does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecideError {
    /// No such hold waits.
    #[error("no command is held under {id}{}", what_became(.became.as_deref()))]
    Gone {
        /// The id that was asked for.
        id: HoldId,
        /// What became of it, where that is still known.
        became: Option<String>,
    },
    /// Whoever asks may not decide on it.
    #[error("{user} is not an approver of this command; it waits for: {approvers}")]
    NotAnApprover {
        /// Who asked.
        user: String,
        /// Who may.
        approvers: String,
    },
    /// Whoever asks is the one who waits.
    #[error("{user} runs the held command and cannot decide on it; another approver has to")]
    SelfApproval {
        /// Who asked.
        user: String,
    },
    /// What was seen is not what waits.
    #[error("what you saw is not what waits under {id}; list the held commands again before you decide")]
    Changed {
        /// The hold.
        id: HoldId,
    },
}

fn what_became(became: Option<&str>) -> String {
    became.map_or_else(
        || "; `tollgate approvals` lists those that wait".to_owned(),
        |became| format!(": it {became}"),
    )
}

impl Default for Holds {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
        }
    }
}

impl Holds {
    /// No holds.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Puts a command before its approvers. The time-out of its terms runs from now.
    pub fn place(self: &Arc<Self>, info: HoldInfo) -> Held {
        let (tell, end) = oneshot::channel();
        let deadline = Instant::now() + info.terms.timeout.min(YEARS);
        let waiting = Waiting {
            info,
            placed_at: Utc::now(),
            tell,
        };
        let id = {
            let mut state = self.state.lock();
            let id = state.unused_id();
            state.waiting.insert(id.clone(), waiting);
            id
        };
        self.note_change();
        Held {
            holds: Arc::clone(self),
            id,
            deadline,
            end,
        }
    }

    /// The holds that wait, oldest first.
    pub fn list(&self) -> Vec<HoldView> {
        let state = self.state.lock();
        let mut views: Vec<_> = state
            .waiting
            .iter()
            .map(|(id, waiting)| waiting.view(id))
            .collect();
        views.sort_by_key(|view| view.placed_at);
        views
    }

    /// Those of them that `approver` may see: root all, others those whose rules name them.
    pub fn list_for(&self, approver: &Approver) -> Vec<HoldView> {
        let mut views = self.list();
        views.retain(|view| approver.is_named(&view.approvers));
        views
    }

    /// Decides on a hold, and says on which. Checked in this order: whether it waits, whether `by` may decide,
    /// whether what he saw is what waits. A decision that does not count leaves the hold waiting.
    pub fn decide(&self, id: &HoldId, decision: Decision, by: &Approver) -> Result<HoldView, DecideError> {
        let mut state = self.state.lock();
        let Some(waiting) = state.waiting.get(id) else {
            return Err(state.gone(id));
        };
        by.may_decide(&waiting.info)?;
        let by = by.name();
        let (end, became) = match decision {
            Decision::Approve { binding } => {
                if binding.is_some_and(|seen| seen != waiting.info.binding) {
                    return Err(DecideError::Changed { id: id.clone() });
                }
                let became = format!("was approved by {by}");
                let binding = waiting.info.binding;
                (HoldEnd::Approved { by, binding }, became)
            }
            Decision::Deny { reason } => {
                let became = format!("was refused by {by}");
                (HoldEnd::Denied { by, reason }, became)
            }
        };
        let view = waiting.view(id);
        let told = state
            .end(id, became)
            .is_some_and(|waiting| waiting.tell.send(end).is_ok());
        if !told {
            // Its session closed its end and is about to withdraw it: the decision came too late.
            state.ended.pop_back();
            state.ended.push_back((id.clone(), WITHDRAWN.to_owned()));
        }
        let answer = if told { Ok(view) } else { Err(state.gone(id)) };
        drop(state);
        self.note_change();
        answer
    }

    /// Takes every hold back: the agent stops.
    pub fn cancel_all(&self, why: &str) {
        self.cancel_where(why, |_| true);
    }

    /// Takes back the holds for which `which` says so: those of a session, of a workload.
    pub fn cancel_where(&self, why: &str, which: impl Fn(&HoldInfo) -> bool) {
        let mut state = self.state.lock();
        let ids: Vec<_> = state
            .waiting
            .iter()
            .filter(|(_, waiting)| which(&waiting.info))
            .map(|(id, _)| id.clone())
            .collect();
        for id in ids {
            if let Some(waiting) = state.end(&id, format!("was taken back: {why}")) {
                // A session that has just gone needs no message.
                let _gone = waiting.tell.send(HoldEnd::Cancelled { why: why.to_owned() });
            }
        }
        drop(state);
        self.note_change();
    }

    /// Wakes whenever a hold is placed or ends.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn note_change(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn withdraw(&self, id: &HoldId, became: &str) -> bool {
        let ended = self.state.lock().end(id, became.to_owned()).is_some();
        if ended {
            self.note_change();
        }
        ended
    }
}

impl State {
    fn unused_id(&self) -> HoldId {
        loop {
            let id = random_id();
            if !self.waiting.contains_key(&id) && !self.ended.iter().any(|(ended, _)| *ended == id) {
                return id;
            }
        }
    }

    fn end(&mut self, id: &HoldId, became: String) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        if self.ended.len() == REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back((id.clone(), became));
        Some(waiting)
    }

    fn gone(&self, id: &HoldId) -> DecideError {
        let became = self.ended.iter().rev().find(|(ended, _)| ended == id);
        DecideError::Gone {
            id: id.clone(),
            became: became.map(|(_, became)| became.clone()),
        }
    }
}

impl Waiting {
    fn view(&self, id: &HoldId) -> HoldView {
        let info = &self.info;
        let timeout = chrono::TimeDelta::from_std(info.terms.timeout).unwrap_or(chrono::TimeDelta::MAX);
        HoldView {
            id: id.clone(),
            session: info.session,
            requester: info.requester.clone(),
            workload: info.workload.clone(),
            service: info.service.clone(),
            command: Arc::clone(&info.command),
            parameters: info.parameters.clone(),
            binding: hex::encode(info.binding),
            rules: info.terms.rules.iter().map(ToString::to_string).collect(),
            approvers: info.terms.approvers.clone(),
            placed_at: self.placed_at,
            expires_at: self
                .placed_at
                .checked_add_signed(timeout)
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
            writing_since: info.writing_since.map(SystemTime::into),
        }
    }
}

impl Held {
    /// The id that approvers type; for the notice to the client.
    pub fn id(&self) -> &HoldId {
        &self.id
    }

    /// Waits for the decision or the time-out. Dropping the future withdraws the hold: nobody can decide on it any more.
    pub async fn wait(mut self) -> HoldEnd {
        let deadline = self.deadline;
        tokio::select! {
            // A decision that is already there counts, even when the time-out fires in the same turn.
            biased;
            end = &mut self.end => return end.unwrap_or_else(|_| lost()),
            () = tokio::time::sleep_until(deadline) => {}
        }
        if self.holds.withdraw(&self.id, "timed out") {
            return HoldEnd::TimedOut;
        }
        // Somebody else ended it in this very moment and is about to say how.
        (&mut self.end).await.unwrap_or_else(|_| lost())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Closed first: a decision that comes now is told that it came too late.
        self.end.close();
        self.holds.withdraw(&self.id, WITHDRAWN);
    }
}

fn lost() -> HoldEnd {
    HoldEnd::Cancelled {
        why: "the agent lost track of it".to_owned(),
    }
}

/// Eight characters of RFC 4648 base 32, lower case: 40 random bits. Not a secret, but not to be guessed by mistyping.
fn random_id() -> HoldId {
    let mut bits = rand::rng().next_u64();
    let id: String = std::iter::repeat_with(|| {
        let letter = ALPHABET.get((bits & 31) as usize).copied().unwrap_or(b'a');
        bits >>= 5;
        char::from(letter)
    })
    .take(ID_LENGTH)
    .collect();
    HoldId::from(id.as_str())
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const ID_LENGTH: usize = 8;
const WITHDRAWN: &str = "was withdrawn: its client cancelled it or went away";
/// Stands for "never": longer than the agent runs, and far from overflow.
const YEARS: Duration = Duration::from_hours(10 * 365 * 24);
const REMEMBERED: usize = 256;
