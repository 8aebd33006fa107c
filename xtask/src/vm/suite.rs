//! The suites that run in the machines: compiled here, without the means to compile there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tollgate_tests::agent::workspace;

use super::job::{HOME, Job, quoted};
use super::machine::Outcome;
use crate::{build, setup};

/// Where the bypass suite leaves a JSON line for each attack as each user.
const VECTORS: &str = "/tmp/vectors.jsonl";

/// Much computing that no kernel has a part in, and that an emulated processor takes minutes for.
const SKIPPED: &str = "--skip kernel::automaton::";

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Name {
    /// Unit tests of the kernel and flow stages.
    Kernel,
    /// Attempts to get around the agent.
    Bypass,
}

/// Name of the step that runs the bypass suite.
const BYPASS_STEP: &str = "bypass";

/// Name of the step that prints what the bypass suite left.
pub(super) const VECTORS_STEP: &str = "vectors";

/// Compiles what is asked for and says how it runs there. `filters`: of tests by name.
pub(super) fn job(only: Option<Name>, filters: &[String]) -> Result<Job> {
    setup::for_build()?;
    let object = build::ebpf()?;
    let mut job = Job {
        // A privileged test that cannot run has failed.
        environment: vec![("CI".to_owned(), "1".to_owned())],
        ..Job::default()
    };
    let wanted = |name| only.is_none_or(|only| only == name);
    if wanted(Name::Kernel) {
        let tests = test_program(&["--package", "tollgate", "--lib"], &object)?;
        let filters = if filters.is_empty() {
            "kernel:: flow::".to_owned()
        } else {
            words(filters)
        };
        job.files.push(("unit-tests".to_owned(), tests));
        job.steps.push((
            "kernel".to_owned(),
            format!("exec {HOME}/unit-tests --test-threads=2 {filters} {SKIPPED}"),
        ));
    }
    if wanted(Name::Bypass) {
        bypass(&mut job, filters, &object)?;
    }
    Ok(job)
}

fn bypass(job: &mut Job, filters: &[String], object: &Path) -> Result<()> {
    let program = test_program(&["--package", "tollgate-tests", "--test", "bypass"], object)?;
    job.files.push(("bypass".to_owned(), program));
    job.files
        .push(("tollgate".to_owned(), stripped(&build::agent(false)?)?));
    job.trees
        .push(("attacks".to_owned(), workspace().join("tests/bypass")));
    for (name, value) in [
        ("TOLLGATE_BIN", format!("{HOME}/tollgate")),
        ("TOLLGATE_BYPASS_DIR", format!("{HOME}/attacks")),
        ("TOLLGATE_BYPASS_JSON", VECTORS.to_owned()),
        (
            "TOLLGATE_BYPASS_ONLY",
            filters.first().cloned().unwrap_or_default(),
        ),
    ] {
        job.environment.push((name.to_owned(), value));
    }
    // Not one at a time: a test's own words would then stand between its name and its result.
    job.steps.push((
        BYPASS_STEP.to_owned(),
        // Each attack is a process of its own, which would compile its modules anew.
        format!("python3 -m compileall -q {HOME}/attacks; exec {HOME}/bypass --nocapture --test-threads=2"),
    ));
    job.steps.push((
        VECTORS_STEP.to_owned(),
        format!("if [ -e {VECTORS} ]; then cat {VECTORS}; fi"),
    ));
    Ok(())
}

/// The ways round on this host besides: it has what no machine has, an engine of containers for one.
pub(super) fn here(job: &Job) -> Result<Vec<Outcome>> {
    setup::everything()?;
    let file = |name: &str| {
        let found = job.files.iter().find(|(known, _)| known == name);
        found
            .map(|(_, path)| path)
            .with_context(|| format!("the job has no {name}"))
    };
    let vectors = tempfile::NamedTempFile::new()?;
    let output = Command::new(file("bypass")?)
        .args(["--nocapture", "--test-threads=2"])
        .env("TOLLGATE_BIN", file("tollgate")?)
        .env("TOLLGATE_BYPASS_JSON", vectors.path())
        .stdin(Stdio::null())
        .output()
        .context("start the bypass suite")?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let outcome = |step: &str, said: String| Outcome {
        step: step.to_owned(),
        output: said,
        // Ended by a signal it has no code, and has failed as well.
        status: output.status.code().unwrap_or(1),
    };
    let vectors = std::fs::read_to_string(vectors.path())?;
    Ok(vec![
        outcome(BYPASS_STEP, said.concat()),
        outcome(VECTORS_STEP, vectors),
    ])
}

fn words(words: &[String]) -> String {
    words
        .iter()
        .map(|word| quoted(word))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Compiles one test program, and gives a copy of it without what only a debugger reads.
fn test_program(which: &[&str], object: &Path) -> Result<PathBuf> {
    let output = Command::new("cargo")
        .args(["test", "--locked", "--no-run", "--message-format=json"])
        .args(which)
        .env("TOLLGATE_EBPF", object)
        .current_dir(workspace())
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("start cargo")?;
    ensure!(output.status.success(), "the tests do not build");
    let program = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message.pointer("/profile/test") == Some(&true.into()))
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .next_back();
    match program {
        Some(program) => stripped(&program),
        None => bail!("cargo named no test program for {which:?}"),
    }
}

fn stripped(program: &Path) -> Result<PathBuf> {
    let name = program.file_name().context("a program has a name")?;
    let to = workspace().join("target/vm/programs");
    std::fs::create_dir_all(&to)?;
    let to = to.join(name);
    setup::run(
        Command::new("strip")
            .args(["--strip-debug", "-o"])
            .arg(&to)
            .arg(program),
    )?;
    Ok(to)
}
