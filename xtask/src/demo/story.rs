//! The steps of the story.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::{self, Cgroup};
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::oidc::Provider;
use tollgate_tests::policy::Policy;
use tollgate_tests::postgres::{Options, Postgres};
use tollgate_tests::process::{eventually, run};

use super::{interrupted, stage};

const SLICE: &str = "/tollgate-demo.slice";
const JOB_ROLE: &str = "report_login";
const JOB_PASSWORD: &str = "Zq7-demo-only-9fX";
const LIMIT: Duration = Duration::from_secs(20);

/// Plays it; gives what must not be there any more afterwards.
#[expect(
    clippy::too_many_lines,
    reason = "a story is read from its beginning to its end"
)]
pub(super) fn play(_binary: &Path) -> Result<Vec<PathBuf>> {
    let mut left = vec![cgroup::mount_point()?.join(SLICE.trim_start_matches('/'))];

    stage::title("A PostgreSQL server, and a password that only the agent has");
    let server = Postgres::start(Options {
        tls: true,
        ..Options::default()
    })?;
    left.push(server.dir().to_owned());
    fill(&server)?;
    stage::line(&format!(
        "PostgreSQL on 127.0.0.1:{} with TLS; customers with e-mail and card number",
        server.port()
    ));
    let refused = run(server.psql(JOB_ROLE, "guess", "shop").args(["-c", "SELECT 1"]));
    ensure!(
        refused.is_err(),
        "the server let somebody in with a wrong password"
    );
    stage::line("without the password: FATAL, password authentication failed");
    interrupted()?;

    stage::title("An OpenID provider, as a CI system has one");
    let provider = Provider::start()?;
    let token = provider.token("tollgate")?;
    stage::line(&format!(
        "issuer {}; the job's environment will hold an ID token and nothing else",
        provider.issuer()
    ));
    interrupted()?;

    stage::title("The agent, with policies/ci-report.toml and policies/nightly-backup.toml");
    let mut agent = start_agent(&server, &provider)?;
    left.push(agent.dir().to_owned());
    stage::command("tollgate status", &agent.cli("status", &[])?);
    interrupted()?;

    stage::title("A job without any secret reads customers: intercepted, identified, logged in, masked");
    let report = Cgroup::create(&format!("{SLICE}/ci-report-1"))?;
    let psql = |sql: &str| {
        let mut command = job::command(&report, NOBODY, "psql");
        command
            .args([
                "-X",
                "-h",
                "127.0.0.1",
                "-p",
                &server.port().to_string(),
                "-d",
                "shop",
                "-c",
                sql,
            ])
            .env("TOLLGATE_ID_TOKEN", &token);
        command
    };
    let select = "SELECT id, name, email, card_number FROM customers ORDER BY id";
    let rows = job::run_within(&mut psql(select), LIMIT)?.success()?;
    stage::command(&format!("psql -c '{select}'"), &rows);
    ensure!(
        rows.contains("Ada") && !rows.contains("ada@acme.test"),
        "the e-mail address is not masked"
    );
    ensure!(
        !rows.contains("4111111111111111"),
        "the card number is not masked"
    );
    interrupted()?;

    stage::title("The same job without its token");
    let mut without = psql(select);
    without.env_remove("TOLLGATE_ID_TOKEN");
    let without = job::run_within(&mut without, LIMIT)?;
    ensure!(without.code != Some(0), "a job without a token was let in");
    stage::command("env -u TOLLGATE_ID_TOKEN psql …", &without.stderr);
    interrupted()?;

    stage::title("It tries to drop a table: refused in the protocol's own words, and the session goes on");
    let drop = job::run_within(
        psql("DROP TABLE customers").args(["-c", "SELECT count(*) FROM customers"]),
        LIMIT,
    )?;
    stage::command(
        "psql -c 'DROP TABLE customers' -c 'SELECT count(*) FROM customers'",
        &(drop.stderr.clone() + &drop.stdout),
    );
    ensure!(
        drop.stderr.contains("tollgate"),
        "the refusal does not say who refused"
    );
    ensure!(
        server.admin("shop", "SELECT count(*) FROM customers")?.trim() == "3",
        "the table is gone"
    );
    interrupted()?;

    stage::title("It deletes a row: held until a person decides");
    let mut held = psql("DELETE FROM orders WHERE id = 2")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let waiting = eventually("a held command", LIMIT, || {
        let list: serde_json::Value =
            serde_json::from_str(&agent.cli("approvals", &["--json"]).ok()?).ok()?;
        list.as_array()?.first()?["id"].as_str().map(str::to_owned)
    });
    let id = match waiting {
        Ok(id) => id,
        Err(error) => {
            held.kill().ok();
            let output = held.wait_with_output()?;
            return Err(error.context(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
    };
    stage::command("tollgate approvals", &agent.cli("approvals", &[])?);
    ensure!(
        server
            .admin("shop", "SELECT count(*) FROM orders WHERE id = 2")?
            .trim()
            == "1",
        "deleted before the approval"
    );
    stage::command(&format!("tollgate approve {id}"), &agent.cli("approve", &[&id])?);
    let output = held.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the approved command failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    stage::command(
        "psql -c 'DELETE FROM orders WHERE id = 2'",
        &format!(
            "{}{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        ),
    );
    ensure!(
        server
            .admin("shop", "SELECT count(*) FROM orders WHERE id = 2")?
            .trim()
            == "0",
        "the approved row is still there"
    );
    interrupted()?;

    stage::title("A nightly backup: pg_dump may read everything, and nothing else");
    let backup = Cgroup::create(&format!("{SLICE}/nightly-backup"))?;
    let mut dump = job::command(&backup, NOBODY, "pg_dump");
    dump.args(["-h", "127.0.0.1", "-p", &server.port().to_string(), "-d", "shop"]);
    let dump = job::run_within(&mut dump, LIMIT)?.success()?;
    ensure!(dump.contains("ada@acme.test"), "the backup is not whole");
    stage::line(&format!(
        "pg_dump: {} lines, whole and unmasked, since it has to restore",
        dump.lines().count()
    ));
    let mut delete = job::command(&backup, NOBODY, "psql");
    delete.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-p",
        &server.port().to_string(),
        "-d",
        "shop",
        "-c",
        "DELETE FROM orders",
    ]);
    let delete = job::run_within(&mut delete, LIMIT)?;
    ensure!(delete.code != Some(0), "the backup job deleted");
    stage::command(
        "psql -c 'DELETE FROM orders'      (in the backup's cgroup)",
        &delete.stderr,
    );
    interrupted()?;

    stage::title("What was recorded");
    let sessions = agent.sessions()?;
    stage::command("tollgate sessions", &agent.cli("sessions", &[])?);
    let first = sessions
        .iter()
        .filter(|session| session.pointer("/counts/held").is_some_and(|held| *held == 1))
        .find_map(|session| session["session"].as_str())
        .context("the held session is not recorded")?
        .to_owned();
    stage::command(
        &format!("tollgate replay {}", short(&first)),
        &agent.cli("replay", &[&first])?,
    );
    interrupted()?;

    stage::title("Stopped, shipped, verified; then one byte is changed");
    agent.stop()?;
    let shipped = agent.dir().join("shipped");
    stage::command(
        "tollgate verify shipped/",
        &agent.cli("verify", &[&shipped.display().to_string()])?,
    );
    let tampered = tamper(&shipped, &first)?;
    let verdict = Command::new(tollgate_tests::agent::binary())
        .arg("verify")
        .arg(&shipped)
        .env("NO_COLOR", "1")
        .output()?;
    ensure!(
        !verdict.status.success(),
        "a changed byte went unnoticed in {}",
        tampered.display()
    );
    stage::command(
        "tollgate verify shipped/",
        &String::from_utf8_lossy(&[verdict.stdout, verdict.stderr].concat()),
    );

    stage::title("The secret is nowhere but in the agent's own file");
    let mut searched = 0_u32;
    for place in [agent.dir().join("state"), shipped, agent.dir().join("run")] {
        searched += without_secret(&place, JOB_PASSWORD.as_bytes())?;
    }
    stage::line(&format!(
        "{searched} files of records, logs and state searched: not there"
    ));
    agent.uninstall()?;
    Ok(left)
}

fn fill(server: &Postgres) -> Result<()> {
    server.admin("postgres", "CREATE DATABASE shop")?;
    server.admin(
        "shop",
        &format!(
            "CREATE TABLE customers (id int PRIMARY KEY, name text, email text, card_number text);
             INSERT INTO customers VALUES (1, 'Ada', 'ada@acme.test', '4111111111111111'),
                 (2, 'Grace', 'grace@acme.test', '5500005555555559'), (3, 'Edsger', 'edsger@acme.test', '340000000000009');
             CREATE TABLE orders (id int PRIMARY KEY, customer int REFERENCES customers, total numeric);
             INSERT INTO orders VALUES (1, 1, 12.50), (2, 2, 99.00), (3, 3, 7.25);
             CREATE ROLE {JOB_ROLE} LOGIN PASSWORD '{JOB_PASSWORD}';
             GRANT ALL ON ALL TABLES IN SCHEMA public TO {JOB_ROLE};"
        ),
    )?;
    Ok(())
}

fn start_agent(server: &Postgres, provider: &Provider) -> Result<Agent> {
    let mut agent = Agent::prepare(&[])?;
    let secret = agent.secret("orders-db", JOB_PASSWORD)?;
    // The shipped policies, with the addresses, files and names of this machine.
    let here = |policy: Policy| -> Result<Policy> {
        policy
            .with("address", &format!("[\"127.0.0.1:{}\"]", server.port()))?
            .with(
                "ca",
                &format!(
                    "\"{}\"\nserver_name = \"db.acme.test\"",
                    server.dir().join("ca.pem").display()
                ),
            )?
            .with("source", "\"file\"")?
            .with("user", &format!("\"{JOB_ROLE}\""))?
            .with("password", &format!("\"{}\"", secret.display()))?
            .with("database", "\"shop\"")
    };
    let report = here(Policy::shipped("ci-report")?)?
        .with("cgroup", &format!("[\"{SLICE}/ci-report-*\"]"))?
        .with("issuer", &format!("\"{}\"", provider.issuer()))?;
    let backup =
        here(Policy::shipped("nightly-backup")?)?.with("cgroup", &format!("[\"{SLICE}/nightly-backup\"]"))?;
    agent.policy("ci-report", &report)?;
    agent.policy("nightly-backup", &backup)?;
    agent.resume()?;
    Ok(agent)
}

fn short(id: &str) -> &str {
    id.get(..13).unwrap_or(id)
}

/// Changes one byte in the middle of the session's shipped record.
fn tamper(shipped: &Path, session: &str) -> Result<PathBuf> {
    let file = files(shipped)?
        .into_iter()
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().contains(session))
        })
        .context("the session was not shipped")?;
    let mut bytes = fs::read(&file)?;
    let middle = bytes.len() / 2;
    *bytes.get_mut(middle).context("an empty record")? ^= 1;
    fs::write(&file, bytes)?;
    Ok(file)
}

fn without_secret(dir: &Path, secret: &[u8]) -> Result<u32> {
    let mut searched = 0;
    for file in files(dir)? {
        let bytes = fs::read(&file).unwrap_or_default();
        let found = bytes.windows(secret.len()).any(|window| window == secret);
        ensure!(!found, "the injected password stands in {}", file.display());
        searched += 1;
    }
    Ok(searched)
}

fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten() {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}
