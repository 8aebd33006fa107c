//! What each program of the kernel side takes for a run, as the kernel itself counts it (`kernel.bpf_stats_enabled`).
//!
//! Other loads of the host make these figures no larger, but for what they do to caches; so they tell more than latencies
//! where the machine is not quiet. The counting is in them: about 20 ns a run, also of a program that does nothing. What is
//! not in them is what the kernel does before it runs a program.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;
use tollgate_tests::process::run as finish;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// The kernel counts for as long as this lives.
pub(super) struct Counting {
    before: String,
}

/// Runs and nanoseconds, by program.
type Counts = BTreeMap<(u64, String), (u64, u64)>;

impl Counting {
    pub(super) fn start() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).context("read kernel.bpf_stats_enabled")?;
        fs::write(SWITCH, "1").context("switch kernel.bpf_stats_enabled on")?;
        Ok(Self { before })
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        fs::write(SWITCH, &self.before).ok();
    }
}

/// One table line for each program of Tollgate that is run at least once for each of the `count` times that `load` does
/// something, while the kernel counts.
pub(super) fn table(what: &str, count: usize, load: impl FnOnce() -> Result<()>) -> Result<String> {
    let before = counts()?;
    load()?;
    let after = counts()?;
    let mut out = String::new();
    let count = u64::try_from(count)?;
    for (program, (runs, time)) in after {
        let (runs_before, time_before) = before.get(&program).copied().unwrap_or_default();
        let (runs, time) = (runs - runs_before, time - time_before);
        if runs < count || runs == 0 {
            continue;
        }
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            out,
            "  {what:<24} {:<24} {:>12} {:>9}",
            program.1,
            runs / count.max(1),
            time / runs
        );
    }
    Ok(out)
}

/// What `bpftool` says of Tollgate's programs.
fn counts() -> Result<Counts> {
    let printed = finish(Command::new("bpftool").args(["--json", "prog", "show"]))?;
    let all: Vec<Value> = serde_json::from_str(&printed).context("what bpftool says of programs")?;
    let number = |program: &Value, name: &str| program.get(name).and_then(Value::as_u64).unwrap_or(0);
    Ok(all
        .iter()
        .filter_map(|program| {
            let name = program.get("name")?.as_str()?;
            name.starts_with("tollgate").then(|| {
                let counted = (number(program, "run_cnt"), number(program, "run_time_ns"));
                ((number(program, "id"), name.to_owned()), counted)
            })
        })
        .collect())
}
