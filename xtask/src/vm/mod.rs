//! The kernel matrix: Debian's kernels under QEMU, with the BPF security module and without.
//!
//! The kernel suites are compiled on the host and run in the machines. Nothing is installed on the host but QEMU and
//! debootstrap; kernels and the root file system are kept below `target/vm`. The machines have no network card.

mod cpio;
mod debian;
mod job;
mod machine;
mod suite;
mod table;

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use tollgate_tests::agent::workspace;

use crate::setup;
use job::Job;
use machine::{Boot, Outcome};
use table::Table;

/// Arguments of `cargo xtask vm`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  cargo xtask vm                                  # the whole matrix\n  \
    cargo xtask vm --kernel 6.12 --lsm on            # one column of it\n  \
    cargo xtask vm --kernel 6.1 --only kernel -- kernel::tests::uninstall\n  \
    cargo xtask vm --kernel 6.1 --run -- uname -a\n  \
    cargo xtask vm --kernel 6.12 --run --systemd --with target/debug/tollgate -- /opt/tollgate/tollgate --version\n\n\
    Exit status: 0 all passed, 1 something failed, 3 machines cannot be had here.\n\
    TOLLGATE_VM_CACHE names another folder than target/vm for kernels and root file systems; remove it for newer ones."
)]
pub(crate) struct Arguments {
    /// One kernel alone.
    #[arg(long, value_enum)]
    kernel: Option<Version>,
    /// With BPF programs as a security module, or without, alone.
    #[arg(long, value_enum)]
    lsm: Option<Lsm>,
    /// One suite alone.
    #[arg(long, value_enum)]
    only: Option<suite::Name>,
    /// Run COMMAND in the machine instead of the suites, as root, and end with its exit status. Built test programs are
    /// not there: bring what it needs with --with.
    #[arg(long, requires = "words")]
    run: bool,
    /// A file of the host for the machine's /opt/tollgate.
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Boot with systemd as the init, also for a command. The suites always have it.
    #[arg(long)]
    systemd: bool,
    /// Seconds after which a machine is ended.
    #[arg(long, default_value_t = 1800)]
    limit: u64,
    /// Machines that run at the same time.
    #[arg(long, default_value_t = 2)]
    at_once: usize,
    /// MiB of memory of a machine.
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// With --run: the command. Without: only tests, or ways round, whose name contains it.
    #[arg(last = true, id = "words", value_name = "COMMAND")]
    words: Vec<String>,
}

impl Arguments {
    /// Whether every way round is tried on every machine.
    fn is_whole(&self) -> bool {
        let narrowed = self.kernel.is_some() || self.lsm.is_some() || !self.words.is_empty();
        !narrowed && self.only != Some(suite::Name::Kernel)
    }
}

/// A kernel series of Debian 12: its own, and the newer one that it offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Version {
    /// The oldest that Tollgate runs on.
    #[value(name = "6.1")]
    V6_1,
    /// The first with a complete security-module tier in Debian.
    #[value(name = "6.12")]
    V6_12,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lsm {
    /// `lsm=…,bpf` on the kernel's command line.
    On,
    /// `lsm=…` without it.
    Off,
}

/// Machines cannot be had here; nothing was tested.
#[derive(Debug)]
pub(crate) struct Unavailable(pub(crate) String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no virtual machine here, NOTHING WAS TESTED: {}", self.0)
    }
}

impl std::error::Error for Unavailable {}

/// Boots what is asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let cache = cache()?;
    let kernels: Vec<Version> = match arguments.kernel {
        Some(version) => vec![version],
        None => vec![Version::V6_1, Version::V6_12],
    };
    let tiers = match arguments.lsm {
        Some(lsm) => vec![lsm],
        None => vec![Lsm::Off, Lsm::On],
    };
    let prepared = prepare(&cache, &kernels)?;
    let job = job(arguments)?;
    let columns: Vec<Column<'_>> = kernels
        .iter()
        .zip(&prepared.kernels)
        .flat_map(|(version, kernel)| {
            tiers.iter().map(move |lsm| Column {
                version: *version,
                kernel,
                lsm: *lsm,
            })
        })
        .collect();
    let each = |column: &Column<'_>| column.run(arguments, &prepared.root, &job, &cache);
    if arguments.run {
        return columns
            .iter()
            .try_for_each(|column| command_status(&each(column)?));
    }
    let started = Instant::now();
    let mut table = Table::default();
    for (column, outcomes) in columns
        .iter()
        .zip(side_by_side(&columns, arguments.at_once, each))
    {
        match outcomes {
            Ok(outcomes) => table.add(&column.to_string(), &outcomes),
            // The other machines still have something to say.
            Err(error) => {
                say(&format!("{column}: {error:#}"));
                table.lost(&column.to_string());
            }
        }
    }
    if arguments.is_whole() {
        say("=== this host: the ways round");
        table.add("this host", &suite::here(&job)?);
    }
    say(&format!("{table}\n{:.0} s", started.elapsed().as_secs_f32()));
    table.verdict()?;
    if arguments.is_whole() {
        table.every_way_was_tried()?;
    }
    Ok(())
}

/// What runs in each machine.
fn job(arguments: &Arguments) -> Result<Job> {
    let mut job = if arguments.run {
        let words: Vec<String> = arguments.words.iter().map(|word| job::quoted(word)).collect();
        Job {
            steps: vec![("command".to_owned(), words.join(" "))],
            ..Job::default()
        }
    } else {
        suite::job(arguments.only, &arguments.words)?
    };
    for file in &arguments.with {
        let name = file.file_name().context("--with wants a file")?;
        job.files
            .push((name.to_string_lossy().into_owned(), file.clone()));
    }
    Ok(job)
}

/// One machine of the matrix.
struct Column<'a> {
    version: Version,
    kernel: &'a debian::Kernel,
    lsm: Lsm,
}

impl fmt::Display for Column<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tier = if self.lsm == Lsm::On { "lsm" } else { "-" };
        write!(f, "{} {tier}", self.version)
    }
}

impl Column<'_> {
    fn run(&self, arguments: &Arguments, root: &Path, job: &Job, cache: &Path) -> Result<Vec<Outcome>> {
        let started = Instant::now();
        say(&format!("=== {self}: Linux {}", self.kernel.release));
        let boot = Boot {
            kernel: self.kernel,
            root,
            lsm: self.lsm == Lsm::On,
            systemd: arguments.systemd || !arguments.run,
            limit: Duration::from_secs(arguments.limit),
            memory: arguments.memory,
        };
        let outcomes = machine::run(&boot, job, cache, &|step, line| {
            if arguments.run {
                say(line);
            } else if step != suite::VECTORS_STEP {
                // Those lines are for the table, not for people.
                say(&format!("{self}: {line}"));
            }
        });
        say(&format!("=== {self}: {:.0} s", started.elapsed().as_secs_f32()));
        outcomes
    }
}

/// What `run` gives for each of `all`, in their order, with so many of them at once. A suite waits much of its time, for what
/// is refused in silence, so that the processors have room for another.
fn side_by_side<T: Sync, R: Send>(all: &[T], at_once: usize, run: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(one) = all.get(number) else {
                return done;
            };
            done.push((number, run(one)));
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.max(1)).map(|_| scope.spawn(work)).collect();
        workers
            .into_iter()
            .flat_map(|worker| {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    });
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn command_status(outcomes: &[Outcome]) -> Result<()> {
    match outcomes.first() {
        Some(outcome) if outcome.status == 0 => Ok(()),
        Some(outcome) => bail!("the command ended with status {}", outcome.status),
        None => bail!("the command did not run"),
    }
}

/// What machines are made of.
struct Prepared {
    kernels: Vec<debian::Kernel>,
    root: PathBuf,
}

fn prepare(cache: &Path, versions: &[Version]) -> Result<Prepared> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err(Unavailable("making a root file system needs root".to_owned()).into());
    }
    if std::env::consts::ARCH != "x86_64" {
        return Err(Unavailable(format!("there are no kernels for {}", std::env::consts::ARCH)).into());
    }
    // Two runs at the same time share what the first one fetches.
    let lock = File::create(cache.join("lock"))?;
    let _lock = Flock::lock(lock, FlockArg::LockExclusive)
        .map_err(|(_, errno)| errno)
        .context("lock the cache")?;
    let made = || -> Result<Prepared> {
        setup::packages(&[("qemu-system-x86", "/usr/bin/qemu-system-x86_64")])?;
        Ok(Prepared {
            kernels: versions
                .iter()
                .map(|version| debian::kernel(cache, *version))
                .collect::<Result<_>>()?,
            root: debian::root(cache)?,
        })
    };
    made().map_err(|error| match error.downcast::<Unavailable>() {
        Ok(reason) => reason.into(),
        Err(error) => Unavailable(format!("{error:#}")).into(),
    })
}

fn cache() -> Result<PathBuf> {
    let cache =
        std::env::var_os("TOLLGATE_VM_CACHE").map_or_else(|| workspace().join("target/vm"), PathBuf::from);
    fs::create_dir_all(&cache)?;
    cache.canonicalize().context("find the cache")
}

#[expect(clippy::print_stdout, reason = "a task tells what it does")]
fn say(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn machines_run_two_at_a_time_and_are_told_in_order() {
        // Both have to be there at once, or neither goes on.
        let meeting = Barrier::new(2);
        let run = |number: &usize| {
            meeting.wait();
            number * 10
        };
        assert_eq!(side_by_side(&[1, 2, 3, 4], 2, run), [10, 20, 30, 40]);
        assert_eq!(side_by_side(&[7], 0, |number| *number), [7]);
    }
}
