//! Secrets of workloads' own: looked for in their processes, listed and forgotten on request.

use crate::config::{FindingsSpec, Glob, PolicyDoc, TokenSource};
use crate::control::Response;
use crate::finding::{FindingId, Findings, Sighting, process};
use crate::identity::{FlowFacts, Hangs, Interior, is_gone, read_beside};

use super::start::{StartError, host};
use super::state::StateDir;

/// Opens the list.
pub(super) fn open(state: &StateDir) -> Result<Findings, StartError> {
    let key = state
        .finding_key()
        .map_err(host("the key of fingerprints cannot be read or made"))?;
    Findings::open(&state.findings(), &key).map_err(|error| StartError::Host {
        what: "findings cannot be kept".to_owned(),
        source: std::io::Error::other(error),
    })
}

/// Why a process could not be looked at.
pub(super) struct Unseen {
    gone: bool,
    why: String,
}

impl Unseen {
    /// Into the log, unless it has just ended.
    pub(super) fn tell(&self, doc: &PolicyDoc, pid: u32) {
        if !self.gone {
            self.tell_all(doc, pid);
        }
    }

    fn tell_all(&self, doc: &PolicyDoc, pid: u32) {
        tracing::info!(
            event = "finding.unseen",
            pid,
            workload = %doc.workload.name,
            why = self.why,
            "a process could not be looked at for secrets"
        );
    }
}

/// Secrets in the process that opened a flow, where its policy has them looked for.
pub(super) async fn look_at(doc: &PolicyDoc, facts: &FlowFacts) -> Vec<Sighting> {
    look(doc, facts).await.unwrap_or_else(|unseen| {
        unseen.tell_all(doc, facts.pid);
        Vec::new()
    })
}

/// Secrets in a process, where its policy has them looked for.
pub(super) async fn look(doc: &PolicyDoc, facts: &FlowFacts) -> Result<Vec<Sighting>, Unseen> {
    let FindingsSpec {
        environment,
        command_line,
        ..
    } = doc.findings;
    if !environment && !command_line {
        return Ok(Vec::new());
    }
    let ignored = ignored(doc);
    let of_flow = facts.clone();
    let look = move || {
        let interior = Interior::read(&of_flow, command_line, environment)?;
        Ok::<_, std::io::Error>(process::sightings(&interior, &ignored))
    };
    match read_beside(facts.cgroup, look).await {
        Ok(sightings) => sightings.map_err(|error| Unseen {
            gone: is_gone(&error),
            why: error.to_string(),
        }),
        Err(Hangs) => Err(Unseen {
            gone: false,
            why: "its memory does not answer".to_owned(),
        }),
    }
}

/// Variables that are not looked at: those that the policy names, and the one that it wants the workload's token in.
fn ignored(doc: &PolicyDoc) -> Vec<Glob> {
    let token = doc.identity.as_ref().and_then(|identity| match &identity.token {
        TokenSource::Env(name) => Some(name),
        TokenSource::File(_) | TokenSource::Login => None,
    });
    let patterns = doc.findings.ignore.iter().chain(token);
    // They were compiled when the policy was read.
    patterns.filter_map(|pattern| Glob::name(pattern).ok()).collect()
}

/// Forgets one. Blocks for the disk.
pub(super) fn forget(findings: &Findings, id: &FindingId, by: &str) -> Response {
    match findings.forget(id) {
        Ok(()) => {
            tracing::info!(event = "finding.forgotten", finding = %id, by, "a finding was forgotten");
            Response::Forgotten
        }
        Err(error) => Response::Refused {
            message: error.to_string(),
        },
    }
}
