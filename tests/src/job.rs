//! Commands that run inside a cgroup, as a job would.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;

/// A user without privileges that every Debian has.
pub const NOBODY: &str = "nobody";

/// How a job ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status; `None`: a signal.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command that enters `cgroup` before its first instruction and drops to `user`, with an empty environment
/// but for a PATH.
pub fn command(cgroup: &Cgroup, user: &str, program: &str) -> Command {
    let mut command = Command::new("/bin/bash");
    command
        .arg("-c")
        .arg(r#"echo $$ > "$0/cgroup.procs" && exec setpriv --reuid "$1" --regid "$(id -g "$1")" --clear-groups -- "${@:2}""#)
        .arg(cgroup.dir())
        .arg(user)
        .arg(program)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/nonexistent")
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// Runs a command made by [`command`] to its end.
pub fn run(command: &mut Command) -> Result<Ended> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Runs a command made by [`command`] to its end, killed after `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Ended> {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let until = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() > until {
            child.kill().ok();
            let output = child.wait_with_output()?;
            bail!(
                "{command:?} did not end within {limit:?}:\n{}{}",
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output()?;
    Ok(Ended {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

impl Ended {
    /// Standard output of a command that has to have succeeded.
    pub fn success(self) -> Result<String> {
        if self.code == Some(0) {
            return Ok(self.stdout);
        }
        bail!(
            "the job failed ({:?}):\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        )
    }
}

/// Whether `program` is on this machine.
pub fn exists(program: &str) -> bool {
    Path::new(program).exists()
}
