//! The verbs of the command line, one file each.

mod agent;
pub mod approvals;
pub mod approve;
mod ask;
mod ca;
pub mod deny;
mod doctor;
pub mod egress;
pub mod export;
pub mod findings;
pub mod identity;
pub mod leases;
mod oci_hook;
pub mod policy;
pub mod reload;
pub mod replay;
mod run;
pub mod sessions;
pub mod status;
mod text;
pub mod upgrade;
pub mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{AgentConfig, PolicyErrors};

/// Judge, mask and record what automation does on databases, without a secret in it
///
/// `tollgate agent` runs on the host, as tollgate.service. The kernel hands it the connections of those processes that a
/// policy names; it logs in for them, judges each command, masks results, and records the session. What a workload may do
/// stands in one file for each in /etc/tollgate/policies.d: write one, check it with `tollgate policy check`, and see what
/// happened with `tollgate sessions` and `tollgate replay`.
///
/// status, egress, findings, identity, leases, approvals, approve, deny, reload and upgrade ask the running agent. sessions, replay, export and
/// verify read its records, and policy check reads files: they need no agent, and work on another host too. doctor examines
/// the host itself.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version, max_term_width = 110, after_long_help = EXIT_CODES)]
struct Arguments {
    /// The agent's own file [default: /etc/tollgate/tollgate.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE", display_order = 900)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    // What a verb does stands at its arguments.
    Agent(agent::Args),
    Status(status::Args),
    Doctor(doctor::Args),
    Approvals(approvals::Args),
    Approve(approve::Args),
    Deny(deny::Args),
    Egress(egress::Args),
    Findings(findings::Args),
    Identity(identity::Args),
    Leases(leases::Args),
    Sessions(sessions::SessionsArgs),
    Replay(replay::ReplayArgs),
    Export(export::ExportArgs),
    Verify(verify::VerifyArgs),
    Ca(ca::Args),
    Run(run::Args),
    Policy(policy::PolicyArgs),
    Reload(reload::Args),
    Upgrade(upgrade::Args),
    OciHook(oci_hook::Args),
    Uninstall(agent::UninstallArgs),
    #[command(name = run::INSIDE, hide = true)]
    RunInside(run::InsideArgs),
    #[command(name = doctor::VERB, hide = true)]
    DoctorWorkload(doctor::WorkloadArgs),
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the answer is no: a policy that cannot be used, a record that is not good, a decision refused, a host that is not well
  2  a wrong command line, or an error
  3  no agent is running";

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(arguments).unwrap_or_else(|errors| failed(&errors))
}

fn run(arguments: Arguments) -> Result<ExitCode, PolicyErrors> {
    // Read by the verbs that need it: policies can be checked on a host whose own file is broken.
    let config = || AgentConfig::load(arguments.config.as_deref());
    Ok(match arguments.verb {
        Verb::Agent(args) => agent::run(&args, config()?),
        Verb::Status(args) => wait(status::run(args, &config()?.control_socket)),
        Verb::Doctor(args) => wait(doctor::run(args, config()?)),
        Verb::DoctorWorkload(doctor::WorkloadArgs {}) => doctor::serve(),
        Verb::Approvals(args) => wait(approvals::run(args, &config()?.control_socket)),
        Verb::Approve(args) => wait(approve::run(args, &config()?.control_socket)),
        Verb::Deny(args) => wait(deny::run(args, &config()?.control_socket)),
        Verb::Egress(args) => wait(egress::run(args, &config()?.control_socket)),
        Verb::Findings(args) => wait(findings::run(args, &config()?.control_socket)),
        Verb::Identity(args) => {
            let config = match config() {
                // The agent's own file may be closed to jobs, or not be in their root.
                Err(_) if args.is_of_a_job() && arguments.config.is_none() => AgentConfig::default(),
                config => config?,
            };
            let sockets = identity::Sockets {
                control: &config.control_socket,
                jobs: &config.job_socket,
            };
            wait(identity::run(args, sockets))
        }
        Verb::Leases(args) => wait(leases::run(args, &config()?.control_socket)),
        Verb::Sessions(args) => sessions::run(&args, &config()?.records_dir()),
        Verb::Replay(args) => replay::run(&args, &config()?.records_dir()),
        Verb::Export(args) => export::run(&args, &config()?.records_dir()),
        Verb::Verify(args) => verify::run(&args, &config()?.records_dir()),
        Verb::Ca(args) => ca::run(args, &config()?),
        Verb::Run(args) => wait(run::run(args, config()?)),
        Verb::RunInside(args) => run::inside(&args),
        Verb::Policy(args) => policy::run(&args),
        Verb::Reload(args) => wait(reload::run(args, &config()?.control_socket)),
        Verb::Upgrade(args) => wait(upgrade::run(args, &config()?.control_socket)),
        Verb::OciHook(args) => wait(oci_hook::run(args, config())),
        Verb::Uninstall(agent::UninstallArgs {}) => agent::uninstall(&config()?),
    })
}

/// Runs a verb that waits for something.
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

/// What to do when records cannot be read, behind the error that says so.
fn records_hint(records: &std::path::Path) -> String {
    match std::fs::read_dir(records) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "; an agent makes it at its first start, and --config or --records names another".to_owned()
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => "; become root".to_owned(),
        _ => String::new(),
    }
}
