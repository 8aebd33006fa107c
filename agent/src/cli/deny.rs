//! `tollgate deny`: refuse a held command.

use std::path::Path;
use std::process::ExitCode;

use super::ask::{Failed, Socket, ask, finish, print, unexpected};
use super::text::{cut, one_line, width};
use crate::control::{Request, Response};
use crate::model::HoldId;

/// Refuse a held command
///
/// The job gets an error of its own protocol with your name and your reason in it, and its connection goes on working.
/// Say what its author should do instead. The rights are those of `tollgate approve`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  tollgate deny abcdefgh --reason 'not while the invoices run; try again after 18:00'")]
pub struct Args {
    /// The id that `tollgate approvals` shows: eight letters
    #[arg(value_name = "ID")]
    id: String,
    /// Why, for the author of the job: one line of up to 500 characters
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    socket: Socket,
}

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(deny(&args, socket).await)
}

async fn deny(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let request = Request::Deny {
        id: HoldId::from(args.id.trim().to_ascii_lowercase().as_str()),
        reason: args.reason.clone(),
    };
    match ask(&mut client, &request).await? {
        Response::Decided { hold } => {
            let line = format!("Refused {}: {}", hold.id, one_line(&hold.command.text));
            print(&format!("{}\n", cut(&line, width())))
        }
        _ => Err(unexpected()),
    }
}
