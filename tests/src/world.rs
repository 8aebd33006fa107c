//! A server, an agent and a job: what most end-to-end tests need.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::agent::{Agent, workspace};
use crate::cgroup::Cgroup;
use crate::driver;
use crate::faulty::Faulty;
use crate::job::{self, Ended, NOBODY};
use crate::policy::Policy;
use crate::postgres::{Options, Postgres};
use crate::process::eventually;

/// The role that the agent logs in as. Its name and password must be seen by nobody else.
pub const ROLE: &str = "injected_role_5d1e";
/// Password of [`ROLE`].
pub const PASSWORD: &str = "injected-password-b81c";
/// Database of the tests.
pub const DATABASE: &str = "shop";

/// Rules that refuse nothing that SQL can say and that is understood.
pub const ALLOW_ALL: &str = r#"
[[service.rule]]
name    = "everything that is understood"
effects = ["read", "write", "modify", "delete", "bulk_load", "bulk_export", "schema_create", "schema_alter",
           "schema_destroy", "privilege", "transaction", "session", "maintenance", "lock", "notify", "procedural"]
verdict = "allow"
"#;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A server with a small shop in it, an agent that protects it, and a managed cgroup.
///
/// Fields are dropped in this order: the agent goes before the server.
#[derive(Debug)]
pub struct World {
    /// The agent.
    pub agent: Agent,
    /// The managed cgroup.
    pub job: Cgroup,
    /// The server.
    pub server: Postgres,
    /// Where jobs find the service.
    pub address: SocketAddr,
}

impl World {
    /// One with this `[[service.mask]]`, `[[service.rule]]` and `[service.limits]` text.
    pub fn start(rules: &str) -> Result<Self> {
        Self::with(rules, Options::default(), "{ upstream = \"disable\" }")
    }

    /// One with a server set up as `options` say, spoken to as `tls` says.
    pub fn with(rules: &str, options: Options, tls: &str) -> Result<Self> {
        let server = Postgres::start(options)?;
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        Self::around(Agent::prepare(&[])?, server, address, rules, tls)
    }

    /// One whose agent is this program.
    pub fn start_by(program: PathBuf, rules: &str) -> Result<Self> {
        let server = Postgres::start(Options::default())?;
        let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
        let mut agent = Agent::prepare(&[])?;
        agent.run_by(program);
        Self::around(agent, server, address, rules, "{ upstream = \"disable\" }")
    }

    /// One whose service is a relay in front of the server.
    pub fn behind_a_relay(rules: &str) -> Result<(Self, Faulty)> {
        let server = Postgres::start(Options::default())?;
        let relay = Faulty::start(
            SocketAddr::from(([127, 0, 0, 1], 0)),
            SocketAddr::from(([127, 0, 0, 1], server.port())),
        )?;
        let agent = Agent::prepare(&[])?;
        let world = Self::around(
            agent,
            server,
            relay.address(),
            rules,
            "{ upstream = \"disable\" }",
        )?;
        Ok((world, relay))
    }

    fn around(
        mut agent: Agent,
        server: Postgres,
        address: SocketAddr,
        rules: &str,
        tls: &str,
    ) -> Result<Self> {
        fill(&server)?;
        let slice = format!(
            "/tollgate-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let secret = agent.secret("shop-password", PASSWORD)?;
        let tls = tls.replace("{ca}", &server.dir().join("ca.pem").display().to_string());
        let policy = format!(
            r#"
[workload]
name   = "test-job"
cgroup = ["{slice}/job"]
egress = "allow"

[[service]]
name     = "shop"
protocol = "postgres"
address  = ["{address}"]
tls      = {tls}

[service.credential]
source   = "file"
user     = "{ROLE}"
password = "{secret}"
{rules}
"#,
            secret = secret.display(),
        );
        agent.policy("test-job", &Policy::from_text(&policy))?;
        agent.resume()?;
        let job = Cgroup::create(&format!("{slice}/job"))?;
        Ok(Self {
            agent,
            job,
            server,
            address,
        })
    }

    /// Changes the text of the policy and starts the agent again with it.
    pub fn change_policy(&mut self, change: impl FnOnce(String) -> String) -> Result<()> {
        self.edit_policy(change)?;
        self.agent.stop()?;
        self.agent.resume()
    }

    /// Changes the text of the policy, without telling the agent.
    pub fn edit_policy(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let path = self.agent.dir().join("policies.d/test-job.toml");
        let text = change(std::fs::read_to_string(&path)?);
        self.agent.policy("test-job", &Policy::from_text(&text))
    }

    /// `psql` in the managed cgroup, as a user without privileges and without any secret.
    pub fn psql(&self, args: &[&str]) -> Command {
        let mut command = job::command(&self.job, NOBODY, "psql");
        command
            .args([
                "-X",
                "-h",
                &self.address.ip().to_string(),
                "-p",
                &self.address.port().to_string(),
                "-d",
                DATABASE,
            ])
            .args(args);
        command
    }

    /// Runs SQL with `psql` in the managed cgroup; unaligned, tuples only.
    pub fn sql(&self, sql: &str) -> Result<Ended> {
        job::run_within(&mut self.psql(&["-qAt", "-c", sql]), Duration::from_secs(30))
    }

    /// Any program in the managed cgroup, as root (some of the tests' programs stand in folders that others may not enter).
    pub fn program(&self, program: &str) -> Command {
        job::command(&self.job, "root", program)
    }

    /// A Python script in the managed cgroup, with psycopg and `tests/client/wire.py` at hand; `HOST`, `PORT` and `DB` are
    /// in its environment.
    pub fn script(&self, script: &str) -> Command {
        let mut command = self.program(&driver::python().display().to_string());
        command
            .args(["-c", script])
            .env("HOST", self.address.ip().to_string())
            .env("PORT", self.address.port().to_string())
            .env("DB", DATABASE)
            .env("PYTHONPATH", workspace().join("tests/client"));
        command
    }

    /// Runs such a script to its end.
    pub fn python(&self, script: &str) -> Result<Ended> {
        job::run_within(&mut self.script(script), Duration::from_mins(1))
    }

    /// The session that ended last, once none is open any more.
    pub fn last_session(&self) -> Result<serde_json::Value> {
        eventually("all sessions to be closed", Duration::from_secs(10), || {
            let sessions = self.sessions().ok()?;
            let ended = sessions.iter().all(|session| session["state"] != "open");
            ended.then(|| sessions.last().cloned()).flatten()
        })
    }

    /// What `tollgate sessions --json` says.
    pub fn sessions(&self) -> Result<Vec<serde_json::Value>> {
        self.agent.sessions()
    }
}

/// Makes the small shop in a server.
pub fn fill(server: &Postgres) -> Result<()> {
    server.admin("postgres", &format!("CREATE DATABASE {DATABASE}"))?;
    server.admin(
        DATABASE,
        &format!(
            "CREATE TABLE customers (id int PRIMARY KEY, name text, email text UNIQUE, card_number text, ssn int, note text);
             INSERT INTO customers VALUES (1, 'Ada', 'ada@acme.test', '4111111111111111', 123456789, 'likes engines'),
                 (2, 'Grace', 'grace@acme.test', '5500005555555559', 987654321, 'likes compilers'),
                 (3, 'Edsger', NULL, NULL, NULL, NULL);
             CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, total numeric);
             INSERT INTO orders VALUES (1, 1, 12.50), (2, 2, 99.00), (3, 3, 7.25);
             CREATE VIEW mailing AS SELECT id, email AS address FROM customers;
             CREATE TABLE forbidden (id int);
             CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}';
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE};
             REVOKE ALL ON forbidden FROM {ROLE};
             GRANT CREATE ON SCHEMA public TO {ROLE};
             GRANT TEMPORARY ON DATABASE {DATABASE} TO {ROLE};"
        ),
    )?;
    Ok(())
}
