//! `tollgate findings`: secrets that workloads still have of their own.

use std::path::Path;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::{ago, cut, one_line, table};
use crate::control::{Request, Response};
use crate::finding::{Finding, FindingId};
use crate::model::WorkloadName;

/// See which workloads still have secrets of their own
///
/// The agent logs in for a workload; a password, token or key that the workload still sends or carries is worth nothing there,
/// and worth a lot to whoever steals it. Each is listed with a fingerprint: equal secrets of this host have equal ones, and
/// nobody can compute a secret from it. The secret itself is kept nowhere. docs/findings.md says what is looked at, and how to
/// have more looked at with [findings] in a policy.
///
/// When a secret was taken away from a workload and made void, forget its finding: it comes back if it is seen again.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 done, 1 the agent refused, 3 no agent is running.

Examples:
  tollgate findings list
  tollgate findings list --workload nightly-backup
  tollgate findings list --json | jq -r '.[] | [.workload, .fingerprint] | @tsv' | sort | uniq -c
  tollgate findings forget 5f0c2a91d3e7")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    List(ListArgs),
    Forget(ForgetArgs),
}

/// List the secrets that workloads have of their own, those seen last first
///
/// SECRET is its kind: password; password-proof, where a client proved that it has one without showing it; token; private-key;
/// aws-access-key; other. WHERE is the login that it was sent in, or the variable or argument of the process that had it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate findings list
  tollgate findings list --json | jq '.[] | select(.at.variable)'")]
struct ListArgs {
    /// Of this workload alone
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Forget a finding; it comes back if the secret is seen again. Needs root
///
/// For a secret that the workload does not have any more. To leave a variable out for good, name it under `ignore` in
/// [findings] of the workload's policy.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate findings forget 5f0c2a91d3e7")]
struct ForgetArgs {
    /// Id of the finding, from `tollgate findings list`
    id: String,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(match args.verb {
        Verb::List(args) => list(args, socket).await,
        Verb::Forget(args) => forget(args, socket).await,
    })
}

async fn list(args: ListArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let asked = Request::Findings {
        workload: args.workload.as_deref().map(WorkloadName::from),
    };
    let Response::Findings { findings } = ask(&mut client, &asked).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&findings)
    } else {
        print(&render(&findings, Utc::now()))
    }
}

async fn forget(args: ForgetArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let id = FindingId(args.id.trim().to_ascii_lowercase());
    match ask(&mut client, &Request::ForgetFinding { id: id.clone() }).await? {
        Response::Forgotten => print(&format!("{} is forgotten\n", one_line(&id.to_string()))),
        _ => Err(unexpected()),
    }
}

fn render(findings: &[Finding], now: DateTime<Utc>) -> String {
    if findings.is_empty() {
        return "No workload was seen with a secret of its own.\n".to_owned();
    }
    let header = [
        "ID",
        "WORKLOAD",
        "SERVICE",
        "SECRET",
        "WHERE",
        "FINGERPRINT",
        "PROGRAM",
        "FIRST",
        "LAST",
        "SEEN",
    ]
    .map(str::to_owned);
    let rows = findings.iter().map(|found| {
        [
            one_line(&found.id.to_string()),
            one_line(found.workload.as_str()),
            found
                .service
                .as_ref()
                .map_or_else(|| "-".to_owned(), |service| one_line(service.as_str())),
            found.kind.name().to_owned(),
            cut(&one_line(&found.at.to_string()), 40),
            cut(&found.fingerprint.to_string(), 13),
            cut(&one_line(found.executable.as_deref().unwrap_or("-")), 40),
            format!("{} ago", ago(now - found.first)),
            format!("{} ago", ago(now - found.last)),
            found.count.to_string(),
        ]
    });
    table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::super::approvals::tests::now;
    use super::render;
    use crate::finding::Finding;

    #[test]
    fn the_list_is_read_at_a_glance_and_cannot_drive_the_terminal() {
        let found: Finding = serde_json::from_value(serde_json::json!({
            "id": "5f0c2a91d3e7",
            "kind": "password",
            "fingerprint": "ab".repeat(16),
            "workload": "nightly-backup",
            "service": "orders-db",
            "protocol": "postgres",
            "at": { "login": { "user": "backup\u{1b}[2J" } },
            "identity": "uid 1000",
            "cgroup": "/system.slice/backup.service",
            "executable": "/usr/bin/pg_dump",
            "uid": 1000,
            "session": uuid::Uuid::nil(),
            "first": now() - TimeDelta::days(3),
            "last": now() - TimeDelta::minutes(5),
            "count": 3,
        }))
        .unwrap();
        let expected = "\
ID            WORKLOAD        SERVICE    SECRET    WHERE                     FINGERPRINT    PROGRAM           FIRST    LAST       SEEN
5f0c2a91d3e7  nightly-backup  orders-db  password  login as backup\\u{1b}[2J  abababababab…  /usr/bin/pg_dump  3 d ago  5 min ago  3
";
        assert_eq!(render(std::slice::from_ref(&found), now()), expected);
        assert!(render(&[], now()).starts_with("No workload"));
    }
}
