//! `tollgate approvals`: the commands that wait for a decision.

use std::fmt::Write;
use std::io::IsTerminal;
use std::path::Path;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::ask::{Failed, Socket, ask, finish, print, print_json, unexpected, unless_refused};
use super::text::{ago, cut, lines, one_line, table, width};
use crate::approval::HoldView;
use crate::control::{Client, Request, Response};

/// List the commands that wait for a decision
///
/// A rule with `verdict = "approve"` holds a command until one of its approvers decides. Root sees all that wait, others
/// those whose rules name them (as a user, or through a group of this host). Nobody decides on what he started himself.
///
/// The list is followed by everything that is known of each command: who asks, the whole text, its parameters
/// with masked values hidden, and what it does to which objects. Read that before you decide; the table is cut to
/// the width of the terminal.
///
/// Decide with `tollgate approve ID` or `tollgate deny ID --reason TEXT`. A command that nobody decides on is
/// refused when its time is up, and one whose client gives up is gone.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate approvals
  tollgate approvals --watch
  tollgate approvals --json | jq -r '.[].id'")]
pub struct Args {
    /// Print one JSON document; with --watch one for each change, a line each
    #[arg(long)]
    json: bool,
    /// Stay, and show the list again whenever it changes
    #[arg(long, short)]
    watch: bool,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(list(&args, socket).await)
}

async fn list(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let first = ask(&mut client, &Request::Approvals { watch: args.watch }).await?;
    let mut holds = holds(first)?;
    if !args.watch {
        return if args.json {
            print_json(&holds)
        } else {
            print(&render(&holds, Utc::now(), width()))
        };
    }
    loop {
        if args.json {
            let line = serde_json::to_string(&holds).map_err(std::io::Error::from)?;
            print(&format!("{line}\n"))?;
            holds = self::holds(unless_refused(client.next().await?)?)?;
        } else {
            holds = show_until_changed(&mut client, &holds).await?;
        }
    }
}

/// Shows `holds`, on a terminal again each second (their time runs), and returns the next ones.
async fn show_until_changed(client: &mut Client, holds: &[HoldView]) -> Result<Vec<HoldView>, Failed> {
    let on_terminal = std::io::stdout().is_terminal();
    let mut next = pin!(client.next());
    loop {
        let shown = render(holds, Utc::now(), width());
        print(&if on_terminal {
            format!("{CLEAR}{shown}")
        } else {
            format!("{shown}\n")
        })?;
        let tick = async {
            if on_terminal {
                tokio::time::sleep(TICK).await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            response = &mut next => return self::holds(unless_refused(response?)?),
            () = tick => {}
        }
    }
}

fn holds(response: Response) -> Result<Vec<HoldView>, Failed> {
    match response {
        Response::Approvals { holds } => Ok(holds),
        _ => Err(unexpected()),
    }
}

fn render(holds: &[HoldView], now: DateTime<Utc>, width: usize) -> String {
    if holds.is_empty() {
        return "No command waits for a decision of yours.\n".to_owned();
    }
    let mut rows = vec![["ID", "AGE", "LEFT", "WORKLOAD", "SERVICE", "EFFECTS", "COMMAND"].map(String::from)];
    rows.extend(holds.iter().map(|hold| {
        [
            hold.id.to_string(),
            ago(now - hold.placed_at),
            ago(hold.expires_at - now),
            one_line(hold.workload.as_str()),
            one_line(hold.service.as_str()),
            effects(hold),
            one_line(&hold.command.text),
        ]
    }));
    let mut out = String::new();
    for line in table(&rows).lines() {
        out.push_str(&cut(line, width));
        out.push('\n');
    }
    for hold in holds {
        out.push('\n');
        out.push_str(&details(hold, now));
    }
    out
}

fn effects(hold: &HoldView) -> String {
    let names: Vec<_> = hold
        .command
        .effects()
        .iter()
        .map(crate::model::Effect::name)
        .collect();
    names.join(",")
}

/// Everything that is known of one held command.
pub(super) fn details(hold: &HoldView, now: DateTime<Utc>) -> String {
    let mut out = format!(
        "{}  {} on {}\n",
        hold.id,
        one_line(hold.workload.as_str()),
        one_line(hold.service.as_str())
    );
    // Writing to a String cannot fail.
    let mut field = |name: &str, values: Vec<String>| {
        for (number, value) in values.into_iter().enumerate() {
            let _infallible = writeln!(out, "  {:<10}  {value}", if number == 0 { name } else { "" });
        }
    };
    field("asked by", vec![one_line(&hold.requester.summary)]);
    field("command", lines(&hold.command.text));
    if hold.command.http.is_some() {
        let body = hold.parameters.iter().filter_map(|line| line.shown.as_deref());
        field("body", body.map(one_line).collect());
    } else {
        field(
            "with",
            hold.parameters.iter().enumerate().map(parameter).collect(),
        );
    }
    field("does", hold.command.actions.iter().map(action).collect());
    if hold.command.without_where {
        field(
            "note",
            vec!["an UPDATE or DELETE in it has no WHERE: it falls on every row".to_owned()],
        );
    }
    field(
        "unknown",
        hold.command.unknown.iter().map(|why| one_line(why)).collect(),
    );
    field(
        "locks",
        hold.writing_since
            .map(|since| format!("its transaction has written and is open for {}", ago(now - since)))
            .into_iter()
            .collect(),
    );
    field("rules", hold.rules.iter().map(|rule| one_line(rule)).collect());
    field("approvers", vec![one_line(&hold.approvers.join(", "))]);
    field("binding", vec![hold.binding.clone()]);
    field(
        "decide",
        vec![format!(
            "tollgate approve {0}  |  tollgate deny {0} --reason TEXT",
            hold.id
        )],
    );
    out
}

fn parameter((number, parameter): (usize, &crate::model::Parameter)) -> String {
    let number = number + 1;
    match &parameter.shown {
        Some(value) => format!("${number} = '{}'", one_line(value)),
        None => format!("${number} = NULL"),
    }
}

fn action(action: &crate::model::Action) -> String {
    match &action.object {
        Some(object) => format!("{} {}", action.effect, one_line(&object.to_string())),
        None => action.effect.to_string(),
    }
}

const TICK: Duration = Duration::from_secs(1);
/// Clears the terminal and goes to its first line (ECMA-48 ED, CUP).
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::render;
    use crate::approval::{HoldView, Requester};
    use crate::model::{Action, Command, Effect, Object, ObjectKind, Parameter, Schema, SessionId};

    pub(in crate::cli) fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    pub(in crate::cli) fn hold() -> HoldView {
        let orders = Object {
            kind: ObjectKind::Table,
            schema: Schema::Named("public".into()),
            name: "orders".into(),
        };
        HoldView {
            id: "abcdefgh".into(),
            session: SessionId(uuid::Uuid::nil()),
            requester: Requester {
                summary: "report-1.service, /usr/bin/psql (pid 42), uid 1001".into(),
                uid: 1001,
                login_uid: None,
            },
            workload: "ci-report".into(),
            service: "orders-db".into(),
            command: Arc::new(Command {
                text: "DELETE FROM orders\n  USING customers\u{1b}[2K".into(),
                actions: vec![Action {
                    effect: Effect::Delete,
                    object: Some(orders),
                }],
                without_where: true,
                unknown: None,
                http: None,
            }),
            parameters: vec![
                Parameter {
                    shown: Some("42".into()),
                },
                Parameter { shown: None },
            ],
            binding: "07".repeat(32),
            rules: vec!["deletes need a DBA".into()],
            approvers: vec!["dba".into()],
            placed_at: now() - TimeDelta::seconds(12),
            expires_at: now() + TimeDelta::seconds(588),
            writing_since: Some(now() - TimeDelta::seconds(240)),
        }
    }

    #[test]
    fn the_table_fits_the_terminal_and_the_details_hide_nothing() {
        let shown = render(&[hold()], now(), 80);
        let expected = "\
ID        AGE   LEFT   WORKLOAD   SERVICE    EFFECTS  COMMAND
abcdefgh  12 s  9 min  ci-report  orders-db  delete   DELETE FROM orders   USIN…

abcdefgh  ci-report on orders-db
  asked by    report-1.service, /usr/bin/psql (pid 42), uid 1001
  command     DELETE FROM orders
                USING customers\\u{1b}[2K
  with        $1 = '42'
              $2 = NULL
  does        delete public.orders
  note        an UPDATE or DELETE in it has no WHERE: it falls on every row
  locks       its transaction has written and is open for 4 min
  rules       deletes need a DBA
  approvers   dba
  binding     0707070707070707070707070707070707070707070707070707070707070707
  decide      tollgate approve abcdefgh  |  tollgate deny abcdefgh --reason TEXT
";
        assert_eq!(shown, expected);
    }

    #[test]
    fn an_empty_list_says_so() {
        assert!(render(&[], now(), 80).starts_with("No command waits"));
    }

    #[test]
    fn a_request_is_shown_with_its_body() {
        let mut hold = hold();
        let facts: crate::model::HttpFacts =
            serde_json::from_str(r#"{"methods": ["POST"], "scheme": "https", "host": "a.test"}"#).unwrap();
        let mut command = Command::clone(&hold.command);
        command.http = Some(Arc::new(facts));
        hold.command = Arc::new(command);
        hold.parameters = vec![Parameter {
            shown: Some("\"amount\": 5,\u{1b}[2K".into()),
        }];
        let shown = super::details(&hold, now());
        assert!(shown.contains("  body        \"amount\": 5,"), "{shown}");
        assert!(!shown.contains("$1") && !shown.contains('\u{1b}'), "{shown}");
    }
}
