//! `tollgate doctor`: what the host has, and what of the promises holds.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anstyle::{AnsiColor, Style};
use tokio::signal::unix::{SignalKind, signal};

use super::ask::{finish, print, print_json};
use super::failed;
use super::text::{one_line, width, wrapped};
use crate::config::AgentConfig;
use crate::doctor::{self, Check, DoctorError, Examination, Group, Launcher, Report, State, Tried};

/// Examine this host: what Tollgate needs, and whether what it promises holds here
///
/// Looks at what the kernel has and which programs it takes; then tries the promises live: processes of the doctor's own, in
/// a throw-away cgroup and throw-away network namespaces, do what a workload might try to get past. Where an agent's
/// programs are in place, whether it runs or not, those are tried; else programs are loaded for the examination and removed
/// with it. Nothing leaves the loopback, no policy is touched, and it takes a few seconds.
///
/// It tells besides who else has programs on cgroups, what processes of workloads hold that gets them around, and which
/// files others could read or change. Each line that is not good says what it means and what to do.
///
/// Needs root. Exit codes: 0 nothing is bad (there may be warnings), 1 something is bad, 2 it could not be examined.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate doctor
  tollgate doctor --json | jq -r '.checks[] | select(.state == \"bad\") | .title'
  tollgate doctor >/dev/null || echo 'look at this host'")]
pub(super) struct Args {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// Leave out what is good
    #[arg(long, short)]
    quiet: bool,
}

/// A process that does what the doctor tells it, on its standard input
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WorkloadArgs {}

/// Runs the verb.
pub(super) async fn run(args: Args, config: AgentConfig) -> ExitCode {
    let report = match examine(config).await {
        Ok(report) => report,
        Err(error) => return failed(&error),
    };
    let told = if args.json {
        print_json(&report)
    } else {
        let color =
            io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        print(&render(&report, args.quiet, color, width()))
    };
    match told {
        // Where whoever reads has gone away, what was found still decides.
        Err(error) if !error.is_broken_pipe() => finish(Err(error)),
        _ if report.is_good() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Runs the hidden verb.
pub(super) fn serve() -> ExitCode {
    match doctor::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// The hidden verb's name.
pub(super) const VERB: &str = "doctor-workload";

/// Examines on a thread of its own, and stops between two checks when it is asked to: what was set up is taken down.
async fn examine(config: AgentConfig) -> Result<Report, DoctorError> {
    let stop = Arc::new(AtomicBool::new(false));
    for kind in [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ] {
        let stop = Arc::clone(&stop);
        let mut signals = signal(kind).map_err(|source| DoctorError::System {
            operation: "listening for signals".to_owned(),
            source,
        })?;
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                stop.store(true, Ordering::Relaxed);
            }
        });
    }
    let examined = tokio::task::spawn_blocking(move || {
        Examination {
            config: &config,
            launcher: Launcher {
                program: "/proc/self/exe".into(),
                arguments: vec![VERB.into()],
                environment: Vec::new(),
            },
            stop: &stop,
        }
        .report()
    });
    examined.await.unwrap_or_else(|died| {
        Err(DoctorError::System {
            operation: "the examination".to_owned(),
            source: io::Error::other(died),
        })
    })
}

fn render(report: &Report, quiet: bool, color: bool, width: usize) -> String {
    let mut out = format!("tollgate {}: {}\n", report.version, tried(&report.tried));
    let mut heading = None;
    let shown = report
        .checks
        .iter()
        .filter(|check| !quiet || !matches!(check.state, State::Good | State::Skipped));
    for check in shown {
        if heading != Some(check.group) {
            heading = Some(check.group);
            // Writing to a String cannot fail.
            let _infallible = writeln!(
                out,
                "\n{}",
                styled(Style::new().bold(), title(check.group), color)
            );
        }
        out.push_str(&line(check, color, width));
    }
    let _infallible = writeln!(
        out,
        "\n{} good, {}, {} bad, {} not applicable",
        report.count(State::Good),
        match report.count(State::Warning) {
            1 => "1 warning".to_owned(),
            more => format!("{more} warnings"),
        },
        report.count(State::Bad),
        report.count(State::Skipped),
    );
    out
}

fn tried(tried: &Tried) -> &'static str {
    match tried {
        Tried::RunningAgent => "the agent runs; its programs are tried",
        Tried::StoppedAgent => "no agent runs; the programs that one left are tried",
        Tried::OwnPrograms => {
            "no agent has programs on this host; they are loaded for this examination, to see what would hold"
        }
        Tried::Nothing => "programs could not be loaded, so what is promised could not be tried",
    }
}

const fn title(group: Group) -> &'static str {
    match group {
        Group::Host => "What the host has",
        Group::Programs => "Programs that its kernel takes",
        Group::Attached => "Programs that are attached",
        Group::Promises => "What is promised, tried here and now",
        Group::Neighbours => "Others with programs on cgroups",
        Group::Workloads => "Processes under a policy, and ways around it",
        Group::Files => "Files, sockets and pins",
    }
}

/// Sign and word, so that neither colour nor the sign alone has to be told apart.
fn line(check: &Check, color: bool, width: usize) -> String {
    const TITLE: usize = 62;
    let (mark, style) = match check.state {
        State::Good => ("✓ good", AnsiColor::Green.on_default()),
        State::Warning => ("! warn", AnsiColor::Yellow.on_default()),
        State::Bad => ("✗ BAD ", AnsiColor::Red.on_default().bold()),
        State::Skipped => ("- n/a ", Style::new().dimmed()),
    };
    let title = one_line(&check.title);
    let mut out = format!(
        "  {}  {title:<TITLE$}  {}",
        styled(style, mark, color),
        one_line(&check.found)
    );
    out.truncate(out.trim_end().len());
    out.push('\n');
    let indent = " ".repeat(10);
    for advice in wrapped(&one_line(&check.advice), width.saturating_sub(indent.len())) {
        let _infallible = writeln!(out, "{indent}{advice}");
    }
    out
}

fn styled(style: Style, text: &str, color: bool) -> String {
    if color {
        format!("{style}{text}{style:#}")
    } else {
        text.to_owned()
    }
}
