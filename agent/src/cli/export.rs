//! `tollgate export`: a recorded session in a format that other programs open.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use super::replay::{ReplayError, find};
use super::{failed, records_hint};
use crate::model::FrameKind;
use crate::record::Reader;
use crate::record::meta::OpenMeta;
use crate::replay::http::{At, Exchanges, har};

/// Write a session of HTTP as an archive that browsers' tools open (HAR 1.2)
///
/// With all exchanges, their times, and their bodies whole, as the workload saw them. Developer tools of browsers import it, and
/// so do mitmproxy, Charles and Insomnia. Secrets of heads are not in records, and so not in it; bodies may hold what is
/// confidential.
///
/// Reads records alone: no agent has to run. It does not check signatures: `tollgate verify` does.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 done, 1 the session is of a protocol that has no archive, 2 an error.

Examples:
  tollgate export 0199f3a2 > session.har
  tollgate export 0199f3a2 --output session.har
  tollgate export 0199f3a2 | jq -r '.log.entries[] | [.request.method, .request.url, .response.status] | @tsv'")]
pub struct ExportArgs {
    /// The id that `tollgate sessions` shows, or its beginning
    #[arg(value_name = "ID")]
    session: String,
    /// As an HTTP archive; the only format by now, and the one that is taken
    #[arg(long)]
    har: bool,
    /// Where to [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Records directory, as an agent writes it or as records are shipped [default: the agent's]
    #[arg(long, value_name = "DIR")]
    records: Option<PathBuf>,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Find(#[from] ReplayError),
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
    #[error("session {0} has no beginning that can be read")]
    NoBeginning(String),
    #[error(
        "session {session} speaks {protocol}, and only sessions of http have an archive: `tollgate replay --json` writes it as JSON"
    )]
    Protocol { session: String, protocol: String },
    #[error("a part of the record is no part of a message of HTTP: {0}")]
    Unreadable(&'static str),
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Writes the session of `args`, from the directory `records` if it names no other.
pub fn run(args: &ExportArgs, records: &Path) -> ExitCode {
    let records = args.records.as_deref().unwrap_or(records);
    match export(args, records) {
        Ok(()) => ExitCode::SUCCESS,
        Err(ExportError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error @ ExportError::Protocol { .. }) => {
            anstream::eprintln!("tollgate: {error}");
            ExitCode::FAILURE
        }
        Err(error @ ExportError::Record(_)) => failed(&format_args!("{error}{}", records_hint(records))),
        Err(error) => failed(&error),
    }
}

fn export(args: &ExportArgs, records: &Path) -> Result<(), ExportError> {
    // There is one format; naming it says nothing more.
    let ExportArgs { har: _, .. } = args;
    let session = find(records, &args.session)?;
    let mut opened: Option<OpenMeta> = None;
    let mut exchanges = Exchanges::new(usize::MAX);
    let mut done = Vec::new();
    for frame in Reader::open_at(records, session, 0)? {
        let frame = frame?;
        match frame.kind {
            FrameKind::Open => {
                let open: OpenMeta = serde_json::from_slice(&frame.bytes)
                    .map_err(|_| ExportError::NoBeginning(session.to_string()))?;
                if open.protocol != "http" {
                    return Err(ExportError::Protocol {
                        session: session.to_string(),
                        protocol: open.protocol,
                    });
                }
                opened = Some(open);
            }
            FrameKind::ClientBytes | FrameKind::ServerBytes => {
                let at = At {
                    elapsed: Duration::from_nanos(frame.elapsed),
                    time: frame.time,
                };
                exchanges
                    .push(at, frame.direction, (&frame.bytes, frame.continued), &mut done)
                    .map_err(ExportError::Unreadable)?;
            }
            _ => {}
        }
    }
    let opened = opened.ok_or_else(|| ExportError::NoBeginning(session.to_string()))?;
    done.extend(exchanges.finish());
    let comment = format!(
        "session {session} of {} with {} on {}",
        opened.workload, opened.service, opened.host
    );
    let archive = serde_json::to_vec_pretty(&har::archive(&done, &comment)).map_err(std::io::Error::from)?;
    match &args.output {
        Some(path) => std::fs::write(path, archive)?,
        None => {
            let mut out = std::io::stdout().lock();
            out.write_all(&archive)?;
            out.write_all(b"\n")?;
            out.flush()?;
        }
    }
    Ok(())
}
