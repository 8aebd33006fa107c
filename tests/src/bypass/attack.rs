//! One run of one attack.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::vector::{User, Vector};

/// No attack takes longer; one that does is no answer.
const LIMIT: Duration = Duration::from_mins(1);

/// What an attacker says of its attack.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// What happened, for people.
    pub text: String,
    /// Whether it got what it wanted, where no server can tell.
    pub reached: Option<bool>,
    /// What this host lacks for it.
    pub unavailable: Option<String>,
}

/// An attack that is running.
#[derive(Debug)]
pub struct Attack {
    child: Child,
    output: BufReader<ChildStdout>,
    name: &'static str,
}

impl Attack {
    /// Starts it: unmanaged at first, moved into `cgroup` by itself.
    pub fn start(
        vector: &'static Vector,
        user: User,
        cgroup: &Path,
        world: &Path,
        nonce: &str,
    ) -> Result<Self> {
        let way = vector.name.trim_end_matches("_under_deny");
        let mut child = Command::new(super::python())
            .arg(super::attacks().join("run.py"))
            .args([way, user.name()])
            .args([cgroup, world])
            .arg(nonce)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .with_context(|| format!("start the attack {}", vector.name))?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self {
            child,
            output,
            name: vector.name,
        })
    }

    /// Waits until it is in the managed cgroup and has done what comes before the agent's start.
    pub fn held(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        if line != "held\n" {
            bail!("{}: said {line:?} before it was held", self.name);
        }
        Ok(())
    }

    /// Lets one go on that was held, and runs it to its end.
    pub fn finish(mut self) -> Result<Said> {
        if let Some(mut input) = self.child.stdin.take() {
            // One that has failed already does not read; its last words follow.
            writeln!(input).ok();
        }
        let until = Instant::now() + LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > until {
                bail!("{} did not end within {LIMIT:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        let last = text.lines().last().unwrap_or_default();
        let said: Value = serde_json::from_str(last)
            .with_context(|| format!("{} failed instead of being stopped: it said {text:?}", self.name))?;
        Ok(Said {
            text: said["said"].as_str().unwrap_or_default().to_owned(),
            reached: said["reached"].as_bool(),
            unavailable: said["unavailable"].as_str().map(str::to_owned),
        })
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
