//! `psql` as a client that stays, and says what it is answered.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};

/// A session. Killed when it is dropped.
#[derive(Debug)]
pub struct Psql {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Psql {
    /// Starts this `psql`, which is given further arguments.
    pub fn start(mut psql: Command) -> Result<Self> {
        let mut child = psql
            .arg("-qAt")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().context("no output")?),
            child,
        })
    }

    /// Sends a statement. That nobody reads it any more is seen later.
    pub fn send(&mut self, sql: &str) {
        if let Some(input) = &mut self.input {
            let _gone = writeln!(input, "{sql};").and_then(|()| input.flush());
        }
    }

    /// Sends a query, and gives the first line of what it is answered; empty: nothing, the session is over.
    pub fn ask(&mut self, sql: &str) -> Result<String> {
        self.send(sql);
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    /// Closes its input, and gives what it wrote to standard error.
    pub fn end(mut self) -> Result<String> {
        drop(self.input.take());
        let mut said = String::new();
        if let Some(errors) = &mut self.child.stderr {
            errors.read_to_string(&mut said)?;
        }
        self.child.wait()?;
        Ok(said)
    }
}

impl Drop for Psql {
    fn drop(&mut self) {
        // Ended already, as a rule.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
