//! What the processes of a CI job say of it in their environment.
//!
//! It is the job's own claim: a runner gives it to the first process of a step, and whatever runs there can start others with any
//! environment, overwrite its own, and leave its parents by ending them. So it is good for the record, and to hold back jobs that
//! are meant for somebody else by mistake; who it is a token proves, or the engine of its container.

use std::collections::BTreeMap;
use std::io;

use zeroize::Zeroizing;

use super::FlowFacts;
use super::process::{LONGEST_ENVIRONMENT, ProcessHandle};
use super::source::{MOST_ANCESTORS, parent_of};

/// Variables of which one says that a runner started the process: GitLab's, GitHub's.
const MARKS: [&str; 2] = ["GITLAB_CI", "GITHUB_ACTIONS"];

/// What runners say of a job, as far as it tells whose it is. None of them is a secret. They stand in the references of both:
/// "Predefined CI/CD variables" of GitLab, "Variables reference" of GitHub Actions.
const OF_RUNNERS: [&str; 19] = [
    "CI_PROJECT_PATH",
    "CI_PROJECT_ID",
    "CI_PIPELINE_ID",
    "CI_JOB_ID",
    "CI_JOB_NAME",
    "CI_COMMIT_REF_NAME",
    "CI_COMMIT_SHA",
    "CI_RUNNER_ID",
    "CI_SERVER_HOST",
    "GITHUB_REPOSITORY",
    "GITHUB_REPOSITORY_ID",
    "GITHUB_WORKFLOW",
    "GITHUB_JOB",
    "GITHUB_RUN_ID",
    "GITHUB_RUN_ATTEMPT",
    "GITHUB_REF",
    "GITHUB_SHA",
    "GITHUB_ACTOR",
    "RUNNER_NAME",
];

/// What is said of a flow's job: variables of runners, and those that the policy asks for, each as the outermost ancestor of
/// the process in its cgroup has it. Blocks on the workload.
pub(super) fn claims(facts: &FlowFacts, process: ProcessHandle) -> BTreeMap<String, String> {
    let mut claims = BTreeMap::new();
    let asked: Vec<&str> = facts.variables.iter().map(String::as_str).collect();
    let mut handle = process;
    for ancestor in 0..MOST_ANCESTORS {
        let Ok(environment) = environment(&handle) else {
            break;
        };
        let marked = MARKS.iter().any(|mark| value(&environment, mark).is_some());
        if ancestor == 0 && asked.is_empty() && !marked {
            break;
        }
        let runners = OF_RUNNERS.iter().copied().filter(|_| marked);
        for name in runners.chain(asked.iter().copied()) {
            if let Some(value) = value(&environment, name) {
                claims.insert(name.to_owned(), shown(value));
            }
        }
        match parent_of(&handle) {
            Ok(Some(parent)) if parent.cgroup().is_ok_and(|cgroup| cgroup == facts.cgroup_path) => {
                handle = parent;
            }
            _ => break,
        }
    }
    claims
}

fn environment(process: &ProcessHandle) -> io::Result<Zeroizing<Vec<u8>>> {
    process.read_secret("environ", LONGEST_ENVIRONMENT)
}

/// The first, as `getenv` has it.
fn value<'e>(environment: &'e [u8], name: &str) -> Option<&'e [u8]> {
    environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

/// As text, cut: it goes into every record.
fn shown(value: &[u8]) -> String {
    let mut text = match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.escape_ascii().to_string(),
    };
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

/// Bytes of a value; longer than any name of a project or a branch.
const LONGEST: usize = 512;

#[cfg(test)]
mod tests {
    use super::{shown, value};

    #[test]
    fn the_first_variable_of_a_name_counts() {
        let environment = b"A=1\0CI_JOB_ID=7\0CI_JOB_ID=8\0CI_JOB_ID_X=9\0broken\0EMPTY=\0";
        for (name, expected) in [
            ("CI_JOB_ID", Some(&b"7"[..])),
            ("EMPTY", Some(&b""[..])),
            ("CI_JOB", None),
            ("broken", None),
        ] {
            assert_eq!(value(environment, name), expected, "{name}");
        }
        assert_eq!(shown("\u{e9}".repeat(300).as_bytes()).len(), 512);
        assert_eq!(shown(b"a\xff"), "a\\xff");
    }
}
