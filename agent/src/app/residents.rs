//! Looks for secrets in the processes of workloads, whether they open sessions or not, where the policy says `interval`.
//!
//! A process is looked at once, and again when it has executed another program: what it was started with does not change
//! otherwise. What that costs is bounded: a round looks at [`MOST_LOOKS`] processes of a workload, and leaves the others to the
//! next; and the rounds of a workload take at most a twentieth of the time. A workload whose memory does not answer holds
//! up its own rounds alone.
//!
//! Known limits: a process that comes and goes between two rounds is not seen, unless it opens a session. One that keeps
//! its memory in place at `execve` (`personality(2)`) and executes the file that it runs already is taken for the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::FindingsSpec;
use crate::finding::Witness;
use crate::identity::{Image, Resident, identify};
use crate::kernel::{ManagedCgroups, Member, members};
use crate::model::PolicyId;
use crate::policy::WorkloadPolicy;

use super::accept::Reception;
use super::findings;

/// How often it is seen whether a round is due.
const LOOK: Duration = Duration::from_millis(500);
/// Processes of one workload that are looked at in one round.
const MOST_LOOKS: usize = 256;
/// Of these, how many at the same time.
const AT_A_TIME: usize = 4;
/// After a round, how many times as long as it took nothing is done.
const REST: u32 = 19;

/// Processes that were looked at, by their number.
type Seen = HashMap<u32, Image>;

/// How it stands with one workload.
struct Rounds {
    /// What was looked for.
    spec: FindingsSpec,
    seen: Seen,
    /// When the next one begins; `None`: one is under way.
    due: Option<Instant>,
}

/// Looks for as long as the agent runs.
pub(super) async fn watch(reception: Arc<Reception>, managed: watch::Receiver<ManagedCgroups>) {
    let mut rounds: BTreeMap<PolicyId, Rounds> = BTreeMap::new();
    let mut going: JoinSet<(PolicyId, Seen, Duration)> = JoinSet::new();
    loop {
        let next = Instant::now() + LOOK;
        // A round that has ended says when the next one is due; nothing else has to be done then.
        while let Ok(Some(ended)) = timeout_at(next, going.join_next()).await {
            let Ok((policy, seen, took)) = ended else {
                continue;
            };
            if let Some(rounds) = rounds.get_mut(&policy) {
                let pause = rounds.spec.interval.unwrap_or_default().max(took * REST);
                rounds.seen = seen;
                rounds.due = Some(Instant::now() + pause);
            }
        }
        sleep(next.saturating_duration_since(Instant::now())).await;
        let catalogue = reception.policies.current();
        let wanting = catalogue.set.policies().iter();
        let wanting: Vec<_> = wanting
            .filter(|policy| policy.doc.findings.interval.is_some())
            .collect();
        rounds.retain(|id, rounds| rounds.due.is_none() || wanting.iter().any(|policy| policy.id == *id));
        for policy in wanting {
            let spec = &policy.doc.findings;
            let rounds = rounds.entry(policy.id).or_insert_with(|| Rounds {
                spec: spec.clone(),
                seen: Seen::new(),
                due: Some(Instant::now()),
            });
            if rounds.due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            // What is looked for is another thing now: so everybody is looked at again.
            if rounds.spec != *spec {
                rounds.spec = spec.clone();
                rounds.seen.clear();
            }
            rounds.due = None;
            let (reception, policy) = (Arc::clone(&reception), Arc::clone(policy));
            let cgroups = Arc::clone(&managed.borrow());
            let seen = std::mem::take(&mut rounds.seen);
            going.spawn(async move {
                let began = Instant::now();
                let seen = round(&reception, &policy, cgroups, seen).await;
                (policy.id, seen, began.elapsed())
            });
        }
    }
}

/// One round: those who are there and were looked at, by now or before.
async fn round(
    reception: &Reception,
    policy: &WorkloadPolicy,
    managed: ManagedCgroups,
    before: Seen,
) -> Seen {
    let (cgroup2, id) = (reception.kernel.cgroup2().clone(), policy.id);
    let listed = tokio::task::spawn_blocking(move || {
        let managed = managed.values().filter(|cgroup| cgroup.policy == id);
        residents(members(&cgroup2, managed))
    });
    let mut seen = Seen::new();
    let mut new = Vec::new();
    for resident in listed.await.unwrap_or_default() {
        let pid = resident.facts.pid;
        if before.get(&pid) == Some(&resident.image) {
            seen.insert(pid, resident.image);
        } else if new.len() < MOST_LOOKS {
            seen.insert(pid, resident.image);
            new.push(resident);
        }
    }
    stream::iter(new)
        .for_each_concurrent(AT_A_TIME, async |resident| {
            look(reception, policy, &resident).await;
        })
        .await;
    seen
}

/// Those of `listed` that are still there, each once.
fn residents(listed: Vec<Member>) -> Vec<Resident> {
    let by_number: BTreeMap<u32, Resident> = listed
        .into_iter()
        .filter_map(|member| Resident::of(member.pid, member.cgroup, &member.cgroup_path).ok())
        .map(|resident| (resident.facts.pid, resident))
        .collect();
    by_number.into_values().collect()
}

async fn look(reception: &Reception, policy: &WorkloadPolicy, resident: &Resident) {
    let sightings = match findings::look(&policy.doc, &resident.facts).await {
        Ok(sightings) if sightings.is_empty() => return,
        Ok(sightings) => sightings,
        Err(unseen) => return unseen.tell(&policy.doc, resident.facts.pid),
    };
    let Ok(identity) = identify(&resident.facts, None, &reception.tokens).await else {
        return;
    };
    let witness = Witness::of_process(&policy.doc.workload.name, &identity);
    for sighting in sightings {
        reception.host.findings.note(sighting, &witness);
    }
}
