//! `tollgate identity`: who is active, and whose tokens do not count any more; and, for jobs, to prove who they are.

mod login;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected};
use super::text::{ago, cut, one_line, table};
use crate::control::{ActiveIdentity, Request, Response};
use crate::identity::{Revocation, Which};

/// See under whose tokens sessions run, and revoke tokens
///
/// A workload whose policy has [identity] proves who it is with a token of its CI system. What is revoked here does not count
/// from then on, whatever its token says: its sessions are ended within a second, and new ones are refused. A revocation counts
/// until it is lifted, over restarts too. A policy can deny tokens as well: `deny` in [identity].
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 done, 1 the agent refused, 3 no agent is running.

Examples:
  tollgate identity login --env TOLLGATE_ID_TOKEN
  tollgate identity list
  tollgate identity revoke --subject 'project_path:acme/report:*' --reason 'leaked runner'
  tollgate identity revoke --claim user_login=mallory --reason 'left the company'
  tollgate identity revoke --key 2024-01 --issuer https://gitlab.acme.test --reason 'signing key was copied'
  tollgate identity lift 5f0c2a91")]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    // What it does stands at its arguments.
    Login(login::Args),
    /// List the identities that have sessions
    List(ListArgs),
    /// End sessions of tokens, and refuse such tokens from then on. Needs root
    Revoke(RevokeArgs),
    /// List what was revoked
    Revocations(ListArgs),
    /// Have tokens count again that were revoked. Needs root
    Lift(LiftArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct ListArgs {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Clone, Debug, clap::Args)]
struct RevokeArgs {
    #[command(flatten)]
    which: WhichArgs,
    /// Tokens of this issuer alone
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// Why; the author of the job reads it
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    socket: Socket,
}

#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct WhichArgs {
    /// Tokens with this subject (`sub`); a pattern, as in policies
    #[arg(long, value_name = "PATTERN")]
    subject: Option<String>,
    /// Tokens with this claim; the value is a pattern
    #[arg(long, value_name = "NAME=PATTERN", value_parser = claim)]
    claim: Option<Which>,
    /// Tokens that this key (`kid`) signed
    #[arg(long, value_name = "KID")]
    key: Option<String>,
}

#[derive(Clone, Debug, clap::Args)]
struct LiftArgs {
    /// Id of the revocation
    id: String,
    #[command(flatten)]
    socket: Socket,
}

/// Where the agent listens, unless a verb is told otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Sockets<'a> {
    /// For operators.
    pub control: &'a Path,
    /// For jobs.
    pub jobs: &'a Path,
}

impl Args {
    /// Whether a job runs it, which may not be able to read the agent's own file.
    pub fn is_of_a_job(&self) -> bool {
        matches!(self.verb, Verb::Login(_))
    }
}

/// Runs the verb.
pub async fn run(args: Args, sockets: Sockets<'_>) -> ExitCode {
    let socket = sockets.control;
    finish(match args.verb {
        Verb::Login(args) => login::login(args, sockets.jobs).await,
        Verb::List(args) => list(&args, socket).await,
        Verb::Revoke(args) => revoke(args, socket).await,
        Verb::Revocations(args) => revocations(&args, socket).await,
        Verb::Lift(args) => lift(args, socket).await,
    })
}

async fn list(args: &ListArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Identities { identities } = ask(&mut client, &Request::Identities).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&identities)
    } else {
        print(&render(&identities, Utc::now()))
    }
}

async fn revoke(args: RevokeArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let which = match (args.which.subject, args.which.claim, args.which.key) {
        (Some(pattern), ..) => Which::Subject(pattern),
        (_, Some(claim), _) => claim,
        (.., key) => Which::Key(key.unwrap_or_default()),
    };
    let request = Request::Revoke {
        which,
        issuer: args.issuer,
        reason: args.reason,
    };
    let Response::Revoked { revocation } = ask(&mut client, &request).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&revocation)
    } else {
        print(&format!(
            "Revoked: {}. `tollgate identity lift {}` has them count again.\n",
            one_line(&which_tokens(&revocation)),
            one_line(&revocation.id)
        ))
    }
}

async fn revocations(args: &ListArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Revocations { revocations } = ask(&mut client, &Request::Revocations).await? else {
        return Err(unexpected());
    };
    if args.json {
        print_json(&revocations)
    } else {
        print(&render_revocations(&revocations, Utc::now()))
    }
}

async fn lift(args: LiftArgs, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let Response::Lifted = ask(&mut client, &Request::Lift { id: args.id }).await? else {
        return Err(unexpected());
    };
    print("Lifted: such tokens count again. Sessions that were ended stay so.\n")
}

fn claim(text: &str) -> Result<Which, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok(Which::Claim {
            name: name.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("write the claim, \"=\", and its value, as in user_login=mallory".to_owned()),
    }
}

fn which_tokens(revocation: &Revocation) -> String {
    let which = match &revocation.which {
        Which::Subject(pattern) => format!("subject {pattern}"),
        Which::Claim { name, value } => format!("{name} = {value}"),
        Which::Key(kid) => format!("key {kid}"),
    };
    match &revocation.issuer {
        Some(issuer) => format!("{which} of {issuer}"),
        None => which,
    }
}

fn render(identities: &[ActiveIdentity], now: DateTime<Utc>) -> String {
    if identities.is_empty() {
        return "No session runs under a token.\n".to_owned();
    }
    let header = ["WORKLOAD", "SUBJECT", "ISSUER", "KEY", "COUNTS", "SESSIONS"].map(str::to_owned);
    let rows = identities.iter().map(|identity| {
        let counts = match (&identity.lapsed, identity.until) {
            (Some(_), _) => "no more".to_owned(),
            (None, Some(until)) if until > now => format!("{} more", ago(until - now)),
            (None, Some(_)) => "no more".to_owned(),
            (None, None) => "always".to_owned(),
        };
        [
            one_line(identity.workload.as_str()),
            cut(&one_line(&identity.subject), 70),
            cut(&one_line(&identity.issuer), 50),
            cut(&one_line(identity.key.as_deref().unwrap_or("-")), 20),
            counts,
            identity.sessions.len().to_string(),
        ]
    });
    table(&std::iter::once(header).chain(rows).collect::<Vec<_>>())
}

fn render_revocations(revocations: &[Revocation], now: DateTime<Utc>) -> String {
    if revocations.is_empty() {
        return "Nothing is revoked.\n".to_owned();
    }
    let header = ["ID", "TOKENS", "BY", "WHEN", "REASON"].map(str::to_owned);
    let rows = revocations.iter().map(|revocation| {
        [
            one_line(&revocation.id),
            cut(&one_line(&which_tokens(revocation)), 70),
            one_line(&revocation.by),
            format!("{} ago", ago(now - revocation.at)),
            cut(&one_line(&revocation.reason), 60),
        ]
    });
    let mut out = table(&std::iter::once(header).chain(rows).collect::<Vec<_>>());
    // Writing to a String cannot fail.
    let _infallible = writeln!(out, "\n`tollgate identity lift ID` has such tokens count again.");
    out
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use clap::Parser;

    use super::super::approvals::tests::now;
    use super::{Args, render, render_revocations};
    use crate::control::{ActiveIdentity, IdentitySession};
    use crate::identity::{Revocation, Which};
    use crate::model::SessionId;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn a_revocation_names_one_kind_of_token_and_its_reason() {
        for (line, good) in [
            (&["revoke", "--subject", "x", "--reason", "r"][..], true),
            (&["revoke", "--claim", "a=b", "--reason", "r"], true),
            (
                &["revoke", "--key", "k", "--issuer", "https://i", "--reason", "r"],
                true,
            ),
            (&["revoke", "--reason", "r"], false),
            (&["revoke", "--subject", "x"], false),
            (
                &["revoke", "--subject", "x", "--key", "k", "--reason", "r"],
                false,
            ),
            (&["revoke", "--claim", "a", "--reason", "r"], false),
        ] {
            let parsed = Line::try_parse_from(std::iter::once("tollgate").chain(line.iter().copied()));
            assert_eq!(parsed.is_ok(), good, "{line:?}");
        }
    }

    #[test]
    fn the_lists_are_read_at_a_glance_and_cannot_drive_the_terminal() {
        let identity = ActiveIdentity {
            issuer: "https://gitlab.acme.test".into(),
            subject: "project_path:acme/report\u{1b}[2J".into(),
            key: Some("2026".into()),
            claims: [].into(),
            until: Some(now() + TimeDelta::minutes(4)),
            lapsed: None,
            workload: "ci-report".into(),
            sessions: vec![IdentitySession {
                id: SessionId::new(),
                service: "orders-db".into(),
                started_at: now(),
            }],
        };
        let expected = "\
WORKLOAD   SUBJECT                            ISSUER                    KEY   COUNTS      SESSIONS
ci-report  project_path:acme/report\\u{1b}[2J  https://gitlab.acme.test  2026  4 min more  1
";
        assert_eq!(render(&[identity], now()), expected);
        assert_eq!(render(&[], now()), "No session runs under a token.\n");

        let revocation = Revocation {
            id: "5f0c2a91".into(),
            which: Which::Claim {
                name: "user_login".into(),
                value: "mallory".into(),
            },
            issuer: Some("https://gitlab.acme.test".into()),
            by: "root".into(),
            reason: "left the company".into(),
            at: now() - TimeDelta::hours(2),
        };
        let expected = "\
ID        TOKENS                                            BY    WHEN     REASON
5f0c2a91  user_login = mallory of https://gitlab.acme.test  root  2 h ago  left the company

`tollgate identity lift ID` has such tokens count again.
";
        assert_eq!(render_revocations(&[revocation], now()), expected);
    }
}
