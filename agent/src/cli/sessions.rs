//! `tollgate sessions`: what was recorded.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{failed, records_hint};
use crate::record::{SessionState, SessionSummary, list};

/// List recorded sessions, the oldest first
///
/// A session is one connection of a workload. Its state: open (it goes on), closed, crashed (the agent was killed under it;
/// what it had recorded is there) or damaged (its files cannot be read: see `tollgate verify`). DENIED and HELD count
/// commands, MASKED counts values.
///
/// Reads records alone: no agent has to run.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tollgate sessions -n 10
  tollgate sessions --workload ci-report --state crashed
  tollgate sessions --json | jq -r 'select(.counts.denied > 0).session'")]
pub struct SessionsArgs {
    /// Only sessions of this workload
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Only sessions with this service
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
    /// Only sessions in this state
    #[arg(long, value_enum)]
    state: Option<StateArg>,
    /// Only the last COUNT
    #[arg(short = 'n', long, value_name = "COUNT")]
    last: Option<usize>,
    /// Print JSON, one session a line
    #[arg(long)]
    json: bool,
    /// Records directory, as an agent writes it or as records are shipped [default: the agent's]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum StateArg {
    Open,
    Closed,
    Crashed,
    Damaged,
}

/// Lists the sessions in `records`, if `args` name no other directory. Exit code 0, or 2 where it cannot be read.
pub fn run(args: &SessionsArgs, records: &Path) -> ExitCode {
    let records = args.records.as_deref().unwrap_or(records);
    let sessions = match list(records) {
        Ok(sessions) => sessions,
        Err(error) => return failed(&format_args!("{error}{}", records_hint(records))),
    };
    let mut sessions: Vec<_> = sessions
        .into_iter()
        .filter(|session| args.wants(session))
        .collect();
    if let Some(last) = args.last {
        sessions.drain(..sessions.len().saturating_sub(last));
    }
    let mut out = anstream::stdout().lock();
    let written = if args.json {
        sessions.iter().try_for_each(|session| {
            serde_json::to_writer(&mut out, session)?;
            writeln!(out)
        })
    } else if sessions.is_empty() {
        writeln!(out, "No sessions in {}.", records.display())
    } else {
        writeln!(out, "{}", table(&sessions))
    };
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            failed(&format_args!("cannot write: {error}"))
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

impl SessionsArgs {
    fn wants(&self, session: &SessionSummary) -> bool {
        let open = session.open.as_ref();
        let named = |wanted: &Option<String>, name: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| name == Some(wanted))
        };
        named(&self.workload, open.map(|open| open.workload.as_str()))
            && named(&self.service, open.map(|open| open.service.as_str()))
            && self.state.is_none_or(|state| match state {
                StateArg::Open => session.state == SessionState::Open,
                StateArg::Closed => session.state == SessionState::Closed,
                StateArg::Crashed => session.state == SessionState::Crashed,
                StateArg::Damaged => session.state == SessionState::Damaged,
            })
    }
}

fn table(sessions: &[SessionSummary]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header([
        "SESSION",
        "STARTED (UTC)",
        "LASTED",
        "STATE",
        "WORKLOAD",
        "SERVICE",
        "COMMANDS",
        "DENIED",
        "HELD",
        "MASKED",
        "TO CLIENT",
        "IDENTITY",
    ]);
    for session in sessions {
        let (workload, service) = session
            .open
            .as_ref()
            .map_or(("?", "?"), |open| (open.workload.as_str(), open.service.as_str()));
        let counts = &session.counts;
        table.add_row([
            session.session.to_string(),
            session.started.format("%Y-%m-%d %H:%M:%S").to_string(),
            session
                .ended
                .map_or_else(|| "…".to_owned(), |ended| lasted(ended - session.started)),
            state(session.state).to_owned(),
            workload.to_owned(),
            service.to_owned(),
            counts.commands.to_string(),
            counts.denied.to_string(),
            counts.held.to_string(),
            counts.masked_values.to_string(),
            bytes(counts.bytes_to_client),
            clip(&session.identity, 48),
        ]);
    }
    for column in 6..11 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Open => "open",
        SessionState::Closed => "closed",
        SessionState::Crashed => "crashed",
        SessionState::Absent => "absent",
        SessionState::Damaged => "damaged",
    }
}

fn lasted(duration: chrono::TimeDelta) -> String {
    let milliseconds = duration.num_milliseconds().max(0);
    match milliseconds {
        0..1000 => format!("{milliseconds}ms"),
        1000..60_000 => format!("{}.{}s", milliseconds / 1000, milliseconds % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", milliseconds / 60_000, milliseconds / 1000 % 60),
        _ => format!("{}h{:02}m", milliseconds / 3_600_000, milliseconds / 60_000 % 60),
    }
}

/// A number of bytes for people, in powers of 1024.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let mut unit = None;
    let (mut whole, mut tenths) = (count, 0);
    for name in UNITS {
        if whole < 1024 {
            break;
        }
        (whole, tenths) = (whole / 1024, whole % 1024 * 10 / 1024);
        unit = Some(name);
    }
    match unit {
        Some(unit) => format!("{whole}.{tenths} {unit}"),
        None => format!("{whole} B"),
    }
}

/// The first `length` characters, without control characters: the text is a workload's.
fn clip(text: &str, length: usize) -> String {
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(length).collect();
    if text.chars().count() > length {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_bytes_read_well() {
        for (count, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(count), shown);
        }
    }

    #[test]
    fn an_identity_cannot_drive_the_terminal() {
        assert_eq!(clip("a\u{1b}[31mb", 3), "a[3…");
    }

    #[test]
    fn durations_read_well() {
        for (milliseconds, shown) in [
            (7, "7ms"),
            (1_540, "1.5s"),
            (61_000, "1m01s"),
            (7_260_000, "2h01m"),
        ] {
            assert_eq!(lasted(chrono::TimeDelta::milliseconds(milliseconds)), shown);
        }
    }
}
