//! The verbs of the command line, one file each.

mod agent;
pub mod policy;
pub mod sessions;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Remove from the kernel what an agent left: managed cgroups are open afterwards
    Uninstall,
    /// Check policy files before they count
    Policy(policy::PolicyArgs),
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match AgentConfig::load(arguments.config.as_deref()) {
        Ok(config) => config,
        Err(errors) => return failed(&errors),
    };
    match arguments.verb {
        Verb::Agent => agent::run(config),
        Verb::Uninstall => agent::uninstall(&config),
        Verb::Policy(args) => policy::run(&args),
    }
}

/// Says an error and gives the exit code for it.
fn failed(error: &dyn std::fmt::Display) -> ExitCode {
    anstream::eprintln!("tollgate: {error}");
    ExitCode::from(2)
}
