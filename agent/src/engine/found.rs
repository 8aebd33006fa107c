//! Secrets that a workload has of its own, as its session meets them.

use crate::config::FindingsSpec;
use crate::finding::{Findings, Question, Sighting, Witness};
use crate::model::FrameKind;
use crate::protocol::SessionEnd;
use crate::record::meta::FindingMeta;

use super::stages::SessionStages;

/// What a session needs to note them.
pub(super) struct Lookout {
    pub(super) findings: Findings,
    pub(super) spec: FindingsSpec,
    pub(super) witness: Witness,
}

impl Lookout {
    pub(super) fn question(&self, user: &str) -> Option<Question> {
        let Witness {
            workload, service, ..
        } = &self.witness;
        self.findings
            .question(self.spec.probe, workload, service.as_ref()?, user)
    }

    pub(super) fn has_no_password(&self, user: &str) {
        let Witness {
            workload, service, ..
        } = &self.witness;
        let Some(service) = service else { return };
        self.findings.has_no_password(workload, service, user);
        tracing::info!(
            event = "finding.none",
            session = self.witness.session.map(tracing::field::display),
            %workload,
            %service,
            "a client that was asked for a password has none; it is not asked again"
        );
    }
}

impl SessionStages {
    /// Notes a secret, and says in the record that it was seen.
    pub(super) fn note_sighting(&mut self, sighting: Sighting) -> Result<(), SessionEnd> {
        let finding = self.lookout.findings.note(sighting, &self.lookout.witness);
        let meta = FindingMeta {
            finding: finding.id.to_string(),
            kind: finding.kind.name().to_owned(),
            fingerprint: finding.fingerprint.to_string(),
            at: finding.at.to_string(),
            count: finding.count,
        };
        self.note(FrameKind::Finding, &meta)
    }
}
