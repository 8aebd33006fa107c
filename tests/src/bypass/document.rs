//! The part of `docs/threat-model.md` that is written from the table.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::table;
use super::vector::{ByTier, Outcome, Vector};
use crate::agent::workspace;

const BEGIN: &str =
    "<!-- Written by `cargo xtask threat-model` from tests/src/bypass/table/. Do not edit. -->\n";
const END: &str = "<!-- End of what `cargo xtask threat-model` writes. -->\n";

/// The file.
pub fn path() -> PathBuf {
    workspace().join("docs/threat-model.md")
}

/// The text of the file with its table as it has to be.
pub fn updated(text: &str) -> Result<String> {
    let (before, rest) = text
        .split_once(BEGIN)
        .context("docs/threat-model.md has lost its marker")?;
    let (_, after) = rest
        .split_once(END)
        .context("docs/threat-model.md has lost its end marker")?;
    Ok(format!("{before}{BEGIN}\n{}{END}{after}", written()))
}

fn written() -> String {
    let mut out = String::new();
    for (family, vectors) in table::FAMILIES {
        // Writing to a String cannot fail.
        let _infallible = write!(
            out,
            "### {family}\n\n| way round | a job without privileges | a job that is root |\n|---|---|---|\n"
        );
        for vector in *vectors {
            let _infallible = writeln!(
                out,
                "| {}{} | {} | {} |",
                vector.title,
                note(vector),
                cell(vector, vector.nobody),
                cell(vector, vector.root)
            );
        }
        out.push('\n');
    }
    let _infallible = write!(
        out,
        "### What is open, and what closes it\n\n| way round | why it is open | what closes it on a host |\n|---|---|---|\n"
    );
    for vector in table::all().filter(|vector| vector.is_open()) {
        if let Some(hole) = vector.hole {
            let _infallible = writeln!(out, "| {} | {} | {} |", vector.title, hole.why, hole.closes);
        }
    }
    out.push('\n');
    out
}

fn note(vector: &Vector) -> String {
    if vector.needs.is_empty() {
        String::new()
    } else {
        format!(" (where there is: {})", vector.needs)
    }
}

fn cell(vector: &Vector, by_tier: ByTier) -> String {
    let now = tiers(by_tier);
    match vector.older {
        Some(older) if !matches!(by_tier.without, Outcome::Impossible(_)) => {
            let (version, level) = older.than;
            format!("{now}. Before Linux {version}.{level}: {}", tiers(older.outcome))
        }
        _ => now,
    }
}

fn tiers(by_tier: ByTier) -> String {
    let without = outcome(by_tier.without);
    let lsm = outcome(by_tier.lsm);
    if without == lsm {
        without
    } else {
        format!("{without}; with the security hooks: {lsm}")
    }
}

fn outcome(outcome: Outcome) -> String {
    let programs = |programs: &[&str]| {
        let names: Vec<_> = programs.iter().map(|program| format!("`{program}`")).collect();
        names.join(" or ")
    };
    match outcome {
        Outcome::Proxied => "goes through the proxy".to_owned(),
        Outcome::Stopped(by) => format!("stopped by {}", programs(by)),
        Outcome::Shut(by) => format!("stopped by {}, or goes through the proxy", programs(by)),
        Outcome::Open => "**open**".to_owned(),
        Outcome::Race => "**open** for a moment".to_owned(),
        Outcome::Impossible(lacks) => format!("not possible without {lacks}"),
    }
}
