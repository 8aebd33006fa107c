//! `tollgate identity login`: a job proves who it is.

use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::super::ask::{Failed, print, print_json};
use super::super::text::one_line;
use crate::control::JobsClient;

/// Prove who this job is, with a token of its CI system
///
/// For workloads whose policy says `token = { login = true }`. The token is checked at once, and counts for the cgroup of this
/// process and for those below it: for every connection that the job opens from now on, and for commands in those that are
/// open. Log in again with a newer token before it ends. Needs no rights: who asks comes from the kernel.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 logged in, 1 the token is not accepted, 3 no agent is running.

Examples:
  tollgate identity login --env TOLLGATE_ID_TOKEN
  tollgate identity login --file /var/run/secrets/tollgate/token
  curl … | jq --raw-output .value | tollgate identity login")]
pub(super) struct Args {
    /// Take the token from this environment variable
    #[arg(long, value_name = "NAME", conflicts_with = "file")]
    env: Option<String>,
    /// Take the token from this file [default: standard input]
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    /// The agent's socket for jobs [default: job.sock in the agent's run directory]
    #[arg(
        long,
        value_name = "PATH",
        env = "TOLLGATE_JOB_SOCKET",
        hide_env_values = true,
        display_order = 800
    )]
    socket: Option<PathBuf>,
}

pub(super) async fn login(args: Args, configured: &Path) -> Result<(), Failed> {
    let token = token(&args)?;
    let mut client = JobsClient::connect(args.socket.as_deref().unwrap_or(configured)).await?;
    let logged_in = client.login(token).await?.map_err(Failed::Refused)?;
    if args.json {
        return print_json(&logged_in);
    }
    print(&format!(
        "Logged in as {} until {}, for workload {} (cgroup {}).\n",
        one_line(&logged_in.subject),
        logged_in.until.format("%F %T UTC"),
        one_line(logged_in.workload.as_str()),
        one_line(logged_in.cgroup.as_str()),
    ))
}

fn token(args: &Args) -> Result<String, Failed> {
    let unusable = |what: String| Failed::Refused(format!("{what}; see `tollgate identity login --help`"));
    let text = match (&args.env, &args.file) {
        (Some(name), _) => {
            std::env::var(name).map_err(|_| unusable(format!("${name} is not set, or no text")))?
        }
        (None, Some(path)) => read(
            std::fs::File::open(path)
                .map_err(|error| unusable(format!("{} cannot be read ({})", path.display(), error.kind())))?,
        )
        .map_err(|error| unusable(format!("{} cannot be read ({})", path.display(), error.kind())))?,
        (None, None) if io::stdin().is_terminal() => {
            return Err(unusable("no token is given".to_owned()));
        }
        (None, None) => read(io::stdin().lock())
            .map_err(|error| unusable(format!("standard input cannot be read ({})", error.kind())))?,
    };
    let token = Zeroizing::new(text);
    match token.trim() {
        "" => Err(unusable("the token is empty".to_owned())),
        token => Ok(token.to_owned()),
    }
}

fn read(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// The agent takes 64 KiB, and says so of more.
const LONGEST: u64 = 65 * 1024;
