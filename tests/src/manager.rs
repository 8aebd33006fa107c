//! A service manager that keeps descriptors for an agent, as systemd does (`tests/client/service_manager.py`).

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, binary, workspace};

/// It, and the agent that it starts.
#[derive(Debug)]
pub struct Manager {
    child: Child,
    answers: BufReader<ChildStdout>,
    log: PathBuf,
}

impl Manager {
    /// For an agent that does not run, and that the manager is told to start.
    pub fn start(agent: &Agent) -> Result<Self> {
        let log = agent.dir().join("managed.log");
        let mut child = Command::new("python3")
            .arg(workspace().join("tests/client/service_manager.py"))
            .arg(agent.dir().join("notify"))
            .arg(&log)
            .arg(binary())
            .args(["agent", "--config"])
            .arg(agent.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        Ok(Self { child, answers, log })
    }

    /// Tells it one of `start`, `kill`, `stop`, `ready` and `store`, and gives what it answers.
    pub fn tell(&mut self, command: &str) -> Result<String> {
        let input = self.child.stdin.as_mut().context("no input")?;
        writeln!(input, "{command}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }

    /// Starts the agent, and waits until it is ready.
    pub fn start_agent(&mut self) -> Result<()> {
        self.tell("start")?;
        let answer = self.tell("ready")?;
        ensure!(answer == "ready", "{answer:?}\n{}", self.log()?);
        Ok(())
    }

    /// How many descriptors it keeps whose name begins so.
    pub fn keeps(&mut self, prefix: &str) -> Result<usize> {
        Ok(self.tell("store")?.matches(prefix).count())
    }

    /// What its agents have logged.
    pub fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(&self.log)?)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().ok();
    }
}
