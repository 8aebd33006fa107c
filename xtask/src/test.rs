//! All tests, in the order in which a failure is found soonest.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tollgate_tests::agent::workspace;

use crate::{build, layers, setup};

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Run one part alone.
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Run only the tests, or of the ways round those, whose name contains this.
    filter: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Formatting, lints and the direction of imports.
    Style,
    /// Tests of the crates: no network beyond loopback; the privileged ones need root.
    Unit,
    /// The agent with real servers and clients. Needs root.
    E2e,
    /// Ways round Tollgate, all of them, against the whole agent. Needs root.
    Bypass,
}

/// Runs them.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::everything()?;
    let object = build::ebpf()?;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    if wanted(Part::Style) && arguments.filter.is_none() {
        step("formatting", cargo(["fmt", "--all", "--check"]))?;
        let started = Instant::now();
        layers::check()?;
        done("layers", started);
        step(
            "lints",
            cargo([
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "--deny",
                "warnings",
            ])
            .env("TOLLGATE_EBPF", &object),
        )?;
        match build::ebpf_lints() {
            Some(lints) => step("lints of the kernel programs", lints)?,
            None => skipped("lints of the kernel programs", "the toolchain has no rust-src"),
        }
    }
    if wanted(Part::Unit) {
        let mut tests = cargo([
            "test",
            "--locked",
            "--package",
            "tollgate",
            "--package",
            "agent-common",
            "--package",
            "xtask",
        ]);
        step(
            "unit and kernel tests",
            tests
                .env("TOLLGATE_EBPF", &object)
                .env("TOLLGATE_TEST_PYTHON", tollgate_tests::driver::python())
                .arg("--")
                .args(&arguments.filter),
        )?;
    }
    if wanted(Part::E2e) {
        let binary = build::agent(false)?;
        // One at a time: each has a server, an agent and programs at the root of the cgroup tree.
        let mut tests = cargo([
            "test",
            "--locked",
            "--package",
            "tollgate-tests",
            "--no-fail-fast",
        ]);
        step(
            "end-to-end tests",
            tests
                .env("TOLLGATE_BIN", binary)
                .args(["--", "--test-threads=1"])
                .args(&arguments.filter),
        )?;
    }
    if wanted(Part::Bypass) {
        let binary = build::agent(false)?;
        // Its table is what it is run for, also when it passes.
        let mut tests = cargo([
            "test",
            "--locked",
            "--package",
            "tollgate-tests",
            "--test",
            "bypass",
        ]);
        step(
            "ways round",
            tests
                .env("TOLLGATE_BIN", binary)
                .env(
                    "TOLLGATE_BYPASS_ONLY",
                    arguments.filter.as_deref().unwrap_or_default(),
                )
                .args(["--", "--nocapture", "--test-threads=1"]),
        )?;
    }
    Ok(())
}

fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(workspace());
    command
}

fn step(name: &str, mut command: impl std::borrow::BorrowMut<Command>) -> Result<()> {
    let started = Instant::now();
    let command = command.borrow_mut();
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    if !status.success() {
        bail!("{name}: failed");
    }
    done(name, started);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a task tells its result")]
fn done(name: &str, started: Instant) {
    println!("{name}: passed in {:.1} s", started.elapsed().as_secs_f32());
}

#[expect(clippy::print_stdout, reason = "a task tells its result")]
fn skipped(name: &str, why: &str) {
    println!("{name}: SKIPPED, NOT PASSED: {why}");
}
