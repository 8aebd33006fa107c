//! The servers that attacks try to reach.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A process of servers, in some network namespace.
#[derive(Debug)]
pub struct Server {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    barriers: u32,
    arrivals: Vec<Arrival>,
    missing: Vec<String>,
}

/// A nonce that a server got.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// Whose.
    pub nonce: String,
    /// "tcp", "udp", …
    pub via: String,
    /// Where from, as the server sees it.
    pub peer: String,
}

impl Server {
    /// Starts the servers that `listen` names, by a command that goes before the interpreter; ready when it returns.
    pub fn start(before: &[&str], listen: &Value) -> Result<Self> {
        let python = super::python();
        let mut words: Vec<&std::ffi::OsStr> = before.iter().map(std::convert::AsRef::as_ref).collect();
        words.push(python.as_os_str());
        let (program, rest) = words.split_first().context("no interpreter")?;
        let mut child = Command::new(program)
            .args(rest)
            .arg(super::attacks().join("server.py"))
            .arg(listen.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the servers")?;
        let input = child.stdin.take().context("no standard input")?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut server = Self {
            child,
            input,
            output,
            barriers: 0,
            arrivals: Vec::new(),
            missing: Vec::new(),
        };
        while server.read()?["event"] != "ready" {}
        Ok(server)
    }

    /// What arrived since it was asked last: all of what was sent before the call.
    pub fn arrivals(&mut self) -> Result<Vec<Arrival>> {
        self.barriers += 1;
        let barrier = format!("sync {}", self.barriers);
        writeln!(self.input, "{barrier}")?;
        while self.read()?["line"] != barrier.as_str() {}
        Ok(std::mem::take(&mut self.arrivals))
    }

    /// What this kernel could not serve, with the reason.
    pub fn missing(&self) -> &[String] {
        &self.missing
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the servers have ended");
        let event: Value = serde_json::from_str(&line).with_context(|| format!("a server said {line:?}"))?;
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("reached") => self.arrivals.push(Arrival {
                nonce: text("nonce"),
                via: text("via"),
                peer: text("peer"),
            }),
            Some("missing") => self.missing.push(format!("{}: {}", text("what"), text("why"))),
            Some("ready" | "synced") => {}
            _ => bail!("a server said {line:?}"),
        }
        Ok(event)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
