//! `tollgate run`: a command under a policy, with clients that trust this host's authority.
//!
//! The command gets a cgroup of its own that the policy selects, and that is removed with all that is left in it when the
//! command ends. It moves itself there before it becomes the command, so that nothing of it runs outside. Whoever may make a
//! cgroup there may do this: root, or the user whom that part of the tree is delegated to.
//!
//! Known limits: killed by SIGKILL, it leaves the cgroup and its folder behind. Programs with a list of authorities of their
//! own that no variable names (Firefox, wget of `GnuTLS`) are not reached: `tollgate ca install` reaches some of them.

mod environment;
mod place;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use super::ask::{Failed, Socket};
use super::{ca, failed};
use crate::config::AgentConfig;

use environment::Trust;
use place::{Place, PlaceError};

/// The hidden verb's name.
pub(super) const INSIDE: &str = "run-inside";

/// Start a command under a policy, trusting this host's authority
///
/// The command runs in a cgroup of its own that the policy selects, and with the certificate of this host's authority beside the
/// system's in the environment variables that clients read: `SSL_CERT_FILE` (OpenSSL, Go, Ruby, Rust), `CURL_CA_BUNDLE`,
/// `REQUESTS_CA_BUNDLE` and `PIP_CERT` (Python), `NODE_EXTRA_CA_CERTS` and `npm_config_cafile` (Node), `GIT_SSL_CAINFO`,
/// `AWS_CA_BUNDLE`, `CARGO_HTTP_CAINFO`, `GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`, `DENO_CERT`, and `JAVA_TOOL_OPTIONS`, which names a
/// trust store. Certificates of files that those variables named before are kept. Java says on standard error that it picked up
/// the options.
///
/// When the command ends, whatever it left in its cgroup is ended too. Exit code: the command's own, 128 and the number of the
/// signal that ended it, 126 or 127 where it cannot be started.
///
/// Needs a running agent and the right to make a cgroup where the policy selects one: root, or a delegated part of the tree
/// and the group of the control socket.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: the command's own; of tollgate itself 1 the policy has no place for it, 2 an error, 3 no agent is running.

Examples:
  tollgate run --policy ci-report -- ./report.sh --month 2026-10
  tollgate run --policy ci-report -- curl -sS https://api.acme.test/v1/orders
  tollgate run --policy nightly -- sudo -u backup --preserve-env backup --all")]
pub(super) struct Args {
    /// Workload whose policy it runs under, as `tollgate status` shows it
    #[arg(long, value_name = "NAME")]
    policy: String,
    #[command(flatten)]
    socket: Socket,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// A process that moves itself into a cgroup and becomes a command
#[derive(Clone, Debug, clap::Args)]
pub(super) struct InsideArgs {
    /// Its `cgroup.procs`
    procs: PathBuf,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs the verb.
pub(super) async fn run(args: Args, config: AgentConfig) -> ExitCode {
    let certificates = ca::trusted(&config);
    if certificates.is_empty() {
        return failed(&ca::NONE);
    }
    let place = match Place::make(&args.policy, &args.socket, &config).await {
        Ok(place) => place,
        Err(PlaceError::Agent(error)) => return super::ask::finish(Err(error)),
        Err(error @ (PlaceError::NoPolicy { .. } | PlaceError::NoPlace { .. })) => {
            return super::ask::finish(Err(Failed::Refused(error.to_string())));
        }
        Err(error) => return failed(&error),
    };
    let ended = in_place(&args, &config, &place, certificates).await;
    if let Err(error) = place.remove() {
        anstream::eprintln!("tollgate: {error}");
    }
    match ended {
        Ok(status) => code_of(status),
        Err(error) => failed(&error),
    }
}

async fn in_place(
    args: &Args,
    config: &AgentConfig,
    place: &Place,
    certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
) -> Result<ExitStatus, String> {
    let trust = Trust::write(&config.run_dir, certificates)?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(INSIDE)
        .arg(place.procs())
        .arg("--")
        .args(&args.command);
    command.envs(trust.variables());
    // Before it is there, so that none is lost.
    let mut signals =
        Signals::listen().map_err(|error| format!("signals cannot be listened for: {error}"))?;
    let mut child = tokio::process::Command::from(command)
        .spawn()
        .map_err(|error| format!("the command cannot be started: {error}"))?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .map(Pid::from_raw);
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(|error| error.to_string()),
            signal = signals.next() => {
                if let Some(pid) = pid {
                    // It may have ended just now.
                    let _ = kill(pid, signal);
                }
            }
        }
    }
}

/// Moves this process, and makes it the command. Comes back only where that fails.
pub(super) fn inside(args: &InsideArgs) -> ExitCode {
    // 0 is whoever writes it.
    if let Err(error) = std::fs::write(&args.procs, "0") {
        return failed(&format!("{} cannot be entered: {error}", args.procs.display()));
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return failed(&"there is no command");
    };
    let error = Command::new(program).args(arguments).exec();
    anstream::eprintln!("tollgate: {}: {error}", program.display());
    ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound {
        127
    } else {
        126
    })
}

/// As shells have it.
fn code_of(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}

/// What is passed on to the command. What a terminal sends goes to the command by itself: it is in the same group.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
    first: tokio::signal::unix::Signal,
    second: tokio::signal::unix::Signal,
    terminal: bool,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            first: signal(SignalKind::user_defined1())?,
            second: signal(SignalKind::user_defined2())?,
            terminal: std::io::stdin().is_terminal(),
        })
    }

    async fn next(&mut self) -> Signal {
        loop {
            let (signal, of_terminal) = tokio::select! {
                _ = self.interrupt.recv() => (Signal::SIGINT, true),
                _ = self.quit.recv() => (Signal::SIGQUIT, true),
                _ = self.terminate.recv() => (Signal::SIGTERM, false),
                _ = self.hangup.recv() => (Signal::SIGHUP, false),
                _ = self.first.recv() => (Signal::SIGUSR1, false),
                _ = self.second.recv() => (Signal::SIGUSR2, false),
            };
            if !(of_terminal && self.terminal) {
                return signal;
            }
        }
    }
}
