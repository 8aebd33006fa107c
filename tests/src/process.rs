//! Children that end with their owner, and waiting for a condition.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A child process whose output goes to a file, killed and reaped when dropped.
#[derive(Debug)]
pub struct Service {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Service {
    /// Starts `command` with standard output and error in the file `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            // Open for as long as the owner lives: a child that watches it ends even when the owner is killed.
            .stdin(Stdio::piped())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("start {name}"))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `ready` is true of its output; fails when it ends before, or after `limit`.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut(&str) -> bool,
    ) -> Result<()> {
        let until = Instant::now() + limit;
        loop {
            let output = self.output();
            if ready(&output) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}) before {what}:\n{output}", self.name);
            }
            if Instant::now() > until {
                bail!(
                    "{}: waited {limit:?} in vain for {what}:\n{output}\nwhere its threads are:\n{}",
                    self.name,
                    whereabouts(self.pid())
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id())?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("signal {}", self.name))
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!("{} did not end within {limit:?}:\n{}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        // Asked first, so that it can remove what it made; killed if it does not listen.
        if self.signal(Signal::SIGTERM).is_err() || self.wait(Duration::from_secs(10)).is_err() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }
}

/// Each thread of a process: its name, its state, and what of the kernel it waits in, as far as the kernel says.
fn whereabouts(pid: u32) -> String {
    let text = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .map(|thread| {
            let dir = thread.path();
            let of = |name: &str| text(dir.join(name)).trim().replace('\n', " | ");
            let status = of("status");
            let state = status.split(" | ").find(|line| line.starts_with("State:"));
            format!(
                "{} {} {} wchan {} syscall {} stack {}",
                thread.file_name().display(),
                of("comm"),
                state.unwrap_or("gone"),
                of("wchan"),
                of("syscall"),
                of("stack")
            )
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Waits until `condition` gives a value.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Result<T> {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() > until {
            bail!("waited {limit:?} in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs `command` to its end and gives its standard output; fails with all of its output when it fails.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{stdout}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(stdout)
}

/// A TCP port of 127.0.0.1 that is free now, for a server that cannot pick one itself. It lies below the ports that the
/// kernel gives to whoever asks for any (`ip_local_port_range`), where there are such: nobody is given it before the server
/// listens, nor while the server is down for a while.
pub fn free_port() -> Result<u16> {
    const FIRST: u16 = 10_000;
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")?;
    let given: u16 = range
        .split_whitespace()
        .next()
        .context("no range of ports")?
        .parse()?;
    for _try in 0..100 {
        let port = match given.saturating_sub(FIRST) {
            0 => 0,
            // The standard library's only source of chance.
            count => FIRST + u16::try_from(RandomState::new().hash_one(0) % u64::from(count))?,
        };
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return Ok(listener.local_addr()?.port());
        }
    }
    bail!("no free port was found from {FIRST} to {given}")
}
