//! What Tollgate costs, measured on this host.

mod figures;
mod http;
mod kernel;
mod leases;
mod programs;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Benchmark {
    /// What the kernel side costs: connect latency bare, beside a running agent, managed and redirected; sockets, datagrams
    /// and bytes a second. Needs root, and is best run when nothing else does.
    Kernel {
        /// Fewer and shorter rounds: a first impression in half a minute.
        #[arg(long)]
        quick: bool,
        /// Use binaries that are built already (a release build of the agent takes minutes).
        #[arg(long)]
        no_build: bool,
    },
    /// What HTTP through Tollgate costs (TLS on both sides; rules, an injected credential, records), beside nginx, haproxy and
    /// mitmproxy in the same run: small answers, bulk, new connections, over HTTP/1.1 and HTTP/2. Needs root, and is best run
    /// when nothing else does.
    Http(http::Arguments),
    /// What a role of its own costs a session (`source = "postgres-role"`), and how much of that is the journal. Needs root.
    Leases {
        /// Use a binary that is built already (target/release/tollgate).
        #[arg(long)]
        no_build: bool,
    },
}

pub(crate) fn run(benchmark: &Benchmark) -> Result<()> {
    match benchmark {
        Benchmark::Kernel { quick, no_build } => kernel::run(*quick, *no_build),
        Benchmark::Http(arguments) => http::run(arguments),
        Benchmark::Leases { no_build } => leases::run(*no_build),
    }
}
