//! All findings of the host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::file::{self, Kept};
use super::sighting::{Question, SecretKind, SeenAt, Sighting, Witness};
use super::{FindingError, FindingKey, Fingerprint};
use crate::config::Probe;
use crate::model::{CgroupPath, ServiceName, SessionId, WorkloadName};

/// Findings of one workload; a further one takes the place of the one that was seen longest ago. So a workload that sends a
/// new secret each time crowds out its own alone.
pub const MOST_OF_WORKLOAD: usize = 128;
/// Findings of all workloads.
pub const MOST: usize = 2048;
/// Logins that are known to have no password.
const MOST_WITHOUT: usize = 1024;
/// Least time between two writes of the list.
const BETWEEN_WRITES: Duration = Duration::from_secs(1);

/// Names a finding: twelve hexadecimal digits. It follows from the secret's fingerprint, workload and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FindingId(pub String);

impl fmt::Display for FindingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A secret that a workload still has. Holds nothing of the secret but its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Its name.
    pub id: FindingId,
    /// What it is.
    pub kind: SecretKind,
    /// Stands for the secret; for a proof, for the password that it proves.
    pub fingerprint: Fingerprint,
    /// Whose it is.
    pub workload: WorkloadName,
    /// The service that it was sent to; `None`: it was seen in a process.
    #[serde(default)]
    pub service: Option<ServiceName>,
    /// What the service speaks.
    #[serde(default)]
    pub protocol: Option<String>,
    /// Where it was seen.
    pub at: SeenAt,
    /// Who had it when it was seen last.
    pub identity: String,
    /// In which cgroup.
    pub cgroup: CgroupPath,
    /// By which program, where that is known.
    #[serde(default)]
    pub executable: Option<String>,
    /// As which user.
    pub uid: u32,
    /// In which session; `None`: in a process that was looked at without one.
    #[serde(default)]
    pub session: Option<SessionId>,
    /// When it was seen first.
    pub first: DateTime<Utc>,
    /// When it was seen last.
    pub last: DateTime<Utc>,
    /// How often it was seen: in a session, or in a process.
    pub count: u64,
}

/// All findings of the host, shared by its sessions.
#[derive(Clone, Debug)]
pub struct Findings(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    key: FindingKey,
    state: Mutex<State>,
    /// Taken while the list is written, so that an older one does not overwrite a newer one.
    writing: Mutex<()>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    found: BTreeMap<FindingId, Finding>,
    dirty: bool,
    /// Workload, service and user of logins that were asked for a password and had none.
    without: BTreeSet<(WorkloadName, ServiceName, String)>,
    /// Why the list is not as it should be, for operators.
    faults: Faults,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    set_aside: Option<PathBuf>,
    unwritten: Option<String>,
}

impl Findings {
    /// Reads the list at `path`, if there is one.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn open(path: &Path, key: &[u8; 32]) -> Result<Self, FindingError> {
        let mut state = State::default();
        match file::read(path)? {
            Kept::List(list) => {
                state.found = list
                    .into_iter()
                    .take(MOST)
                    .map(|found| (found.id.clone(), found))
                    .collect();
            }
            Kept::SetAside(aside) => {
                tracing::error!(path = %aside.display(), "the list of findings could not be understood; it was set aside, and begins anew");
                state.faults.set_aside = Some(aside);
            }
        }
        Ok(Self(Arc::new(Shared {
            path: path.to_owned(),
            key: FindingKey::new(key),
            state: Mutex::new(state),
            writing: Mutex::default(),
            changed: Notify::new(),
        })))
    }

    /// Notes that `witness` had a secret, and gives what is known of it now. The secret is wiped.
    pub fn note(&self, sighting: Sighting, witness: &Witness) -> Finding {
        let fingerprint = self.0.key.fingerprint(&sighting);
        let Sighting { kind, at, secret } = sighting;
        drop(secret);
        let at = at.cut();
        let of_service = at.is_of_service().then_some(witness);
        let id = FindingId(
            self.0.key.id(&[
                witness.workload.as_str(),
                of_service
                    .and_then(|witness| witness.service.as_ref())
                    .map_or("", ServiceName::as_str),
                &at.to_string(),
                &fingerprint.to_string(),
            ]),
        );
        let now = Utc::now();
        let mut state = self.0.state.lock();
        let (first, count) = match state.found.get(&id) {
            Some(found) => (found.first, found.count.saturating_add(1)),
            None => {
                state.make_room(&witness.workload);
                (now, 1)
            }
        };
        let finding = Finding {
            id: id.clone(),
            kind,
            fingerprint,
            workload: witness.workload.clone(),
            service: of_service.and_then(|witness| witness.service.clone()),
            protocol: of_service.map(|witness| witness.protocol.to_owned()),
            at,
            identity: witness.identity.clone(),
            cgroup: witness.cgroup.clone(),
            executable: witness.executable.clone(),
            uid: witness.uid,
            session: witness.session,
            first,
            last: now,
            count,
        };
        state.found.insert(id, finding.clone());
        state.dirty = true;
        drop(state);
        self.0.changed.notify_one();
        if finding.count == 1 {
            tracing::warn!(
                event = "finding.new",
                finding = %finding.id,
                kind = kind.name(),
                fingerprint = %finding.fingerprint,
                workload = %finding.workload,
                service = witness.service.as_ref().map(tracing::field::display),
                session = witness.session.map(tracing::field::display),
                identity = finding.identity,
                at = %finding.at,
                "the workload has a secret of its own"
            );
        } else {
            tracing::debug!(
                event = "finding.again",
                finding = %finding.id,
                session = witness.session.map(tracing::field::display),
                count = finding.count,
                "the workload still has a secret of its own"
            );
        }
        finding
    }

    /// All findings, or those of one workload; those seen last come first.
    pub fn list(&self, workload: Option<&WorkloadName>) -> Vec<Finding> {
        let of = |found: &&Finding| workload.is_none_or(|workload| found.workload == *workload);
        let mut list: Vec<Finding> = self.0.state.lock().found.values().filter(of).cloned().collect();
        list.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.id.cmp(&b.id)));
        list
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.state.lock().found.len()
    }

    /// Forgets one. It is found again if the workload still has the secret. Blocks for the disk.
    ///
    /// # Errors
    /// There is none of that id, or the list cannot be written.
    pub fn forget(&self, id: &FindingId) -> Result<(), FindingError> {
        {
            let mut state = self.0.state.lock();
            if state.found.remove(id).is_none() {
                return Err(FindingError::Unknown(id.to_string()));
            }
            state.dirty = true;
        }
        self.write()
    }

    /// What a client of this login is to be asked for, under a policy that has `probe`. A login that had no password is not
    /// asked again until the agent starts anew: it would never get in.
    pub fn question(
        &self,
        probe: Option<Probe>,
        workload: &WorkloadName,
        service: &ServiceName,
        user: &str,
    ) -> Option<Question> {
        let question = match probe? {
            Probe::Password => Question::Password,
            Probe::Proof => Question::Proof {
                salt: self.0.key.salt(),
            },
        };
        let login = (workload.clone(), service.clone(), user.to_owned());
        (!self.0.state.lock().without.contains(&login)).then_some(question)
    }

    /// A client of this login was asked, and has no password.
    pub fn has_no_password(&self, workload: &WorkloadName, service: &ServiceName, user: &str) {
        let without = &mut self.0.state.lock().without;
        if without.len() >= MOST_WITHOUT {
            without.pop_first();
        }
        without.insert((workload.clone(), service.clone(), user.to_owned()));
    }

    /// What operators should know, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let Faults { set_aside, unwritten } = self.0.state.lock().faults.clone();
        let set_aside = set_aside.map(|path| {
            format!(
                "the list of findings could not be understood and begins anew; the old one is {}: remove it when it was looked at",
                path.display()
            )
        });
        let unwritten = unwritten.map(|why| format!("findings are not kept over a restart: {why}"));
        set_aside.into_iter().chain(unwritten).collect()
    }

    /// Writes the list when it has changed, at most once a second. Runs until it is dropped; what changed last is to be
    /// written by [`flush`](Self::flush).
    pub async fn keep(self) {
        loop {
            self.0.changed.notified().await;
            let findings = self.clone();
            // What fails is a warning in the status, and is tried again at the next change.
            tokio::task::spawn_blocking(move || findings.flush()).await.ok();
            tokio::time::sleep(BETWEEN_WRITES).await;
        }
    }

    /// Writes the list if it has changed. Blocks for the disk.
    pub fn flush(&self) {
        if self.0.state.lock().dirty
            && let Err(error) = self.write()
        {
            tracing::error!(%error, "findings are not kept");
        }
    }

    fn write(&self) -> Result<(), FindingError> {
        let _writing = self.0.writing.lock();
        let list: Vec<Finding> = {
            let mut state = self.0.state.lock();
            state.dirty = false;
            state.found.values().cloned().collect()
        };
        let written = file::write(&self.0.path, &list);
        let mut state = self.0.state.lock();
        state.dirty |= written.is_err();
        state.faults.unwritten = written.as_ref().err().map(ToString::to_string);
        written
    }
}

impl State {
    /// Makes room for one more of `workload`.
    fn make_room(&mut self, workload: &WorkloadName) {
        let own = self.found.values().filter(|found| found.workload == *workload);
        if own.count() >= MOST_OF_WORKLOAD {
            self.drop_oldest(|found| found.workload == *workload);
        }
        if self.found.len() >= MOST {
            self.drop_oldest(|_| true);
        }
    }

    fn drop_oldest(&mut self, of: impl Fn(&Finding) -> bool) {
        let oldest = self
            .found
            .values()
            .filter(|found| of(found))
            .min_by_key(|found| found.last)
            .map(|found| found.id.clone());
        if let Some(oldest) = oldest {
            self.found.remove(&oldest);
        }
    }
}
