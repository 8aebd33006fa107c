//! `tollgate reload`: have changed policies count.

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::one_line;
use crate::control::{ReloadReport, Request, Response};

/// Have changed policies count, without a restart
///
/// The agent reads every file of its policy directory again, then changes what is different: sessions of services that
/// mean what they meant before go on; those of others get an error that tells them to connect again. A file that has errors
/// keeps its last good policy. Agent's own file, keys and records are not read again: for those, restart. Needs root.
///
/// `systemctl reload tollgate` runs this. SIGHUP to the agent does the same, and says the outcome in its log alone.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 every file counts as it is, 1 some does not (each is named, with line and column).

Examples:
  tollgate policy check /etc/tollgate/policies.d && tollgate reload
  tollgate reload --json | jq '.faults'")]
pub struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(reload(&args, socket).await)
}

async fn reload(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Reloaded { report } = ask(&mut client, &Request::Reload).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&render(&report))?;
    }
    if report.faults.is_empty() {
        Ok(())
    } else {
        Err(Failed::Refused(faults(&report)))
    }
}

fn render(report: &ReloadReport) -> String {
    let mut out = match report.policies {
        1 => "1 policy counts".to_owned(),
        more => format!("{more} policies count"),
    };
    // Writing to a String cannot fail.
    let _infallible = match report.changed.as_slice() {
        [] => writeln!(out, ", and no service means anything else than before"),
        changed => writeln!(
            out,
            "; changed: {}",
            changed
                .iter()
                .map(|name| one_line(name))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    for (count, what) in [
        (report.sessions_ended, "sessions have to connect again"),
        (report.newly_managed, "cgroups are under a policy that were not"),
        (report.newly_protected, "destinations are protected that were not"),
    ] {
        if count > 0 {
            let _infallible = writeln!(out, "  {count} {what}");
        }
    }
    out
}

fn faults(report: &ReloadReport) -> String {
    let list: Vec<_> = report.faults.iter().map(|fault| one_line(fault)).collect();
    format!("not everything counts as it is written:\n  {}", list.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_read_at_a_glance() {
        let mut report = ReloadReport {
            policies: 2,
            ..ReloadReport::default()
        };
        assert_eq!(
            render(&report),
            "2 policies count, and no service means anything else than before\n"
        );
        report.policies = 1;
        report.changed = vec!["ci-report/crm".into(), "ci-report/orders-db".into()];
        report.sessions_ended = 3;
        report.newly_protected = 4;
        assert_eq!(
            render(&report),
            "1 policy counts; changed: ci-report/crm, ci-report/orders-db\n  3 sessions have to connect again\n  \
             4 destinations are protected that were not\n"
        );
        report.faults = vec!["p.toml:3:1: no".into(), "q.toml:1:1: no\x1b[2J".into()];
        let told = faults(&report);
        assert!(told.contains("\n  p.toml:3:1: no\n  q.toml:1:1: no"), "{told}");
        assert!(!told.contains('\x1b'), "{told}");
    }
}
