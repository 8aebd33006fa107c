//! Counters of the kernel side.

use agent_common::EventKind;

/// Exact counts since the programs were loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Connections redirected to the agent.
    pub redirected: u64,
    /// Destinations that did not fit in the list ([`super::Destination`]).
    pub unlisted: u64,
    /// Events by kind, in the order of [`EventKind::ALL`]; also those that were lost from the stream.
    pub events: Vec<(EventKind, u64)>,
}

impl Stats {
    /// How often `kind` happened.
    pub fn count(&self, kind: EventKind) -> u64 {
        self.events
            .iter()
            .filter(|(found, _)| *found == kind)
            .map(|(_, count)| count)
            .sum()
    }
}
