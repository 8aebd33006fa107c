//! `tollgate leases`: credentials that the agent has made.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::{DateTime, Utc};

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::{ago, one_line, table};
use crate::app;
use crate::config::load_sweep;
use crate::control::{ControlError, Request, Response, Sweep, SweepReport, SweptRole, SweptState};
use crate::credential::{LeaseId, LeaseView};
use crate::model::{ServiceName, WorkloadName};

/// List, revoke and sweep credentials that agents have made
///
/// With source = "postgres-role" or "mysql-user" in a policy the agent makes a role or a user for a session or a job, and
/// drops it afterwards. What is made is written down first, so that it is dropped also when the agent or the host crashes in
/// between: an agent that starts revokes what the one before it left, and tries until that has succeeded.
/// `docs/credentials.md` has examples.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    List(ListArgs),
    Revoke(RevokeArgs),
    Sweep(SweepArgs),
}

/// List the credentials that were made and are not void yet
///
/// Those in use, and those that are still to be revoked: with how often that has failed, why, and when it is tried again.
///
/// Exit codes: 0 done, 3 no agent is running.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate leases list
  tollgate leases list --json | jq '.[] | select(.error)'")]
struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Void one credential now
///
/// Sessions that have it end, and are told to connect again. Where the agent tries to revoke it already, it tries at once.
/// Needs root.
///
/// Exit codes: 0 it is void, 1 it is not (yet), or there is none of that id, 3 no agent is running.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate leases revoke 5d1e7c3a90b2")]
struct RevokeArgs {
    /// Its id, from `tollgate leases list`
    #[arg(value_name = "ID", value_parser = id)]
    id: LeaseId,
}

/// Find what agents have left on a server, and drop what a dead host left
///
/// Each role or user that an agent makes has the name of its host in its own: `tollgate_HOST_RANDOM`. Without --host this lists them
/// all, of any host; with it, those of that host are dropped, as its own agent would have: their sessions end, what they
/// own goes to `reassign_to` of this host's policy. Roles that are in use and not expired are left alone unless --in-use is
/// given: make sure that the host is dead. What this host's own agent holds is never touched. Needs root, and a policy here
/// whose service is on that server, or --file.
///
/// Exit codes: 0 done, 1 something could not be dropped, or the server cannot be asked, 3 no agent is running.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate leases sweep orders-db
  tollgate leases sweep orders-db --host runner-7-3f9a12
  tollgate leases sweep orders-db --file orders.toml --host runner-7-3f9a12
  tollgate leases sweep orders-db --json | jq -r '.roles[].host' | sort | uniq -c")]
struct SweepArgs {
    /// The service whose server is swept
    #[arg(value_name = "SERVICE")]
    service: String,
    /// The workload whose policy has the service, where several have one of that name
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Read the service from this policy file, and ask its server from here
    ///
    /// No agent is needed, and the policy may be one that this version does not use, because it does not speak the protocol of
    /// the service. If an agent runs here, what it holds is left alone.
    #[arg(long, value_name = "FILE", conflicts_with = "workload")]
    file: Option<PathBuf>,
    /// Drop what this host left; as the list shows it
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// Drop also roles that are in use and not expired
    #[arg(long, requires = "host")]
    in_use: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    let Args { action, socket: at } = args;
    finish(match action {
        Action::List(args) => list(&args, &at, socket).await,
        Action::Revoke(args) => revoke(args, &at, socket).await,
        Action::Sweep(args) => sweep(args, &at, socket).await,
    })
}

fn id(text: &str) -> Result<LeaseId, &'static str> {
    LeaseId::try_from(text.trim().to_ascii_lowercase())
}

async fn list(args: &ListArgs, at: &Socket, socket: &Path) -> Result<(), Failed> {
    let mut client = at.connect(socket).await?;
    let Response::Leases { leases } = ask(&mut client, &Request::Leases).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&leases)
    } else {
        print(&render(&leases, Utc::now()))
    }
}

async fn revoke(args: RevokeArgs, at: &Socket, socket: &Path) -> Result<(), Failed> {
    let mut client = at.connect(socket).await?;
    let asked = Request::RevokeLease { id: args.id.clone() };
    match ask(&mut client, &asked).await? {
        Response::LeaseRevoked => print(&format!("{} is void\n", args.id)),
        _ => Err(unexpected()),
    }
}

async fn sweep(args: SweepArgs, at: &Socket, socket: &Path) -> Result<(), Failed> {
    let report = match &args.file {
        Some(file) => sweep_from_here(&args, file, at, socket).await?,
        None => sweep_by_agent(&args, at, socket).await?,
    };
    if args.json {
        print_json(&report)?;
    } else {
        print(&render_sweep(&report, args.host.as_deref()))?;
    }
    let failed = report
        .roles
        .iter()
        .filter(|role| role.state == SweptState::Failed)
        .count();
    match failed {
        0 => Ok(()),
        failed => Err(Failed::Refused(format!("{failed} could not be dropped"))),
    }
}

async fn sweep_by_agent(args: &SweepArgs, at: &Socket, socket: &Path) -> Result<SweepReport, Failed> {
    let mut client = at.connect(socket).await?;
    let asked = Request::SweepLeases {
        workload: args.workload.as_deref().map(WorkloadName::from),
        service: ServiceName::from(args.service.as_str()),
        host: args.host.clone(),
        in_use: args.in_use,
    };
    match ask(&mut client, &asked).await? {
        Response::Swept { report } => Ok(report),
        _ => Err(unexpected()),
    }
}

async fn sweep_from_here(
    args: &SweepArgs,
    file: &Path,
    at: &Socket,
    socket: &Path,
) -> Result<SweepReport, Failed> {
    let service = ServiceName::from(args.service.as_str());
    let doc = load_sweep(file, &service).map_err(|error| Failed::Refused(error.to_string()))?;
    let held = match at.connect(socket).await {
        Ok(mut client) => match ask(&mut client, &Request::Leases).await? {
            Response::Leases { leases } => leases.into_iter().filter_map(|lease| lease.name).collect(),
            _ => return Err(unexpected()),
        },
        Err(Failed::Control(ControlError::NotRunning { .. })) => Vec::new(),
        Err(failed) => return Err(failed),
    };
    let sweep = Sweep {
        workload: None,
        service,
        host: args.host.clone(),
        in_use: args.in_use,
    };
    app::sweep_from_here(&doc, &sweep, &held)
        .await
        .map_err(Failed::Refused)
}

fn render(leases: &[LeaseView], now: DateTime<Utc>) -> String {
    if leases.is_empty() {
        return "No credential that the agent has made is left.\n".to_owned();
    }
    let header = [
        "ID", "SOURCE", "NAME", "FOR", "JOB", "SESSIONS", "STATE", "SINCE", "ENDS IN",
    ]
    .map(str::to_owned);
    let rows = leases.iter().map(|lease| row(lease, now));
    let mut out = table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    for lease in leases {
        if let Some(error) = &lease.error {
            let next = lease
                .next_attempt
                .map_or(String::new(), |next| format!("; next in {}", ago(next - now)));
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                out,
                "\n{} is not revoked, after {} attempts: {}{next}",
                lease.id,
                lease.failed_attempts,
                one_line(error)
            );
        }
    }
    out
}

fn row(lease: &LeaseView, now: DateTime<Utc>) -> [String; 9] {
    let owner = &lease.owner;
    [
        lease.id.to_string(),
        one_line(&lease.source),
        lease.name.as_deref().map_or_else(|| "-".to_owned(), one_line),
        one_line(&format!("{}/{}", owner.workload, owner.service)),
        one_line(owner.cgroup_path.as_str()),
        lease.sessions.len().to_string(),
        one_line(&lease.state),
        format!("{} ago", ago(now - lease.since)),
        match lease.expires {
            None => "-".to_owned(),
            Some(expires) if expires <= now => "over".to_owned(),
            Some(expires) => ago(expires - now),
        },
    ]
}

fn render_sweep(report: &SweepReport, host: Option<&str>) -> String {
    let mut out = format!(
        "{} at {}; this host is {}\n",
        one_line(&report.service),
        one_line(&report.server),
        one_line(&report.this_host)
    );
    if report.roles.is_empty() {
        out.push_str("No agent has left a role there.\n");
        return out;
    }
    let header = ["ROLE", "HOST", "VALID UNTIL", "SESSIONS", "STATE"].map(str::to_owned);
    let rows = report.roles.iter().map(|role| {
        let found = &role.found;
        let until = match (&found.valid_until, found.expired) {
            (None, _) => "-".to_owned(),
            (Some(until), false) => one_line(until),
            (Some(until), true) => format!("{} (over)", one_line(until)),
        };
        [
            one_line(&found.role),
            one_line(&found.host),
            until,
            found.sessions.to_string(),
            state(role),
        ]
    });
    out.push_str(&table(&std::iter::once(header).chain(rows).collect::<Vec<_>>()));
    if host.is_none() {
        out.push_str("\nNothing was dropped; --host HOST drops what that host left.\n");
    }
    out
}

fn state(role: &SweptRole) -> String {
    match (role.state, &role.error) {
        (SweptState::Held, _) => "held by this host's agent".to_owned(),
        (SweptState::Left, _) => "left alone".to_owned(),
        (SweptState::InUse, _) => "in use: not dropped without --in-use".to_owned(),
        (SweptState::Dropped, _) => "dropped".to_owned(),
        (SweptState::Failed, error) => {
            format!("not dropped: {}", one_line(error.as_deref().unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::approvals::tests::now;
    use super::{LeaseId, LeaseView, render, render_sweep};
    use crate::config::Share;
    use crate::control::{SweepReport, SweptRole, SweptState};
    use crate::credential::Owner;
    use crate::credential::on_server::FoundRole;
    use crate::model::{CgroupId, CgroupPath, SessionId};

    #[test]
    fn the_list_is_read_at_a_glance_and_says_what_fails() {
        let lease = LeaseView {
            id: LeaseId::try_from("5d1e7c3a90b2".to_owned()).unwrap(),
            source: "postgres-role".into(),
            name: Some("tollgate_runner-3f9a12_0f".into()),
            owner: Owner {
                workload: "ci-report".into(),
                service: "orders-db".into(),
                cgroup: CgroupId(7),
                cgroup_path: CgroupPath("/actions.slice/report-1.service".into()),
                identity: "uid 1000".into(),
                session: SessionId::new(),
                share: Share::Session,
            },
            state: "revoking".into(),
            since: now() - TimeDelta::minutes(5),
            expires: Some(now() + TimeDelta::minutes(25)),
            sessions: Vec::new(),
            failed_attempts: 3,
            error: Some("the server cannot be reached\u{1b}[2J".into()),
            next_attempt: Some(now() + TimeDelta::seconds(8)),
        };
        let shown = render(std::slice::from_ref(&lease), now());
        let expected = "\
ID            SOURCE         NAME                       FOR                  JOB                              SESSIONS  STATE     SINCE      ENDS IN
5d1e7c3a90b2  postgres-role  tollgate_runner-3f9a12_0f  ci-report/orders-db  /actions.slice/report-1.service  0         revoking  5 min ago  25 min

5d1e7c3a90b2 is not revoked, after 3 attempts: the server cannot be reached\\u{1b}[2J; next in 8 s
";
        assert_eq!(shown, expected);
        assert!(render(&[], now()).starts_with("No credential"));
    }

    #[test]
    fn a_sweep_says_whose_roles_are_there_and_what_became_of_them() {
        let role = |host: &str, state, error: Option<&str>| SweptRole {
            found: FoundRole {
                role: format!("tollgate_{host}_0f"),
                host: host.into(),
                valid_until: Some("2026-11-25 12:00:00+00".into()),
                expired: true,
                sessions: 0,
            },
            state,
            error: error.map(str::to_owned),
        };
        let report = SweepReport {
            service: "ci-report/orders-db".into(),
            server: "10.0.4.7:5432".into(),
            this_host: "here-1".into(),
            roles: vec![
                role("dead-2", SweptState::Dropped, None),
                role("dead-2", SweptState::Failed, Some("it owns something")),
                role("here-1", SweptState::Held, None),
            ],
        };
        let shown = render_sweep(&report, Some("dead-2"));
        for line in [
            "ci-report/orders-db at 10.0.4.7:5432; this host is here-1",
            "dropped",
            "not dropped: it owns something",
            "held by this host's agent",
        ] {
            assert!(shown.contains(line), "{shown}");
        }
        assert!(!shown.contains("Nothing was dropped"), "{shown}");
        assert!(render_sweep(&report, None).contains("Nothing was dropped"));
        let none = SweepReport::default();
        assert!(render_sweep(&none, None).contains("No agent has left"));
    }
}
