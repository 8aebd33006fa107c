//! A `tollgate agent` with folders, pins and a socket of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::policy::Policy;
use crate::process::{Service, run};
use crate::scratch::Scratch;

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    service: Option<Service>,
    scratch: Scratch,
    binary: PathBuf,
    starts: u32,
}

impl Agent {
    /// Writes its configuration and `policies` (name, text), and starts it; returns when it says that it is ready.
    pub fn start(policies: &[(&str, Policy)]) -> Result<Self> {
        let mut agent = Self::prepare(policies)?;
        agent.resume()?;
        Ok(agent)
    }

    /// Writes its configuration and policies without starting it.
    pub fn prepare(policies: &[(&str, Policy)]) -> Result<Self> {
        let scratch = Scratch::new("agent")?;
        let dir = scratch.path();
        for name in ["state", "run", "policies.d", "shipped"] {
            scratch.dir(name)?;
        }
        let pins = dir.join("pins");
        let config = format!(
            "state_dir = \"{dir}/state\"\nrun_dir = \"{dir}/run\"\npolicy_dir = \"{dir}/policies.d\"\n\
             pin_dir = \"{pins}\"\n\n[ship]\nto = \"file://{dir}/shipped\"\n",
            dir = dir.display(),
            pins = pins.display()
        );
        fs::write(dir.join("tollgate.toml"), config)?;
        let agent = Self {
            service: None,
            binary: binary(),
            scratch,
            starts: 0,
        };
        for (name, policy) in policies {
            agent.policy(name, policy)?;
        }
        Ok(agent)
    }

    /// Writes or replaces a policy file.
    pub fn policy(&self, name: &str, policy: &Policy) -> Result<()> {
        fs::write(
            self.dir().join("policies.d").join(format!("{name}.toml")),
            policy.text(),
        )?;
        Ok(())
    }

    /// Writes a file that only the agent may read, outside its own folders.
    pub fn secret(&self, name: &str, content: &str) -> Result<PathBuf> {
        self.scratch.secret(name, content)
    }

    /// Starts it, or starts it again.
    pub fn resume(&mut self) -> Result<()> {
        self.begin()?;
        if let Some(service) = &mut self.service {
            service.wait_for("it to be ready", Duration::from_secs(30), |output| {
                output.contains("ready")
            })?;
        }
        Ok(())
    }

    /// Starts it, and does not wait until it is ready.
    pub fn begin(&mut self) -> Result<()> {
        self.starts += 1;
        let log = self.scratch.path().join(format!("agent-{}.log", self.starts));
        // A test that is killed cannot clean up; the agent then stops by itself.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "--"])
            .arg(&self.binary)
            .arg("agent")
            .arg("--config")
            .arg(self.config())
            .env("NO_COLOR", "1");
        self.service = Some(Service::start("tollgate agent", &mut command, &log)?);
        Ok(())
    }

    /// Uses another program in place of the binary from the next start on: one that starts it in other circumstances.
    pub fn run_by(&mut self, program: PathBuf) {
        self.binary = program;
    }

    /// Adds lines to its configuration file.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        fs::write(self.config(), format!("{text}\n{lines}\n"))?;
        Ok(())
    }

    /// Its configuration file.
    pub fn config(&self) -> PathBuf {
        self.scratch.path().join("tollgate.toml")
    }

    /// Its folder: `state`, `run`, `policies.d`, `shipped`.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Its process id; 0 when it does not run.
    pub fn pid(&self) -> u32 {
        self.service.as_ref().map_or(0, Service::pid)
    }

    /// What the running agent has logged.
    pub fn log(&self) -> String {
        self.service.as_ref().map(Service::output).unwrap_or_default()
    }

    /// A `tollgate` command that talks to this agent.
    pub fn tollgate(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg(verb)
            .arg("--config")
            .arg(self.config())
            .env("NO_COLOR", "1");
        command
    }

    /// Runs `tollgate VERB ARGS…` and gives what it printed.
    pub fn cli(&self, verb: &str, args: &[&str]) -> Result<String> {
        run(self.tollgate(verb).args(args))
    }

    /// What `tollgate sessions --json` says.
    pub fn sessions(&self) -> Result<Vec<serde_json::Value>> {
        let lines = self.cli("sessions", &["--json"])?;
        lines
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Kills it, as the out-of-memory killer would.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut service) = self.service.take() {
            service.signal(Signal::SIGKILL)?;
            service.wait(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Asks it to stop, and does not wait until it has.
    pub fn terminate(&self) -> Result<()> {
        self.service
            .as_ref()
            .map_or(Ok(()), |service| service.signal(Signal::SIGTERM))
    }

    /// Stops it gracefully and gives what it logged; fails when it ends with an error.
    pub fn stop(&mut self) -> Result<String> {
        let Some(mut service) = self.service.take() else {
            return Ok(String::new());
        };
        service.signal(Signal::SIGTERM)?;
        let status = service.wait(Duration::from_secs(30))?;
        anyhow::ensure!(
            status.success(),
            "the agent ended with {status}:\n{}",
            service.output()
        );
        Ok(service.output())
    }

    /// Removes what the agent pinned in the kernel.
    pub fn uninstall(&mut self) -> Result<()> {
        self.stop().ok();
        self.cli("uninstall", &[]).map(drop)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.uninstall().ok();
    }
}

/// The agent's binary: `TOLLGATE_BIN`, else the debug build of this workspace.
pub fn binary() -> PathBuf {
    std::env::var_os("TOLLGATE_BIN").map_or_else(|| workspace().join("target/debug/tollgate"), PathBuf::from)
}

/// Root of the workspace that this was built in.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default()
}
