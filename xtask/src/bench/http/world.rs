//! Cgroups of the bench: who runs in which, and what those in one have used.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tollgate_tests::cgroup::Cgroup;

/// A command that enters `cgroup` before its first instruction.
pub(super) fn entering(cgroup: &Cgroup, program: &Path) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "echo $$ > \"$0\" && exec \"$@\""])
        .arg(cgroup.dir().join("cgroup.procs"))
        .arg(program);
    shell
}

/// Whether somebody listens on a port of 127.0.0.1.
pub(super) fn listening(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Seconds of processors that the processes of a cgroup have used so far.
pub(super) fn processor_seconds(cgroup: &Cgroup) -> Result<f64> {
    let path = cgroup.dir().join("cpu.stat");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let used = text
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "))
        .context("cpu.stat has no usage_usec")?;
    let used: f64 = used.parse()?;
    Ok(used / 1e6)
}

/// Megabytes of memory that the processes of a cgroup take; what they share is counted once.
pub(super) fn megabytes(cgroup: &Cgroup) -> Result<f64> {
    let mut sum = 0.0;
    for pid in fs::read_to_string(cgroup.dir().join("cgroup.procs"))?.lines() {
        // One that has ended in the meantime takes nothing.
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
        let kilobytes = text
            .lines()
            .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"));
        sum += kilobytes.map_or(Ok(0.0), str::parse::<f64>)? / 1e3;
    }
    Ok(sum)
}
