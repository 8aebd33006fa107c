//! Files to policies, one by one and a whole directory.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::glob::Glob;
use super::policy::PolicyDoc;
use super::problem::{PolicyErrors, Problem, Problems};
use super::reader::Table;
use super::report::Report;
use super::selector::{Selector, SelectorKind};
use super::{decode, keys};
use crate::model::PolicyId;

/// Largest file that is read: far above any policy, and no harm to the agent.
const LARGEST: u64 = 1 << 20;

/// Reads and decodes one policy file.
///
/// All problems of the file are given at once; text that is not TOML is one problem alone.
pub fn load_policy(path: &Path) -> Result<PolicyDoc, PolicyErrors> {
    parse_policy(path, &read(path)?)
}

/// Decodes the text of a policy file; `path` is for messages.
pub fn parse_policy(path: &Path, text: &str) -> Result<PolicyDoc, PolicyErrors> {
    decode_with(path, text, |root, report| {
        decode::policy(Table::root(&keys::ROOT, root, report)?, path, text)
    })
}

/// Reads and decodes every `*.toml` of `dir`, sorted by name; files whose name starts with a dot are left out.
///
/// A workload name that an earlier file has, or a cgroup glob that can match the same cgroup as one of an earlier
/// file, is an error of the later file. Nested cgroups are none: the outermost that matches decides.
pub fn load_policies(dir: &Path) -> Vec<Result<PolicyDoc, PolicyErrors>> {
    match policy_files(dir) {
        Ok(files) => load_policy_files(&files),
        Err(error) => vec![Err(PolicyErrors::unreadable(
            dir,
            format!("the directory cannot be read: {error}"),
            "check that it exists and that the agent may read it",
        ))],
    }
}

/// As [`load_policies`], for files that are named one by one.
pub fn load_policy_files(files: &[PathBuf]) -> Vec<Result<PolicyDoc, PolicyErrors>> {
    let mut loaded: Vec<Result<PolicyDoc, PolicyErrors>> = Vec::with_capacity(files.len());
    for path in files {
        let policy = read(path).and_then(|text| {
            let policy = parse_policy(path, &text)?;
            let clashes: Vec<Problem> = loaded
                .iter()
                .flatten()
                .flat_map(|earlier| clashes(earlier, &policy, &text))
                .collect();
            if clashes.is_empty() {
                Ok(policy)
            } else {
                Err(PolicyErrors::new(Problems::new(path, &text, clashes)))
            }
        });
        loaded.push(policy);
    }
    loaded
}

/// The policy files of a directory, sorted.
pub fn policy_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if path.extension().is_some_and(|extension| extension == "toml") && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Where a value stands in `text`; `pointer` is a path such as `/service/0/rule/1/effects`. `None` where there is none.
pub fn locate(text: &str, pointer: &str) -> Option<Range<usize>> {
    let root = toml_span::parse(text).ok()?;
    let span = root.pointer(pointer)?.span;
    Some(span.start..span.end)
}

pub(super) fn decode_with<T>(
    path: &Path,
    text: &str,
    decode: impl for<'v> FnOnce(&'v toml_span::Value<'v>, &'v Report) -> Option<T>,
) -> Result<T, PolicyErrors> {
    let report = Report::default();
    let decoded = match toml_span::parse(text) {
        Ok(root) => decode(&root, &report),
        Err(error) => {
            report.syntax(&error, text);
            None
        }
    };
    match decoded {
        Some(decoded) if report.is_empty() => Ok(decoded),
        _ => Err(report.into_errors(path, text)),
    }
}

pub(super) fn read(path: &Path) -> Result<String, PolicyErrors> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| {
            PolicyErrors::unreadable(
                path,
                format!("the file cannot be read: {error}"),
                "check that it exists and that the agent may read it",
            )
        })?;
    if bytes.len() as u64 > LARGEST {
        return Err(PolicyErrors::unreadable(
            path,
            "the file is larger than 1 MiB".into(),
            "check that it is the file that was meant",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let line = error
            .as_bytes()
            .iter()
            .take(valid)
            .filter(|b| **b == b'\n')
            .count()
            + 1;
        PolicyErrors::unreadable(
            path,
            format!("line {line} is not UTF-8"),
            "save the file as UTF-8",
        )
    })
}

fn clashes(earlier: &PolicyDoc, policy: &PolicyDoc, text: &str) -> Vec<Problem> {
    let mut clashes = Vec::new();
    if earlier.workload.name == policy.workload.name {
        clashes.push(
            Problem::error(
                locate(text, "/workload/name").unwrap_or_default(),
                format!(
                    "the workload \"{}\" is in {} as well",
                    policy.workload.name,
                    earlier.path.display()
                ),
            )
            .with_help("give each policy file a workload of its own"),
        );
    }
    let (name, other) = (&policy.workload.name, &earlier.workload.name);
    if name != other && PolicyId::of(name) == PolicyId::of(other) {
        clashes.push(
            Problem::error(
                locate(text, "/workload/name").unwrap_or_default(),
                format!(
                    "the workload \"{name}\" has the same number for the kernel as \"{other}\" in {}",
                    earlier.path.display()
                ),
            )
            .with_help("give one of them another name; the number follows from it"),
        );
    }
    clashes.extend(selector_clashes(earlier, policy, text));
    clashes
}

/// Selectors of two policies that can select the same cgroup. What a container is asked for goes before a path, so the two
/// do not clash; two containers do where nothing that is asked of them tells them apart.
fn selector_clashes(earlier: &PolicyDoc, policy: &PolicyDoc, text: &str) -> Vec<Problem> {
    let clash = |pointer: &str, mine: String, theirs: String, at: &str, help: &str| {
        let there = locate(earlier.text.as_str(), at).map(|at| {
            let position =
                Problems::new(&earlier.path, earlier.text.as_str(), Vec::new()).position_of(at.start);
            position.map_or(String::new(), |at| format!(":{}", at.line))
        });
        Problem::error(
            locate(text, pointer).unwrap_or_default(),
            format!(
                "{mine} can match the same cgroup as {theirs} of the workload \"{}\" in {}{}",
                earlier.workload.name,
                earlier.path.display(),
                there.unwrap_or_default(),
            ),
        )
        .with_help(help)
    };
    let quoted = |selector: &Selector| match selector.kind {
        SelectorKind::Cgroup => format!("\"{}\"", selector.text),
        _ => selector.to_string(),
    };
    match (&policy.workload.container, &earlier.workload.container) {
        (Some(mine), Some(theirs)) => {
            let together = meet(
                &policy.workload.container_reach(),
                &earlier.workload.container_reach(),
            );
            if !together || !mine.meets(theirs) {
                return Vec::new();
            }
            vec![clash(
                "/workload/container",
                mine.to_string(),
                theirs.to_string(),
                "/workload/container",
                "ask both for the same label with values that exclude each other, or name other cgroups: one container has one \
                 policy",
            )]
        }
        (None, None) => {
            let mut clashes = Vec::new();
            for mine in &policy.workload.selectors {
                for theirs in &earlier.workload.selectors {
                    if mine.meets(theirs) {
                        clashes.push(clash(
                            &mine.pointer(),
                            quoted(mine),
                            quoted(theirs),
                            &theirs.pointer(),
                            "make them disjoint: one cgroup has one policy",
                        ));
                    }
                }
            }
            clashes
        }
        _ => Vec::new(),
    }
}

fn meet(mine: &[Glob], theirs: &[Glob]) -> bool {
    mine.iter()
        .any(|mine| theirs.iter().any(|theirs| mine.intersects(theirs)))
}
