//! A job is who its token says, and without the right one it does not get in.

use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::oidc::Provider;
use tollgate_tests::policy::Policy;
use tollgate_tests::postgres::{Options, Postgres};
use tollgate_tests::world::{PASSWORD, ROLE};

struct Setting {
    agent: Agent,
    job: Cgroup,
    server: Postgres,
    provider: Provider,
}

fn start() -> Setting {
    let server = Postgres::start(Options::default()).unwrap();
    server
        .admin(
            "postgres",
            &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"),
        )
        .unwrap();
    let provider = Provider::start().unwrap();
    let mut agent = Agent::prepare(&[]).unwrap();
    let secret = agent.secret("password", PASSWORD).unwrap();
    let slice = format!("/tollgate-identity-{}", std::process::id());
    let policy = Policy::shipped("ci-report")
        .unwrap()
        .with("cgroup", &format!("[\"{slice}/job-*\"]"))
        .unwrap()
        .with("issuer", &format!("\"{}\"", provider.issuer()))
        .unwrap()
        .with("address", &format!("[\"127.0.0.1:{}\"]", server.port()))
        .unwrap()
        .with("upstream", "\"disable\"")
        .unwrap()
        .with("ca", "\"/nonexistent\"")
        .unwrap()
        .with("database", "\"postgres\"")
        .unwrap()
        .with("user", &format!("\"{ROLE}\""))
        .unwrap()
        .with("password", &format!("\"{}\"", secret.display()))
        .unwrap();
    let exact = policy
        .text()
        .replace("[identity.oidc]\n", "[identity.oidc]\nleeway = \"0s\"\n");
    let policy = Policy::from_text(&exact);
    agent.policy("ci-report", &policy).unwrap();
    agent.resume().unwrap();
    let job = Cgroup::create(&format!("{slice}/job-1")).unwrap();
    Setting {
        agent,
        job,
        server,
        provider,
    }
}

fn psql(setting: &Setting, token: Option<&str>) -> job::Ended {
    let mut command = job::command(&setting.job, NOBODY, "psql");
    command.args([
        "-qAtX",
        "-h",
        "127.0.0.1",
        "-p",
        &setting.server.port().to_string(),
        "-d",
        "postgres",
        "-c",
        "SELECT 1",
    ]);
    if let Some(token) = token {
        command.env("TOLLGATE_ID_TOKEN", token);
    }
    job::run_within(&mut command, Duration::from_secs(30)).unwrap()
}

#[test]
fn the_right_token_lets_a_job_in_and_every_other_one_does_not() {
    let setting = start();
    let right = setting.provider.token("tollgate").unwrap();
    assert_eq!(psql(&setting, Some(&right)).success().unwrap(), "1\n");

    let mut altered = right.clone();
    let last = if altered.ends_with('A') { 'B' } else { 'A' };
    altered.pop();
    altered.pop();
    altered.push(last);
    altered.push('A');
    let other_audience = setting.provider.token("vault").unwrap();
    for (what, token) in [
        ("no token", None),
        ("an empty token", Some("")),
        ("no JWT", Some("hello")),
        ("an altered signature", Some(altered.as_str())),
        ("another audience", Some(other_audience.as_str())),
    ] {
        let ended = psql(&setting, token);
        assert_ne!(ended.code, Some(0), "{what} was let in");
        assert!(ended.stderr.contains("tollgate"), "{what}: {}", ended.stderr);
        if let Some(token) = token.filter(|token| token.len() > 20) {
            assert!(!ended.stderr.contains(token), "{what}: the token is in the error");
        }
    }
    assert!(
        !setting.server.log().contains("FATAL"),
        "somebody without a token reached the server"
    );
}

#[test]
fn a_job_that_is_not_managed_needs_no_token_and_gets_no_login() {
    let setting = start();
    let mut direct = Command::new("psql");
    direct
        .args([
            "-qAtX",
            "-h",
            "127.0.0.1",
            "-p",
            &setting.server.port().to_string(),
            "-U",
            ROLE,
            "-d",
            "postgres",
            "-c",
            "SELECT 1",
        ])
        .env("PGPASSWORD", PASSWORD);
    assert_eq!(tollgate_tests::process::run(&mut direct).unwrap(), "1\n");
}

#[test]
fn a_token_that_expires_ends_the_right_to_run_commands_in_open_sessions_and_in_held_ones() {
    let setting = start();
    setting
        .server
        .admin(
            "postgres",
            &format!("CREATE TABLE notes AS SELECT 1 AS n; GRANT ALL ON notes TO {ROLE}"),
        )
        .unwrap();
    let token = setting
        .provider
        .token_for("tollgate", Duration::from_secs(5))
        .unwrap();
    let script = r#"
import os, time
from wire import *

def ask(client, sql):
    client.send(query(sql))
    got = client.until(b"Z")
    return [fields(body)["M"] for tag, body in got if tag == b"E"], got[-1]

open_, held = Client(), Client()
open_.until(b"Z"), held.until(b"Z")
assert ask(open_, "SELECT 1") == ([], (b"Z", b"I"))
# Nobody decides. What ends it is not the time-out of ten minutes.
words, last = ask(held, "UPDATE notes SET n = 2 WHERE n = 1")
assert "expired" in words[0] and last == (b"Z", b"I"), (words, last)
# The sessions stay, and refuse.
for client in (open_, held):
    words, last = ask(client, "SELECT 1")
    assert "expired" in words[0] and last == (b"Z", b"I"), (words, last)
again = Client()
assert "expired" in told(again.until(b"Z"))[2]
"#;
    let mut job = job::command(
        &setting.job,
        "root",
        &tollgate_tests::driver::python().display().to_string(),
    );
    job.args(["-c", script])
        .env("TOLLGATE_ID_TOKEN", &token)
        .env("HOST", "127.0.0.1")
        .env("PORT", setting.server.port().to_string())
        .env("DB", "postgres")
        .env(
            "PYTHONPATH",
            tollgate_tests::agent::workspace().join("tests/client"),
        );
    job::run_within(&mut job, Duration::from_secs(30))
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(
        setting.server.admin("postgres", "SELECT n FROM notes").unwrap(),
        "1\n"
    );
    let log = setting.agent.log();
    assert!(!log.contains(&token), "the token is in the log");
}
