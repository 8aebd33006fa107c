//! `tollgate verify`: whether records are as they were written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};

use super::{failed, records_hint};
use crate::model::SessionId;
use crate::record::{Problem, Report, SessionState, VerifyOptions, verify};

/// Check that records are as this host wrote and signed them
///
/// Reads every byte of the sessions and of the host's ledger: hashes, signatures, numbers, keys. What was edited, cut,
/// reordered, spliced in or removed is found; the first thing that is wrong in a session is named with its file, place and
/// frame. SIGNED in the list is how many of a session's frames a
/// signature covers by now; an open session's last seconds are not covered yet.
///
/// Whoever can write on this host can remove the end of the ledger and the sessions that it alone names. Hold the records
/// against a copy that was shipped (--against), and the host against its identity (--host), which this prints.
///
/// Exit codes: 0 the records are good, 1 they are not, 2 they could not be checked.
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  tollgate verify
  tollgate verify 0199f3a2-7d51-7c60-9b1e-3f2d1a0b4c5d
  tollgate verify /mnt/audit/host-7 --host \"$HOST_KEY\"
  tollgate verify --against /mnt/audit/host-7/ledger")]
pub struct VerifyArgs {
    /// A session id, a record's file, or a records directory; by default the host's own
    #[arg(value_name = "SESSION|PATH")]
    what: Option<String>,
    /// The host's identity (64 hex digits), as it was noted when the host was set up
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    host: Option<[u8; 32]>,
    /// A shipped copy of the ledger, or the directory of its parts: finds sessions that were removed together with
    /// the ledger's end
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// Print the report as one JSON document
    #[arg(long)]
    json: bool,
}

/// Verifies what `args` name, by default everything in `records`.
pub fn run(args: &VerifyArgs, records: &Path) -> ExitCode {
    let mut options = VerifyOptions {
        host: args.host,
        against: args.against.clone(),
        session: None,
    };
    let path = match &args.what {
        None => records.to_owned(),
        Some(what) => match uuid::Uuid::try_parse(what) {
            Ok(session) => {
                options.session = Some(SessionId(session));
                records.to_owned()
            }
            Err(_) => PathBuf::from(what),
        },
    };
    let report = match verify(&path, &options) {
        Ok(report) => report,
        Err(error) => return failed(&format_args!("{error}{}", records_hint(&path))),
    };
    let mut out = anstream::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &report)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out))
    } else {
        print(&mut out, &report)
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            failed(&format_args!("cannot write: {error}"))
        }
        Ok(()) | Err(_) if report.is_good() => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

fn print(out: &mut impl Write, report: &Report) -> io::Result<()> {
    if !report.sessions.is_empty() {
        let mut table = Table::new();
        table
            .load_preset(presets::NOTHING)
            .set_header(["SESSION", "STATE", "FRAMES", "SIGNED", "RESULT"]);
        for session in &report.sessions {
            let state = match session.state {
                SessionState::Open => "open",
                SessionState::Closed => "closed",
                SessionState::Crashed => "crashed",
                SessionState::Absent => "absent",
                SessionState::Damaged => "damaged",
            };
            table.add_row([
                session.session.to_string(),
                state.to_owned(),
                session.frames.to_string(),
                session.signed.to_string(),
                if session.good { "good" } else { "BAD" }.to_owned(),
            ]);
        }
        for column in 2..4 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(out, "{table}")?;
    }
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    for problem in &report.problems {
        writeln!(out, "BAD: {}", sentence(problem))?;
    }
    let (good, all) = (
        report.sessions.iter().filter(|session| session.good).count(),
        report.sessions.len(),
    );
    let host = report.host.as_ref().map_or_else(
        || "no ledger ties them to a host".to_owned(),
        |host| format!("host {host}, ledger of {} entries", report.entries),
    );
    let verdict = if report.is_good() { "GOOD" } else { "BAD" };
    writeln!(
        out,
        "{verdict}: {good} of {all} sessions are as they were recorded ({host})"
    )
}

fn sentence(problem: &Problem) -> String {
    let kind = serde_json::to_value(problem.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or("bad");
    let mut place = problem.file.display().to_string();
    if let Some(offset) = problem.offset {
        place = format!("{place}, byte {offset}");
    }
    if let Some(frame) = problem.frame {
        place = format!("{place}, first bad frame {frame}");
    }
    format!("{} [{kind}] ({place})", problem.message)
}

fn parse_key(text: &str) -> Result<[u8; 32], String> {
    hex::decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "a key is 64 hex digits: `tollgate verify` prints the host's".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::ProblemKind;

    #[test]
    fn a_problem_says_what_and_where() {
        let problem = Problem {
            kind: ProblemKind::WrongKey,
            session: None,
            file: PathBuf::from("/records/x.tgr"),
            offset: Some(112),
            frame: Some(3),
            message: "the key that signed is not one of the host's".to_owned(),
        };
        assert_eq!(
            sentence(&problem),
            "the key that signed is not one of the host's [wrong_key] (/records/x.tgr, byte 112, first bad frame 3)"
        );
    }

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: VerifyArgs,
    }

    fn exit(records: &Path, words: &[&str]) -> ExitCode {
        let words = std::iter::once("verify").chain(words.iter().copied());
        run(&<Line as clap::Parser>::parse_from(words).args, records)
    }

    #[test]
    fn the_exit_code_tells_good_from_bad_from_unchecked() {
        use crate::model::{Direction, FrameKind};
        use crate::record::{Recorder, RecorderOptions};
        let records = tempfile::tempdir().unwrap();
        let recorder = Recorder::open(&RecorderOptions::new(records.path())).unwrap();
        let session = SessionId::new();
        let mut record = recorder.begin(session, &serde_json::json!({})).unwrap();
        record
            .append(FrameKind::ClientBytes, Direction::ToServer, &[b"select 1"])
            .unwrap();
        record.close(&serde_json::json!({})).unwrap();
        recorder.shutdown().unwrap();
        let path = recorder.layout().segment(session, 0, true);
        let (id, identity) = (session.to_string(), recorder.identity());
        assert_eq!(exit(records.path(), &[]), ExitCode::SUCCESS);
        assert_eq!(
            exit(records.path(), &[&id, "--json", "--host", &identity]),
            ExitCode::SUCCESS
        );
        assert_eq!(
            exit(Path::new("/nowhere"), &[path.to_str().unwrap()]),
            ExitCode::SUCCESS
        );
        assert_eq!(
            exit(records.path(), &["--host", &"00".repeat(32)]),
            ExitCode::FAILURE
        );
        let other = SessionId::new().to_string();
        assert_eq!(exit(records.path(), &[&other]), ExitCode::from(2));
        assert_eq!(exit(Path::new("/nowhere"), &[]), ExitCode::from(2));
        std::fs::remove_file(path).unwrap();
        assert_eq!(exit(records.path(), &[]), ExitCode::FAILURE);
    }

    #[test]
    fn keys_are_hex() {
        assert!(parse_key(&"ab".repeat(32)).is_ok());
        assert!(parse_key("ab").is_err() && parse_key(&"zz".repeat(32)).is_err());
    }
}
