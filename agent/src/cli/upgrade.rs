//! `tollgate upgrade`: another version of the agent in the place of the one that runs.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::ask::{Failed, Socket, ask, finish, print, unexpected};
use super::text::one_line;
use crate::control::{AgentStatus, Client, ControlError, Request, Response};

/// Have the installed version take over from the one that runs, while connections wait
///
/// To be run after the program's file was replaced; packages do so. The new version first says whether it could start: with
/// policies that it does not understand, or programs that the kernel refuses, nothing happens. Then open sessions get five
/// seconds to end by themselves, and are told to connect again. New connections wait meanwhile, and are served by the new
/// version: none is refused. The process stays the same. Needs root. SIGUSR2 to the agent does the same.
///
/// Exit codes: 0 the new version runs, 1 it could not start and the old one goes on, 2 an error, 3 no agent is running.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  install tollgate-new /usr/bin/tollgate && tollgate upgrade")]
pub struct Args {
    #[command(flatten)]
    socket: Socket,
}

/// How long the new version may take until it answers.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long until it is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// Runs the verb.
pub async fn run(args: Args, socket: &Path) -> ExitCode {
    finish(upgrade(&args, socket).await)
}

async fn upgrade(args: &Args, socket: &Path) -> Result<(), Failed> {
    let mut client = args.socket.connect(socket).await?;
    let before = status(&mut client).await?;
    match ask(&mut client, &Request::Upgrade).await {
        Ok(Response::Upgrading) => {}
        Ok(_) => return Err(unexpected()),
        // It was faster than its answer.
        Err(Failed::Control(ControlError::Closed | ControlError::Broken { .. })) => {}
        Err(failed) => return Err(failed),
    }
    let until = Instant::now() + PATIENCE;
    let now = loop {
        tokio::time::sleep(AGAIN).await;
        let answer = match args.socket.connect(socket).await {
            Ok(mut client) => status(&mut client).await,
            Err(failed) => Err(failed),
        };
        match answer {
            Ok(now) if now.started_at != before.started_at => break now,
            Err(failed) if Instant::now() > until => return Err(failed),
            Ok(_) if Instant::now() > until => {
                return Err(Failed::Refused(format!(
                    "the version from before still runs after {} s; see the log of tollgate.service",
                    PATIENCE.as_secs()
                )));
            }
            Ok(_) | Err(_) => {}
        }
    };
    if let Some(why) = now.failed_upgrade {
        return Err(Failed::Refused(format!(
            "the version from before goes on: {}",
            one_line(&why)
        )));
    }
    print(&format!(
        "tollgate {} runs (pid {}); it was {}\n",
        one_line(&now.version),
        now.pid,
        one_line(&before.version)
    ))
}

async fn status(client: &mut Client) -> Result<AgentStatus, Failed> {
    match ask(client, &Request::Status).await? {
        Response::Status { status } => Ok(status),
        _ => Err(unexpected()),
    }
}
