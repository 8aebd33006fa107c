//! Tasks of the project: `cargo xtask --help`.

mod bench;
mod build;
mod conformance;
mod demo;
mod layers;
mod setup;
mod test;
mod threat_model;
mod vm;

use std::process::ExitCode;

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
    /// Run the kernel and bypass suites under Debian's kernels in virtual machines (QEMU, emulated), with and without the BPF security
    /// module, and print one table. Needs root; the first run fetches kernels and a root file system (some minutes).
    Vm(vm::Arguments),
    /// Try a source of credentials on each version of the servers that it is for, and print one table.
    #[command(subcommand)]
    Conformance(conformance::Conformance),
    /// Measure what Tollgate costs on this host.
    #[command(subcommand)]
    Bench(bench::Benchmark),
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

fn main() -> ExitCode {
    let Err(error) = run(&Arguments::parse().task) else {
        return ExitCode::SUCCESS;
    };
    report(&error);
    // For scripts, which have to tell a failure from a host where machines cannot be had.
    if error.is::<vm::Unavailable>() {
        ExitCode::from(3)
    } else {
        ExitCode::FAILURE
    }
}

#[expect(clippy::print_stderr, reason = "a task tells why it failed")]
fn report(error: &anyhow::Error) {
    eprintln!("Error: {error}");
    for cause in error.chain().skip(1) {
        eprintln!("because: {cause}");
    }
}

fn run(task: &Task) -> Result<()> {
    match task {
        Task::Demo => demo::run(),
        Task::Test(arguments) => test::run(arguments),
        Task::Vm(arguments) => vm::run(arguments),
        Task::Conformance(which) => conformance::run(which),
        Task::Bench(benchmark) => bench::run(benchmark),
        Task::Setup => setup::everything(),
        Task::BuildEbpf => {
            setup::for_build()?;
            build::ebpf().map(drop)
        }
        Task::Build { release } => {
            setup::for_build()?;
            build::agent(*release).map(drop)
        }
        Task::CheckLayers => layers::check(),
        Task::ThreatModel => threat_model::write(),
    }
}
