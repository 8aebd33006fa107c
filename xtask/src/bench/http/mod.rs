//! What HTTP through Tollgate costs, beside what it costs through proxies that only encrypt it anew.
//!
//! All are measured in turn, in every round, so that what else goes on on the host falls on all of them alike. Target, proxy
//! and load share the host's processors: what a proxy uses, the others do not have. The target answers only those that
//! show a token, and only the client of the direct way has it; a run with an answer that is not 200 is no figure.

mod loads;
mod site;
mod table;
mod ways;
mod world;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::scratch::Scratch;

use super::kernel::built;
use crate::{build, setup};

use loads::Load;
use site::Site;
use table::{Row, Tables};
use ways::{LoadPlace, Parts, Way};

/// Debian packages, and a file that each brings.
const DEBIAN: &[(&str, &str)] = &[
    ("nginx-light", "/usr/sbin/nginx"),
    ("haproxy", "/usr/sbin/haproxy"),
    ("wrk", "/usr/bin/wrk"),
    ("nghttp2-client", "/usr/bin/h2load"),
    ("openssl", "/usr/bin/openssl"),
];

/// What is measured.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Fewer and shorter rounds: a first impression in a minute or two.
    #[arg(long)]
    quick: bool,
    /// Use a binary that is built already (target/release/tollgate).
    #[arg(long)]
    no_build: bool,
    /// Only ways with this in their names, beside the direct one (nginx, haproxy, mitmproxy, tollgate); may be repeated.
    #[arg(long)]
    way: Vec<String>,
    /// Only loads with this in their titles; may be repeated.
    #[arg(long)]
    load: Vec<String>,
    /// So many rounds.
    #[arg(long)]
    rounds: Option<usize>,
}

struct Size {
    rounds: usize,
    seconds: u32,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        nix::unistd::Uid::effective().is_root(),
        "the benchmark attaches eBPF programs and needs root"
    );
    setup::packages(DEBIAN)?;
    let agent = match (arguments.wants("Tollgate"), arguments.no_build) {
        (false, _) => None,
        (true, true) => Some(built("tollgate")?),
        (true, false) => {
            setup::for_build()?;
            Some(build::agent(true)?)
        }
    };
    let python = if arguments.wants("mitmproxy") {
        // The one that may not install: the others are measured all the same, and it is said.
        ways::mitmproxy()
            .map_err(|error| say(&format!("NOT MEASURED: mitmproxy: {error:#}")))
            .ok()
    } else {
        None
    };
    let size = Size {
        rounds: arguments.rounds.unwrap_or(if arguments.quick { 3 } else { 7 }),
        seconds: if arguments.quick { 1 } else { 3 },
    };
    let tables = measure(agent.as_deref(), python.as_deref(), arguments, &size)?;
    say(&format!(
        "\nLinux {}, {} processors for load, proxy and target together; medians of {} rounds of {} s\n\n{}",
        std::fs::read_to_string("/proc/sys/kernel/osrelease")?.trim(),
        std::thread::available_parallelism()?,
        size.rounds,
        size.seconds,
        tables.print(),
    ));
    Ok(())
}

impl Arguments {
    fn wants(&self, way: &str) -> bool {
        let way = way.to_lowercase();
        self.way.is_empty() || self.way.iter().any(|wanted| way.contains(&wanted.to_lowercase()))
    }

    fn loads(&self) -> Result<Vec<Load>> {
        let wanted = |load: &Load| {
            let title = load.title().to_lowercase();
            self.load.is_empty()
                || self
                    .load
                    .iter()
                    .any(|wanted| title.contains(&wanted.to_lowercase()))
        };
        let loads: Vec<Load> = Load::ALL.into_iter().filter(wanted).collect();
        if loads.is_empty() {
            bail!("no load has {:?} in its title", self.load);
        }
        Ok(loads)
    }
}

fn measure(
    agent: Option<&Path>,
    python: Option<&Path>,
    arguments: &Arguments,
    size: &Size,
) -> Result<Tables> {
    let loads = arguments.loads()?;
    let scratch = Scratch::new("bench")?;
    let own = std::process::id();
    let target = Cgroup::create(&format!("/tollgate-bench-{own}-target"))?;
    let elsewhere = Cgroup::create(&format!("/tollgate-bench-{own}-elsewhere"))?;
    let job = Cgroup::create(&format!("/tollgate-bench-{own}/job"))?;
    let site = Site::start(scratch.path(), &target)?;
    let parts = Parts {
        site: &site,
        dir: scratch.path(),
        job: &job,
        python,
    };
    let mut standing = vec![parts.direct()];
    if arguments.wants("nginx") {
        standing.push(parts.nginx()?);
    }
    if arguments.wants("HAProxy") {
        standing.push(parts.haproxy()?);
    }
    if arguments.wants("mitmproxy") {
        standing.extend(parts.mitmproxy()?);
    }
    let mut tables = Tables::default();
    for round in 1..=size.rounds {
        say(&format!("round {round} of {}", size.rounds));
        let run = |tables: &mut Tables, way: &Way| -> Result<()> {
            let cgroup = match way.load {
                LoadPlace::Elsewhere => &elsewhere,
                LoadPlace::Job => &job,
            };
            for load in &loads {
                let row = one(way, *load, cgroup, size.seconds, scratch.path())?;
                tables.add(load.title(), way.name, row);
            }
            Ok(())
        };
        for way in &standing {
            run(&mut tables, way)?;
        }
        if let Some(agent) = agent {
            // A new one for each round: what the last one recorded goes with it.
            run(&mut tables, &parts.tollgate(agent)?)?;
        }
    }
    Ok(tables)
}

fn one(way: &Way, load: Load, cgroup: &Cgroup, seconds: u32, dir: &Path) -> Result<Row> {
    let used = || way.proxy.as_ref().map(world::processor_seconds).transpose();
    let before = used()?;
    let measured = load
        .run(cgroup, way.port(load), seconds, way.token, dir)
        .with_context(|| format!("{}: {}", way.name, load.title()))?;
    let after = used()?;
    Ok(Row {
        rate: measured.rate,
        p50: measured.p50,
        p99: measured.p99,
        microseconds: before
            .zip(after)
            .map(|(before, after)| (after - before) * 1e6 / measured.answers),
        megabytes: way.proxy.as_ref().map(world::megabytes).transpose()?,
    })
}

fn say(line: &str) {
    // Whoever has stopped reading does not want to know.
    writeln!(std::io::stdout(), "{line}").ok();
}
