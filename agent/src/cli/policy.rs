//! `tollgate policy`: what policy files say, before they are used.
//!
//! Needs no agent, no root and no network. Exit code: 0 the files can be used (warnings or not), 1 at least one
//! cannot, 2 the command line is wrong or the answer cannot be written.

use std::collections::HashSet;
use std::fs::Metadata;
use std::io::{self, IsTerminal as _, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::config::{PolicyDoc, Problem, Problems, Severity, load_policy_files, locate, policy_files};
use crate::policy::lint;

const WIDTH: usize = 100;

/// See what policy files say, before they count
#[derive(Debug, clap::Args)]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: PolicyCommand,
}

/// Verbs of `tollgate policy`.
#[derive(Debug, clap::Subcommand)]
enum PolicyCommand {
    Check(CheckArgs),
}

/// Check policy files: errors, and warnings for what will surprise
///
/// Every error is told at once, with its line, what was expected and what is nearest. Warnings are for what is allowed and
/// probably not meant: a rule that no command can meet, a file that others may change, a secret that others may read.
/// Files that the agent will load together are to be checked together: two policies must not match the same cgroup.
///
/// Needs no agent, no root and no network. docs/policy-reference.md says what a policy can hold.
///
/// Exit codes: 0 every file can be used (warnings or not), 1 at least one cannot.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tollgate policy check policies/ci-report.toml
  tollgate policy check /etc/tollgate/policies.d && tollgate reload")]
pub struct CheckArgs {
    /// Policy files, or directories of *.toml files; all are checked against one another
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Print the problems as one JSON document
    #[arg(long)]
    json: bool,
}

/// A problem, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Told<'a> {
    file: String,
    line: Option<usize>,
    column: Option<usize>,
    severity: &'static str,
    message: &'a str,
    help: Option<&'a str>,
}

/// What the check of some files gave.
#[derive(Debug, Default)]
struct Checked {
    files: usize,
    errors: usize,
    warnings: usize,
    found: Vec<Problems>,
}

/// Runs `tollgate policy`.
pub fn run(args: &PolicyArgs) -> ExitCode {
    let PolicyCommand::Check(check) = &args.command;
    let stdout = io::stdout();
    let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    let checked = check.check();
    match check.print(&checked, &mut stdout.lock(), color) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            super::failed(&format_args!("cannot write: {error}"))
        }
        // Where whoever reads has gone away, what was found still decides.
        Ok(()) | Err(_) if checked.errors == 0 => ExitCode::SUCCESS,
        Ok(()) | Err(_) => ExitCode::FAILURE,
    }
}

impl CheckArgs {
    fn print(&self, checked: &Checked, out: &mut impl Write, color: bool) -> io::Result<()> {
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &checked.lines())?;
            writeln!(out)?;
        } else {
            for problems in &checked.found {
                write!(out, "{}", problems.draw(WIDTH, color))?;
            }
            writeln!(out, "{}", checked.summary())?;
        }
        out.flush()
    }

    fn check(&self) -> Checked {
        let mut files = Vec::new();
        let mut checked = Checked::default();
        for path in &self.paths {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            match policy_files(path) {
                Ok(found) if found.is_empty() => {
                    checked.add(whole(
                        path,
                        Severity::Error,
                        "no policy file is in the directory",
                        "policy files end in .toml",
                    ));
                }
                Ok(found) => files.extend(found),
                Err(error) => checked.add(whole(
                    path,
                    Severity::Error,
                    &format!("the directory cannot be read: {error}"),
                    "check that it exists and who may read it",
                )),
            }
        }
        let mut seen = HashSet::new();
        files.retain(|file| seen.insert(file.canonicalize().unwrap_or_else(|_| file.clone())));
        checked.files = files.len();
        for loaded in load_policy_files(&files) {
            match loaded {
                Ok(policy) => checked.add(warnings(&policy)),
                Err(errors) => checked.add(errors.problems().clone()),
            }
        }
        checked
    }
}

impl Checked {
    fn add(&mut self, problems: Problems) {
        for problem in problems.list() {
            match problem.severity {
                Severity::Error => self.errors += 1,
                Severity::Warning => self.warnings += 1,
            }
        }
        if !problems.list().is_empty() {
            self.found.push(problems);
        }
    }

    fn lines(&self) -> Vec<Told<'_>> {
        self.found
            .iter()
            .flat_map(|problems| problems.list().iter().map(move |problem| (problems, problem)))
            .map(|(problems, problem)| {
                let position = problems.position(problem);
                Told {
                    file: problems.path().display().to_string(),
                    line: position.map(|position| position.line),
                    column: position.map(|position| position.column),
                    severity: match problem.severity {
                        Severity::Error => "error",
                        Severity::Warning => "warning",
                    },
                    message: &problem.message,
                    help: problem.help.as_deref(),
                }
            })
            .collect()
    }

    fn summary(&self) -> String {
        let counted = |count: usize, word: &str| match count {
            1 => format!("1 {word}"),
            _ => format!("{count} {word}s"),
        };
        format!(
            "{} checked: {}, {}",
            counted(self.files, "policy file"),
            counted(self.errors, "error"),
            counted(self.warnings, "warning")
        )
    }
}

/// What of a policy that can be used will surprise, on this host.
fn warnings(policy: &PolicyDoc) -> Problems {
    let text = std::fs::read_to_string(&policy.path).unwrap_or_default();
    let mut list: Vec<Problem> = lint(policy)
        .into_iter()
        .map(|finding| Problem {
            severity: Severity::Warning,
            at: Some(nearest(&text, &finding.pointer)),
            message: finding.message,
            help: Some(finding.help),
            also: None,
        })
        .collect();
    if let Ok(metadata) = std::fs::metadata(&policy.path)
        && mode(&metadata) & 0o022 != 0
    {
        list.push(Problem {
            severity: Severity::Warning,
            at: None,
            message: "others than the file's owner may change the policy".into(),
            help: Some("chmod go-w the file".into()),
            also: None,
        });
    }
    list.extend(exposed_secrets(policy, &text));
    Problems::new(&policy.path, &text, list)
}

/// Secret files of the policy that exist on this host and that others than their owner may read.
fn exposed_secrets(policy: &PolicyDoc, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (i, service) in policy.services.iter().enumerate() {
        let Some(credential) = &service.credential else {
            continue;
        };
        for (key, spec) in credential.kind.sources() {
            let Some(path) = spec.secret_file() else { continue };
            let Ok(metadata) = std::fs::metadata(path) else {
                continue;
            };
            if mode(&metadata) & 0o077 != 0 {
                problems.push(Problem {
                    severity: Severity::Warning,
                    at: Some(nearest(text, &format!("/service/{i}/credential/{key}"))),
                    message: format!(
                        "{} is open to others than its owner (mode {:04o})",
                        path.display(),
                        mode(&metadata) & 0o7777
                    ),
                    help: Some("chmod it to 0600, owned by the agent's user".into()),
                    also: None,
                });
            }
        }
    }
    problems
}

/// Where `pointer` stands, or else the nearest of what holds it: a key that was left out has no place.
fn nearest(text: &str, pointer: &str) -> std::ops::Range<usize> {
    let mut pointer = pointer;
    loop {
        if let Some(at) = locate(text, pointer) {
            return at;
        }
        match pointer.rsplit_once('/') {
            Some((parent, _)) => pointer = parent,
            None => return 0..0,
        }
    }
}

fn whole(path: &Path, severity: Severity, message: &str, help: &str) -> Problems {
    let problem = Problem {
        severity,
        at: None,
        message: message.into(),
        help: Some(help.into()),
        also: None,
    };
    Problems::new(path, "", vec![problem])
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode()
}

#[cfg(test)]
mod tests;
