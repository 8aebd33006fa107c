//! The verbs of the command line, one file each.

mod agent;
pub mod approvals;
pub mod approve;
mod ask;
pub mod deny;
pub mod policy;
pub mod replay;
pub mod sessions;
pub mod status;
mod text;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app;
use crate::config::AgentConfig;

/// Transparent interception for automation: identity, credentials, verdicts, masks and records on the data path.
///
/// On the host: `tollgate agent` runs as tollgate.service. What a workload may do stands in one policy file each; write one,
/// check it with `tollgate policy check`, and read what happened with `tollgate sessions` and `tollgate replay`.
///
/// Exit codes: 0 done; 1 the answer is no (a bad policy, a bad record, a refusal); 2 wrong usage or an error; 3 no agent
/// answers.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 110)]
struct Arguments {
    /// The agent's own file [default: /etc/tollgate/tollgate.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent: redirect, judge, mask, record. Needs root; stops on SIGTERM
    Agent,
    /// Show how the running agent is
    Status(status::Args),
    /// List the commands that wait for a decision
    Approvals(approvals::Args),
    /// Let a held command run
    Approve(approve::Args),
    /// Refuse a held command
    Deny(deny::Args),
    /// List recorded sessions
    Sessions(sessions::SessionsArgs),
    /// Show a recorded session, as it went
    Replay(replay::ReplayArgs),
    /// Verify records: edited, cut, reordered, spliced, removed?
    Verify(verify::VerifyArgs),
    /// Check policy files before they count
    Policy(policy::PolicyArgs),
    /// Remove from the kernel what an agent left: managed cgroups are open afterwards
    Uninstall,
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match AgentConfig::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(errors) => return failed(&errors),
    };
    let records = app::records(&config.state_dir);
    let socket = config.control_socket.as_path();
    match arguments.verb {
        Verb::Agent => agent::run(config),
        Verb::Status(args) => wait(status::run(args, socket)),
        Verb::Approvals(args) => wait(approvals::run(args, socket)),
        Verb::Approve(args) => wait(approve::run(args, socket)),
        Verb::Deny(args) => wait(deny::run(args, socket)),
        Verb::Sessions(args) => sessions::run(&args, &records),
        Verb::Replay(args) => replay::run(&args, &records),
        Verb::Verify(args) => verify::run(&args, &records),
        Verb::Policy(args) => policy::run(&args),
        Verb::Uninstall => agent::uninstall(&config),
    }
}

/// Runs a verb that talks to the agent.
fn wait(verb: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(verb),
        Err(error) => failed(&error),
    }
}

/// Says an error and gives the exit code for it.
fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    anstream::eprintln!("tollgate: {error}");
    ExitCode::from(2)
}
