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
use crate::config::PolicyDoc;

/// How many processes are named.
const NAMED: usize = 3;

/// One line for each workload and way around it; `closed` says that the programs on security hooks are attached.
pub(super) fn examine(policies: &[PolicyDoc], closed: bool) -> Vec<Check> {
    let mut found: BTreeMap<&str, Vec<Process>> = BTreeMap::new();
    for process in process::all() {
        if let Some(policy) = workload_of(policies, &process.cgroup) {
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

/// The workload that the cgroup at the path `cgroup` belongs to: that of the outermost cgroup that is selected. Containers
/// that are asked for what they are, which the path does not tell, are left out.
pub(super) fn workload_of<'a>(policies: &'a [PolicyDoc], cgroup: &str) -> Option<&'a PolicyDoc> {
    let by_path = |policy: &&PolicyDoc| policy.workload.container.is_none();
    let ends = cgroup.match_indices('/').map(|(at, _)| at).skip(1);
    ends.chain([cgroup.len()])
        .filter_map(|end| cgroup.get(..end))
        .find_map(|path| {
            let mut policies = policies.iter().filter(by_path);
            policies.find(|policy| policy.workload.matches(path))
        })
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
    use std::path::Path;

    use super::*;
    use crate::config::parse_policy;

    fn policy(name: &str, selects: &str) -> PolicyDoc {
        let text = format!("[workload]\nname = \"{name}\"\n{selects}\n");
        parse_policy(Path::new("p.toml"), &text).unwrap()
    }

    #[test]
    fn the_outermost_cgroup_that_is_selected_decides() {
        let policies = [
            policy("inner", "cgroup = [\"/ci.slice/ci-jobs.slice/report-*\"]"),
            policy("outer", "slice = [\"ci.slice\"]"),
            policy("backup", "unit = [\"backup@*.service\"]"),
            policy("container", "container = { labels = { a = \"b\" } }"),
        ];
        let id = "0".repeat(64);
        for (cgroup, workload) in [
            ("/ci.slice", Some("outer")),
            ("/ci.slice/ci-jobs.slice/report-1/step", Some("outer")),
            (
                "/system.slice/system-backup.slice/backup@1.service/x",
                Some("backup"),
            ),
            ("/system.slice/other.service/backup@1.service", None),
            (&format!("/system.slice/docker-{id}.scope"), None),
            ("/ci.slice2", None),
            ("/", None),
            ("", None),
        ] {
            let found = workload_of(&policies, cgroup).map(|policy| policy.workload.name.as_str());
            assert_eq!(found, workload, "{cgroup}");
        }
    }

    #[test]
    fn many_processes_are_counted() {
        let processes: Vec<Process> = (1..=5).map(|pid| Process::test(pid, 1000, 0)).collect();
        let processes: Vec<&Process> = processes.iter().collect();
        assert_eq!(names(&processes), "1 (test), 2 (test), 3 (test), and 2 more");
    }
}
