//! `tollgate agent` and `tollgate uninstall`.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::app;
use crate::config::AgentConfig;
use crate::kernel::dump;
use crate::kernel::given::Given;

use super::failed;

/// Run the agent: redirect, judge, mask, record
///
/// Needs root, Linux 6.1 or newer with BTF, and cgroup2. tollgate.service runs it; by hand it stays in the foreground and
/// logs to standard error (`RUST_LOG=debug` says more). It says `ready` when everything is in place.
///
/// SIGTERM stops it: open sessions get five seconds to end, and their records are sealed. Whether it is stopped or killed,
/// managed cgroups stay closed to what their policies protect until it runs again; `tollgate uninstall` opens them.
///
/// SIGHUP has it read its policies again (`tollgate reload`), SIGUSR2 has the version take over that is at the path from
/// which it was started (`tollgate upgrade`).
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Only say whether it could start: policies and what they demand, secrets, and whether the kernel takes the programs
    ///
    /// Changes nothing, and works beside an agent that runs. Exit codes: 0 it could, 2 it could not.
    #[arg(long)]
    check: bool,
}

/// Remove from the kernel what an agent left; managed cgroups are open afterwards
///
/// Detaches the programs and removes pins of every version, half-made ones too, the bpffs if the agent mounted it, and the
/// sockets and the lock in its run directory. Records, keys and policies stay. The agent has to be stopped first.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct UninstallArgs {}

pub(super) fn run(args: &Args, config: AgentConfig) -> ExitCode {
    // Before any secret is read.
    if let Err(error) = dump::forbid() {
        return failed(&format!(
            "images of the agent's memory cannot be forbidden: {error}"
        ));
    }
    // Before anything is opened: what was handed over is known by its numbers alone.
    let given = if args.check {
        Given::default()
    } else {
        Given::take()
    };
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tollgate")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let done = if args.check {
        runtime.block_on(app::check(&config))
    } else {
        runtime.block_on(app::run(config, given))
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

pub(super) fn uninstall(config: &AgentConfig) -> ExitCode {
    match app::uninstall(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// One line an event on standard error, which journald takes over; `RUST_LOG` chooses what is said.
fn log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal =
        std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal);
    // journald has its own time stamps.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        subscriber.without_time().init();
    } else {
        subscriber.init();
    }
}
