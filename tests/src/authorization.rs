//! A real OAuth 2.0 authorization server (npm `oidc-provider`), and what a database asks that takes its tokens for passwords.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::agent::workspace;
use crate::postgres::Postgres;
use crate::process::{Service, run};
use crate::scratch::Scratch;

/// Secret of its clients `basic` and `post`.
pub const CLIENT_SECRET: &str = "s3cret: &+%";

const RADIUS_SECRET: &str = "radius-throw-away-61";

/// Both, running.
#[derive(Debug)]
pub struct Authorization {
    radius: Service,
    radius_port: u16,
    _server: Service,
    _scratch: Scratch,
    issuer: String,
}

impl Authorization {
    /// Starts them; the packages stand in `target/oidc` (`cargo xtask setup`).
    pub fn start() -> Result<Self> {
        let home = workspace().join("target/oidc");
        let scratch = Scratch::new("authorization")?;
        let mut command = Command::new("node");
        command.arg("authorization.mjs").current_dir(&home);
        let (server, port) = listening("authorization", &mut command, &scratch)?;
        let issuer = format!("http://127.0.0.1:{port}");
        let mut command = Command::new("python3");
        command
            .arg(workspace().join("tests/oidc/radius.py"))
            .args([RADIUS_SECRET, &format!("{issuer}/token/introspection")])
            // A client without a secret may ask of its own tokens alone.
            .args(["post", CLIENT_SECRET]);
        let (radius, radius_port) = listening("radius", &mut command, &scratch)?;
        Ok(Self {
            radius,
            radius_port,
            _server: server,
            _scratch: scratch,
            issuer,
        })
    }

    /// Its issuer URL; tokens are had at `/token`, and voided at `/token/revocation`.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// From now on `user` logs in to `server` with a token.
    pub fn guards(&self, server: &Postgres, user: &str) -> Result<()> {
        let file = server.dir().join("data/pg_hba.conf");
        let rules = std::fs::read_to_string(&file)?;
        let rule = format!(
            "hostssl all {user} 127.0.0.1/32 radius radiusservers=\"127.0.0.1\" radiusports=\"{}\" radiussecrets=\"{RADIUS_SECRET}\"",
            self.radius_port
        );
        std::fs::write(&file, format!("{rule}\n{rules}"))?;
        server.admin("postgres", "SELECT pg_reload_conf()").map(drop)
    }

    /// The tokens that users have logged in with, oldest first.
    pub fn tokens(&self) -> Vec<String> {
        let let_in = self.radius.output();
        let lines = let_in.lines().filter(|line| line.starts_with("let in "));
        lines
            .filter_map(|line| line.split(' ').next_back())
            .map(str::to_owned)
            .collect()
    }

    /// What the RADIUS server has said.
    pub fn log(&self) -> String {
        self.radius.output()
    }

    /// Whether the server calls a token active.
    pub fn is_active(&self, token: &str) -> Result<bool> {
        let answer = self.ask(
            "token/introspection",
            &[
                "client_id=post",
                &format!("client_secret={CLIENT_SECRET}"),
                &format!("token={token}"),
            ],
        )?;
        Ok(answer["active"] == true)
    }

    /// An ID token for a job.
    pub fn job_token(&self) -> Result<String> {
        let answer = self.ask(
            "token",
            &["client_id=tollgate", "grant_type=urn:tollgate:test:job"],
        )?;
        Ok(answer["id_token"].as_str().context("no ID token")?.to_owned())
    }

    fn ask(&self, path: &str, fields: &[&str]) -> Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail-with-body"]);
        for field in fields {
            curl.args(["--data-urlencode", field]);
        }
        curl.arg(format!("{}/{path}", self.issuer));
        Ok(serde_json::from_str(&run(&mut curl)?)?)
    }
}

/// Starts what prints its port on a line of its own.
fn listening(name: &str, command: &mut Command, scratch: &Scratch) -> Result<(Service, u16)> {
    let mut service = Service::start(name, command, &scratch.path().join(name))?;
    let mut port = None;
    service.wait_for("its port", Duration::from_secs(30), |output| {
        port = output.lines().find_map(|line| line.parse::<u16>().ok());
        port.is_some()
    })?;
    Ok((service, port.context("no port")?))
}
