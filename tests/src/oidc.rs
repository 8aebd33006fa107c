//! A real OpenID provider: `oidc-provider` from npm, on a port of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::agent::workspace;
use crate::process::{Service, run};
use crate::scratch::Scratch;

/// A running provider.
#[derive(Debug)]
pub struct Provider {
    _service: Service,
    _scratch: Scratch,
    issuer: String,
}

impl Provider {
    /// Starts it; its packages stand in `target/oidc` (`cargo xtask setup`).
    pub fn start() -> Result<Self> {
        let dir = workspace().join("target/oidc");
        anyhow::ensure!(
            dir.join("node_modules").is_dir(),
            "oidc-provider is missing: run `cargo xtask setup`"
        );
        let scratch = Scratch::new("oidc")?;
        let mut command = Command::new("node");
        command.arg("provider.mjs").current_dir(&dir);
        let mut service = Service::start("oidc-provider", &mut command, &scratch.path().join("log"))?;
        let mut issuer = None;
        service.wait_for("its address", Duration::from_secs(30), |output| {
            issuer = output
                .lines()
                .find_map(|line| line.strip_prefix("issuer "))
                .map(str::to_owned);
            issuer.is_some()
        })?;
        Ok(Self {
            _service: service,
            _scratch: scratch,
            issuer: issuer.context("no issuer")?,
        })
    }

    /// Its issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A token for the demo's job with `audience`, as a CI system would put it into the job's environment.
    pub fn token(&self, audience: &str) -> Result<String> {
        let answer = run(Command::new("curl").args([
            "--silent",
            "--fail-with-body",
            "--user",
            "ci-job:ci-job-throw-away",
            "--data-urlencode",
            "grant_type=client_credentials",
            "--data-urlencode",
            &format!("resource={audience}"),
            &format!("{}/token", self.issuer),
        ]))?;
        let answer: serde_json::Value =
            serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))?;
        Ok(answer["access_token"]
            .as_str()
            .with_context(|| format!("no token in {answer}"))?
            .to_owned())
    }
}
