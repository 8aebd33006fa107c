//! Tasks of the project: `cargo xtask --help`.

mod build;
mod demo;
mod layers;
mod setup;
mod test;
mod threat_model;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Builds, checks, tests and shows Tollgate. Every task does its own set-up.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Watch a job without secrets go through Tollgate to a real PostgreSQL: intercepted, identified, logged in, masked,
    /// held, approved, recorded, shipped, replayed and verified. Needs root.
    Demo,
    /// Run every test: unit, kernel, end to end, ways round. Privileged ones need root and fail in CI without it.
    Test(test::Arguments),
    /// Install what is missing for building and testing, naming each thing.
    Setup,
    /// Build the eBPF object alone (target/bpf/tollgate-ebpf).
    BuildEbpf,
    /// Build the eBPF object and the agent with it inside (target/debug/tollgate, or target/release/tollgate).
    Build {
        /// Optimised.
        #[arg(long)]
        release: bool,
    },
    /// Check that the imports between the agent's stages point one way.
    CheckLayers,
    /// Write the table of the bypass suite into docs/threat-model.md.
    ThreatModel,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Demo => demo::run(),
        Task::Test(arguments) => test::run(&arguments),
        Task::Setup => setup::everything(),
        Task::BuildEbpf => {
            setup::for_build()?;
            build::ebpf().map(drop)
        }
        Task::Build { release } => {
            setup::for_build()?;
            build::agent(release).map(drop)
        }
        Task::CheckLayers => layers::check(),
        Task::ThreatModel => threat_model::write(),
    }
}
