//! A double of `HashiCorp` Vault, as strict as the documentation of its HTTP API: `tests/vault/double.py`. Its database engine
//! makes real roles on the test's own server.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::agent::workspace;
use crate::postgres::{ADMIN, ADMIN_PASSWORD, Postgres};
use crate::process::{Service, run};
use crate::scratch::Scratch;

/// What the agent logs in with, by `AppRole`.
pub const ROLE_ID: &str = "role-id-77";
/// The secret of it.
pub const SECRET_ID: &str = "secret-id-throw-away-2f9d";

/// A running double.
#[derive(Debug)]
pub struct Vault {
    _service: Service,
    _scratch: Scratch,
    address: String,
}

impl Vault {
    /// Starts it for a server, on which its role `report` makes members of `report_reader` that last `ttl` seconds. `change`:
    /// what is different in its settings.
    pub fn start(server: &Postgres, ttl: u32, change: impl FnOnce(&mut Value)) -> Result<Self> {
        let scratch = Scratch::new("vault")?;
        let mut settings = json!({
            "directory": scratch.dir("files")?,
            "policies": { "agent": {
                "secret/*": ["read"], "database/*": ["read"], "auth/token/create": ["update"],
                "auth/token/revoke-accessor": ["update"], "sys/leases/revoke": ["update"],
            } },
            "approle": { "approle": { "role_id": ROLE_ID, "policies": ["agent"], "ttl": 600 } },
            "secret_ids": { SECRET_ID: -1 },
            "database": { "database": { "report": {
                "creation_statements": "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE report_reader",
                "revocation_statements": "DROP ROLE IF EXISTS \"{{name}}\"",
                "ttl": ttl, "max_ttl": 3600,
            } } },
            "psql": {
                "PATH": std::env::var("PATH")?, "PGHOST": "127.0.0.1", "PGPORT": server.port().to_string(),
                "PGUSER": ADMIN, "PGPASSWORD": ADMIN_PASSWORD, "PGDATABASE": "postgres",
            },
        });
        change(&mut settings);
        let file = scratch.path().join("settings.json");
        std::fs::write(&file, settings.to_string())?;
        let mut command = Command::new("python3");
        command.arg(workspace().join("tests/vault/double.py")).arg(&file);
        let mut service = Service::start("vault", &mut command, &scratch.path().join("log"))?;
        let mut port = None;
        service.wait_for("its port", Duration::from_secs(30), |output| {
            port = output.lines().find_map(|line| line.parse::<u16>().ok());
            port.is_some()
        })?;
        Ok(Self {
            _service: service,
            _scratch: scratch,
            address: format!("http://127.0.0.1:{}", port.context("no port")?),
        })
    }

    /// Its address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The next `times` questions below a path come to this: see `tests/vault/double.py`.
    pub fn fault(&self, path: &str, fault: &str, times: u32) -> Result<()> {
        self.test("fault", &json!({ "path": path, "fault": fault, "times": times }))
    }

    /// Nothing is wrong any more.
    pub fn well(&self) -> Result<()> {
        self.test("well", &json!({}))
    }

    /// What is there: tokens, leases, and questions that it was asked.
    pub fn state(&self) -> Result<Value> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail"])
            .arg(format!("{}/_test/state", self.address));
        Ok(serde_json::from_str(&run(&mut curl)?)?)
    }

    fn test(&self, what: &str, body: &Value) -> Result<()> {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--fail", "-H", "Content-Type: application/json", "-d"])
            .arg(body.to_string())
            .arg(format!("{}/_test/{what}", self.address));
        run(&mut curl).map(drop)
    }
}
