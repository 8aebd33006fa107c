//! Processes under a policy, as they run now, and what they hold or reach that gets them around it.
//!
//! Limits: what a process could come to hold (set-user-id programs, sudo) is not looked for, nor are services of other
//! hosts that would do its work.

mod powers;
mod process;

use std::collections::BTreeMap;

use self::powers::{Host, POWERS};
use self::process::Process;
use super::{Check, Group, State};
use crate::config::{Glob, PolicyDoc};

/// How many processes are named.
const NAMED: usize = 3;

/// One line for each workload and way around it; `closed` says that the programs on security hooks are attached.
pub(super) fn examine(policies: &[PolicyDoc], closed: bool) -> Vec<Check> {
    let workloads: Vec<(&PolicyDoc, Vec<Glob>)> = policies
        .iter()
        .map(|policy| {
            let globs = policy.workload.cgroups.iter();
            (policy, globs.filter_map(|glob| Glob::path(glob).ok()).collect())
        })
        .collect();
    let mut found: BTreeMap<&str, Vec<Process>> = BTreeMap::new();
    for process in process::all() {
        let managed = workloads
            .iter()
            .find(|(_, globs)| globs.iter().any(|glob| selects(glob, &process.cgroup)));
        if let Some((policy, _)) = managed {
            found
                .entry(policy.workload.name.as_str())
                .or_default()
                .push(process);
        }
    }
    if found.is_empty() {
        let found = "none runs at the moment";
        return vec![Check::new(
            Group::Workloads,
            "processes under a policy",
            State::Skipped,
            found,
        )];
    }
    let host = Host::look();
    let mut checks = Vec::new();
    for (workload, processes) in found {
        let before = checks.len();
        for power in POWERS {
            let able: Vec<&Process> = processes
                .iter()
                .filter(|process| (power.has)(process, &host))
                .collect();
            if able.is_empty() || (closed && power.closed_by_security_hooks) {
                continue;
            }
            checks.push(
                Check::new(
                    Group::Workloads,
                    format!("{workload}: {}", power.what),
                    State::Warning,
                    names(&able),
                )
                .advise(format!("{}. {}", power.means, power.closes)),
            );
        }
        if checks.len() == before {
            let count = processes.len();
            let running = format!("{count} process{}", if count == 1 { "" } else { "es" });
            checks.push(Check::new(
                Group::Workloads,
                format!("{workload}: no way around is known of"),
                State::Good,
                running,
            ));
        }
    }
    checks
}

/// The workload that the cgroup at the path `cgroup` belongs to.
pub(super) fn workload_of<'a>(policies: &'a [PolicyDoc], cgroup: &str) -> Option<&'a PolicyDoc> {
    policies.iter().find(|policy| {
        let globs = policy.workload.cgroups.iter();
        globs
            .filter_map(|glob| Glob::path(glob).ok())
            .any(|glob| selects(&glob, cgroup))
    })
}

/// Whether a glob names the cgroup or one that it is nested in.
fn selects(glob: &Glob, cgroup: &str) -> bool {
    let ends = cgroup.match_indices('/').map(|(at, _)| at).skip(1);
    ends.chain([cgroup.len()])
        .filter_map(|end| cgroup.get(..end))
        .any(|path| glob.matches(path))
}

fn names(processes: &[&Process]) -> String {
    let mut names: Vec<String> = processes
        .iter()
        .take(NAMED)
        .map(|process| format!("{} ({})", process.pid, process.name))
        .collect();
    if processes.len() > NAMED {
        names.push(format!("and {} more", processes.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_selects_what_is_nested_in_it() {
        let glob = Glob::path("/actions.slice/report-*.service").unwrap();
        assert!(selects(&glob, "/actions.slice/report-1.service"));
        assert!(selects(&glob, "/actions.slice/report-1.service/job/x"));
        assert!(!selects(&glob, "/actions.slice"));
        assert!(!selects(&glob, "/other.slice/report-1.service"));
        assert!(!selects(&glob, "/"));
    }

    #[test]
    fn many_processes_are_counted() {
        let processes: Vec<Process> = (1..=5).map(|pid| Process::test(pid, 1000, 0)).collect();
        let processes: Vec<&Process> = processes.iter().collect();
        assert_eq!(names(&processes), "1 (test), 2 (test), 3 (test), and 2 more");
    }
}
