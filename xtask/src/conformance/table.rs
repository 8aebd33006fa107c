//! What came of tests on several servers, in one table.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tollgate_tests::agent::workspace;

/// What the table says, and the tests that say so. Each has to be there: one with another name would be missed by nobody.
pub(super) type Columns = &'static [(&'static str, &'static [&'static str])];

/// What came of tests on one server.
#[derive(Debug, Default)]
pub(super) struct Tests {
    results: BTreeMap<String, bool>,
    /// What those said that failed.
    failures: String,
}

/// One line for each server.
pub(super) struct Table {
    columns: Columns,
    lines: Vec<(String, Tests)>,
}

/// `cargo test` with these arguments.
pub(super) fn cargo_test(suite: &[&str], object: &Path, agent: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo
        .args(["test", "--locked"])
        .args(suite)
        .current_dir(workspace())
        .env("TOLLGATE_EBPF", object)
        .env("TOLLGATE_BIN", agent)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    cargo
}

impl Tests {
    /// Runs some, and keeps what came of each.
    pub(super) fn run(&mut self, cargo: &mut Command) -> Result<()> {
        let output = cargo.output().context("start cargo")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let before = self.results.len();
        self.results.extend(outcomes(&said));
        ensure!(self.results.len() > before, "no test was run:\n{said}");
        if !output.status.success() {
            self.failures.push_str(&said);
        }
        Ok(())
    }
}

impl Table {
    pub(super) fn new(columns: Columns) -> Self {
        Self {
            columns,
            lines: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, server: String, tests: Tests) {
        self.lines.push((server, tests));
    }

    /// Prints it. An error: not everything passed.
    pub(super) fn told(self) -> Result<()> {
        self.print();
        let complete = |tests: &Tests| tests.failures.is_empty() && complete(self.columns, &tests.results);
        if self.lines.iter().all(|(_, tests)| complete(tests)) {
            return Ok(());
        }
        let failures = self.lines.iter().filter(|(_, tests)| !complete(tests));
        let failures: Vec<String> = failures
            .map(|(server, tests)| format!("{server}:\n{}", tests.failures))
            .collect();
        bail!("not every version passed\n{}", failures.join("\n"))
    }

    #[expect(clippy::print_stdout, reason = "a task tells its result")]
    fn print(&self) {
        let line = |first: &str, cells: Vec<&str>| {
            let mut line = format!("{first:<30}");
            for cell in cells {
                line.push_str(cell);
                line.push_str(&" ".repeat(10_usize.saturating_sub(cell.len())));
            }
            println!("{}", line.trim_end());
        };
        line("", self.columns.iter().map(|(name, _)| *name).collect());
        for (server, tests) in &self.lines {
            let verdicts = self.columns.iter().map(|(_, of)| verdict(&tests.results, of));
            line(server, verdicts.collect());
        }
    }
}

/// What each test came to, by its name.
fn outcomes(said: &str) -> impl Iterator<Item = (String, bool)> + '_ {
    said.lines().filter_map(|line| {
        let (name, outcome) = line.strip_prefix("test ")?.split_once(" ... ")?;
        Some((name.to_owned(), outcome == "ok"))
    })
}

/// Whether every test of the table was run and passed, and every other one passed too.
fn complete(columns: Columns, results: &BTreeMap<String, bool>) -> bool {
    results.values().all(|passed| *passed)
        && columns
            .iter()
            .all(|(_, tests)| verdict(results, tests) == "passed")
}

fn verdict(results: &BTreeMap<String, bool>, tests: &[&str]) -> &'static str {
    let found: Option<Vec<bool>> = tests.iter().map(|test| results.get(*test).copied()).collect();
    match found {
        None => "not run",
        Some(found) if found.iter().all(|passed| *passed) => "passed",
        Some(_) => "FAILED",
    }
}

#[cfg(test)]
mod tests {
    use super::{complete, outcomes, verdict};

    #[test]
    fn a_test_that_is_not_there_is_no_test_that_passed() {
        let said = "running 2 tests\ntest a::b ... ok\ntest c ... FAILED\n\nfailures:\n";
        let results = outcomes(said).collect();
        assert_eq!(verdict(&results, &["a::b"]), "passed");
        assert_eq!(verdict(&results, &["a::b", "c"]), "FAILED");
        assert_eq!(verdict(&results, &["a::b", "d"]), "not run");
        assert!(!complete(&[("x", &["a::b"])], &results));
        assert!(complete(&[("x", &["e"])], &[("e".to_owned(), true)].into()));
        assert!(!complete(&[("x", &["e", "f"])], &[("e".to_owned(), true)].into()));
    }
}
