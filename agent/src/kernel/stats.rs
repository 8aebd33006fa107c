//! Counters of the kernel side.

use agent_common::{EventKind, Stat};
use aya::maps::PerCpuValues;

use super::{Kernel, KernelError};

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

impl Kernel {
    /// The counters.
    pub fn stats(&self) -> Result<Stats, KernelError> {
        let maps = self.maps.lock();
        let sum = |stat: Stat| {
            let values = maps
                .stats
                .get(&stat.0, 0)
                .map_err(KernelError::map("STATS", "a look-up"))?;
            Ok(values.iter().sum())
        };
        Ok(Stats {
            redirected: sum(Stat::REDIRECTED)?,
            unlisted: sum(Stat::UNLISTED)?,
            events: EventKind::ALL
                .into_iter()
                .map(|kind| Ok((kind, sum(Stat::of(kind))?)))
                .collect::<Result<_, KernelError>>()?,
        })
    }

    /// Counts a connection that was destroyed, beside what the programs count.
    pub fn count_destroyed(&self) -> Result<(), KernelError> {
        let slot = Stat::of(EventKind::ConnectionDestroyed).0;
        let mut maps = self.maps.lock();
        let values = maps
            .stats
            .get(&slot, 0)
            .map_err(KernelError::map("STATS", "a look-up"))?;
        let mut values: Vec<u64> = values.iter().copied().collect();
        // No program counts in this slot.
        if let Some(first) = values.first_mut() {
            *first += 1;
        }
        PerCpuValues::try_from(values)
            .map_err(KernelError::system("counting"))
            .and_then(|values| {
                maps.stats
                    .set(slot, values, 0)
                    .map_err(KernelError::map("STATS", "an update"))
            })
    }
}
