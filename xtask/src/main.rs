//! Tasks of the project: `cargo xtask <task>`.

mod ebpf;

use clap::{Parser, Subcommand};

/// Tasks of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Builds the kernel programs into target/bpf/tollgate-ebpf, from where the agent embeds them.
    BuildEbpf,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf => ebpf::build().map(drop),
    }
}
