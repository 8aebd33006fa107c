//! What the kernel side has counted, read from its pinned map: also while no agent runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use agent_common::{EventKind, Stat};
use anyhow::{Context, Result};

use crate::process::run;

/// How a redirection is counted: the program that did it, and where nothing arrived, what stopped the attack.
const REDIRECTED: (&str, &str) = ("redirected", "connect4/6");

/// Likewise what is sent to the agent instead of a nameserver.
const STEERED: (&str, &str) = ("steered", "the agent's DNS");

/// Counts by kind of event and program, and the ports of the proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    counts: BTreeMap<(&'static str, &'static str), u64>,
    proxy: (u16, u16),
}

#[derive(serde::Deserialize)]
struct Printed {
    stats: Vec<u64>,
    proxy: (u16, u16),
}

impl Counters {
    /// The sum over every generation that is pinned below `pins`; zeros where nothing is.
    pub fn read(pins: &Path) -> Result<Self> {
        let output = run(Command::new(super::python())
            .arg(super::attacks().join("counters.py"))
            .arg(pins))?;
        let printed: Printed = serde_json::from_str(&output).context("the counters")?;
        let mut counts = BTreeMap::new();
        for (kind, program, stat) in EventKind::ALL
            .into_iter()
            .map(|kind| (kind.name(), kind.program(), Stat::of(kind)))
            .chain([
                (REDIRECTED.0, REDIRECTED.1, Stat::REDIRECTED),
                (STEERED.0, STEERED.1, Stat::STEERED),
            ])
        {
            let number = printed.stats.get(usize::try_from(stat.0)?).copied().unwrap_or(0);
            counts.insert((kind, program), number);
        }
        Ok(Self {
            counts,
            proxy: printed.proxy,
        })
    }

    /// The proxy's ports, on 127.0.0.1 and on `::1`; zeros before an agent has set them.
    pub const fn proxy(&self) -> (u16, u16) {
        self.proxy
    }

    /// How often the kind of this name was counted.
    pub fn count(&self, kind: &str) -> u64 {
        self.counts
            .iter()
            .filter(|((name, _), _)| *name == kind)
            .map(|(_, count)| count)
            .sum()
    }

    /// The programs that have stopped or redirected something since `before`.
    pub fn programs_since(&self, before: &Self) -> Vec<&'static str> {
        let mut programs: Vec<_> = self
            .counts
            .iter()
            .filter(|((kind, _), _)| *kind != EventKind::EgressObserved.name())
            .filter(|(key, count)| **count > before.counts.get(*key).copied().unwrap_or(0))
            .map(|((_, program), _)| *program)
            .collect();
        programs.sort_unstable();
        programs.dedup();
        programs
    }
}
