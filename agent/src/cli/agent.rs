//! `tollgate agent` and `tollgate uninstall`.

use std::io::IsTerminal;
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use crate::app;
use crate::config::AgentConfig;

use super::failed;

/// Run the agent: redirect, judge, mask, record
///
/// Needs root, Linux 6.1 or newer with BTF, and cgroup2. tollgate.service runs it; by hand it stays in the foreground and
/// logs to standard error (`RUST_LOG=debug` says more). It says `ready` when everything is in place.
///
/// SIGTERM stops it: open sessions get five seconds to end, and their records are sealed. Whether it is stopped or killed,
/// managed cgroups stay closed to what their policies protect until it runs again; `tollgate uninstall` opens them.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {}

/// Remove from the kernel what an agent left; managed cgroups are open afterwards
///
/// Detaches the programs and removes their pins. Records, keys and policies stay. The agent has to be stopped first.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct UninstallArgs {}

pub(super) fn run(config: AgentConfig) -> ExitCode {
    log();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("tollgate")
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    match runtime.block_on(app::run(config)) {
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
