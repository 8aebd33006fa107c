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
        let mut port = None;
        service.wait_for("its port", Duration::from_secs(30), |output| {
            port = output.lines().find_map(|line| line.parse::<u16>().ok());
            port.is_some()
        })?;
        let issuer = format!("http://127.0.0.1:{}", port.context("no port")?);
        Ok(Self {
            _service: service,
            _scratch: scratch,
            issuer,
        })
    }

    /// Its issuer URL.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// An ID token for a job, as a CI system would put it into the job's environment. The provider knows the audiences
    /// `tollgate` and `vault`.
    pub fn token(&self, audience: &str) -> Result<String> {
        self.token_for(audience, Duration::from_hours(1))
    }

    /// The same, valid for so long, in whole seconds.
    pub fn token_for(&self, audience: &str, life: Duration) -> Result<String> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body"]);
        let ttl = format!("ttl={}", life.as_secs());
        for field in [
            "grant_type=urn:tollgate:test:job",
            "client_secret=job-secret",
            &ttl,
        ] {
            curl.args(["--data-urlencode", field]);
        }
        let answer = run(curl.args([
            "--data-urlencode",
            &format!("client_id={audience}"),
            &format!("{}/token", self.issuer),
        ]))?;
        let answer: serde_json::Value =
            serde_json::from_str(&answer).with_context(|| format!("not JSON: {answer}"))?;
        Ok(answer["id_token"]
            .as_str()
            .with_context(|| format!("no token in {answer}"))?
            .to_owned())
    }
}
