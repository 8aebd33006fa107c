//! `tollgate status`: how the agent is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::{ago, cut, one_line};
use crate::control::{AgentStatus, KernelStatus, Request, Response, WorkloadStatus};
use crate::kernel::EventKind;

/// Show how the running agent is
///
/// Its workloads with their policies, the cgroups that are theirs now and the services that they may reach; sessions, held
/// commands, and warnings: what is not as it should be.
///
/// Exit codes: 0 an agent answers, 3 none is running; so a script can ask.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate status
  tollgate status --json | jq '.warnings'")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(show(&args, socket).await)
}

async fn show(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Status { status } = ask(&mut client, &Request::Status).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&status)
    } else {
        print(&render(&status, Utc::now()))
    }
}

fn render(status: &AgentStatus, now: DateTime<Utc>) -> String {
    let mut out = format!(
        "tollgate {} is running (pid {}, for {})\n",
        one_line(&status.version),
        status.pid,
        ago(now - status.started_at)
    );
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        out,
        "  sessions    {} live, {} since the start",
        status.live_sessions, status.total_sessions
    );
    let _infallible = match status.held_commands {
        0 => writeln!(out, "  held        no command waits for a decision"),
        1 => writeln!(out, "  held        1 command waits: see `tollgate approvals`"),
        more => writeln!(
            out,
            "  held        {more} commands wait: see `tollgate approvals`"
        ),
    };
    let _infallible = match status.findings {
        0 => Ok(()),
        1 => writeln!(
            out,
            "  findings    1 secret of a workload's own: see `tollgate findings list`"
        ),
        more => writeln!(
            out,
            "  findings    {more} secrets of workloads' own: see `tollgate findings list`"
        ),
    };
    let _infallible = writeln!(out, "  kernel      {}", render_kernel(&status.kernel));
    if status.workloads.is_empty() {
        out.push_str("  workloads   none: no policy is loaded, and nothing is protected\n");
    }
    for workload in &status.workloads {
        out.push('\n');
        out.push_str(&render_workload(workload));
    }
    for warning in &status.warnings {
        let _infallible = writeln!(out, "\nwarning: {}", one_line(warning));
    }
    out
}

/// What was only watched is not counted among what was stopped.
fn render_kernel(kernel: &KernelStatus) -> String {
    let mut stopped = BTreeMap::<&str, u64>::new();
    for event in &kernel.events {
        if event.count > 0 && event.kind != EventKind::EgressObserved.name() {
            *stopped.entry(&event.program).or_default() += event.count;
        }
    }
    let mut out = format!("{} redirected", kernel.redirected);
    for (program, count) in stopped {
        let _infallible = write!(out, ", {count} stopped by {}", one_line(program));
    }
    if !kernel.lsm {
        out.push_str("; without programs on security hooks");
    }
    out
}

fn render_workload(workload: &WorkloadStatus) -> String {
    let mut out = format!(
        "{} ({})\n",
        one_line(workload.name.as_str()),
        one_line(&workload.mode)
    );
    let policy = one_line(&workload.policy.display().to_string());
    let mut field = |name: &str, value: &str| {
        let _infallible = writeln!(out, "  {name:<10}  {value}");
    };
    field(
        "policy",
        &format!("{policy} (BLAKE3 {})", cut(&workload.policy_hash, 13)),
    );
    let services: Vec<_> = workload
        .services
        .iter()
        .map(|service| one_line(service.as_str()))
        .collect();
    field("services", &services.join(", "));
    match workload.cgroups.as_slice() {
        [] => field("cgroups", "none at the moment"),
        cgroups => {
            for (number, cgroup) in cgroups.iter().enumerate() {
                let mut cgroup = one_line(cgroup.as_str());
                if let Some(by) = workload.selected_by.get(number) {
                    let _infallible = write!(cgroup, "  (by {})", one_line(by));
                }
                field(if number == 0 { "cgroups" } else { "" }, &cgroup);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::approvals::tests::now;
    use super::render;
    use crate::control::{AgentStatus, KernelCount, KernelStatus, WorkloadStatus};
    use crate::model::CgroupPath;

    #[test]
    fn status_is_read_at_a_glance() {
        let mut status = AgentStatus {
            version: "0.1.0".into(),
            pid: 42,
            started_at: now() - chrono::TimeDelta::hours(3),
            workloads: vec![WorkloadStatus {
                name: "ci-report".into(),
                policy: "/etc/tollgate/policies.d/ci-report.toml".into(),
                policy_hash: "ab".repeat(32),
                mode: "enforce".into(),
                cgroups: ["/a.slice/1.service", "/a.slice/2.service"]
                    .map(|path| CgroupPath(path.into()))
                    .into(),
                selected_by: ["unit \"1.service\"", "slice \"a.slice\""]
                    .map(str::to_owned)
                    .into(),
                services: vec!["orders-db".into(), "crm".into()],
            }],
            live_sessions: 1,
            total_sessions: 7,
            held_commands: 2,
            findings: 3,
            failed_upgrade: None,
            kernel: KernelStatus {
                redirected: 9,
                lsm: true,
                events: [
                    ("packet-dropped", "cgroup_skb/egress", 4),
                    ("egress-refused", "connect4/6", 1),
                    ("protocol-refused", "connect4/6", 2),
                    ("egress-observed", "connect4/6", 30),
                    ("bind-refused", "bind4/6", 0),
                ]
                .map(|(kind, program, count)| KernelCount {
                    kind: kind.into(),
                    program: program.into(),
                    count,
                })
                .into(),
            },
            warnings: vec!["old.toml was not taken".into()],
        };
        let expected = "\
tollgate 0.1.0 is running (pid 42, for 3 h)
  sessions    1 live, 7 since the start
  held        2 commands wait: see `tollgate approvals`
  findings    3 secrets of workloads' own: see `tollgate findings list`
  kernel      9 redirected, 4 stopped by cgroup_skb/egress, 3 stopped by connect4/6

ci-report (enforce)
  policy      /etc/tollgate/policies.d/ci-report.toml (BLAKE3 abababababab…)
  services    orders-db, crm
  cgroups     /a.slice/1.service  (by unit \"1.service\")
              /a.slice/2.service  (by slice \"a.slice\")

warning: old.toml was not taken
";
        assert_eq!(render(&status, now()), expected);
        status.workloads.clear();
        assert!(render(&status, now()).contains("nothing is protected"));
    }
}
