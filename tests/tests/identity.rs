//! A job is who its token says, and without the right one it does not get in.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::manager::Manager;
use tollgate_tests::oidc::Provider;
use tollgate_tests::policy::Policy;
use tollgate_tests::postgres::{Options, Postgres};
use tollgate_tests::process::eventually;
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

/// A script of a job's, on a connection of single messages.
fn script(setting: &Setting, text: &str) -> Command {
    let mut job = job::command(
        &setting.job,
        "root",
        &tollgate_tests::driver::python().display().to_string(),
    );
    job.args(["-c", text])
        .env("HOST", "127.0.0.1")
        .env("PORT", setting.server.port().to_string())
        .env("DB", "postgres")
        .env(
            "PYTHONPATH",
            tollgate_tests::agent::workspace().join("tests/client"),
        );
    job
}

/// The policy, with its text changed.
fn edit(setting: &Setting, change: impl FnOnce(String) -> String) {
    let path = setting.agent.dir().join("policies.d/ci-report.toml");
    let text = change(std::fs::read_to_string(path).unwrap());
    setting
        .agent
        .policy("ci-report", &Policy::from_text(&text))
        .unwrap();
}

fn psql(setting: &Setting, token: Option<&str>) -> job::Ended {
    psql_in(setting, &setting.job, token)
}

/// `tollgate identity login` of a job in `cgroup`.
fn log_in(setting: &Setting, cgroup: &Cgroup, token: &str) -> job::Ended {
    let program = setting.agent.tollgate("identity");
    let mut job = job::command(cgroup, NOBODY, &program.get_program().display().to_string());
    job.args(["identity", "login", "--env", "TOKEN", "--socket"])
        .arg(setting.agent.dir().join("run/job.sock"))
        .env("TOKEN", token);
    job::run_within(&mut job, Duration::from_secs(30)).unwrap()
}

fn psql_in(setting: &Setting, cgroup: &Cgroup, token: Option<&str>) -> job::Ended {
    let mut command = job::command(cgroup, NOBODY, "psql");
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
    let endless = format!("{right}{}", "A".repeat(64 * 1024));
    for (what, token) in [
        ("no token", None),
        ("an empty token", Some("")),
        ("no JWT", Some("hello")),
        ("an altered signature", Some(altered.as_str())),
        ("another audience", Some(other_audience.as_str())),
        ("an endless one", Some(endless.as_str())),
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
    let text = r#"
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
    let mut job = script(&setting, text);
    job.env("TOLLGATE_ID_TOKEN", &token);
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

#[test]
fn a_newer_token_is_picked_up_in_an_open_session_and_the_record_says_from_which_command_on() {
    let mut setting = start();
    let file = setting.agent.dir().join("token");
    edit(&setting, |text| {
        text.replace(
            "{ env = \"TOLLGATE_ID_TOKEN\" }",
            &format!("{{ file = \"{}\" }}", file.display()),
        )
    });
    setting.agent.stop().unwrap();
    setting.agent.resume().unwrap();
    let token = |seconds| {
        let life = Duration::from_secs(seconds);
        setting.provider.token_for("tollgate", life).unwrap()
    };
    std::fs::write(&file, token(6)).unwrap();
    let next = setting.agent.dir().join("next-token");
    std::fs::write(&next, token(3600)).unwrap();
    let text = r#"
import os, time
from wire import *

def ask(sql):
    client.send(query(sql))
    return [fields(body)["M"] for tag, body in client.until(b"Z") if tag == b"E"]

client = Client()
client.until(b"Z")
assert ask("SELECT 1") == []
# Until the first token's end, and then without a newer one.
deadline = time.monotonic() + 20
while not (words := ask("SELECT 2")):
    assert time.monotonic() < deadline, "the token does not expire"
    time.sleep(0.05)
assert "expired" in words[0], words
os.rename(os.environ["NEXT"], os.environ["TOKEN"])
while ask("SELECT 3"):
    assert time.monotonic() < deadline, "the newer token is not picked up"
    time.sleep(0.05)
"#;
    let mut job = script(&setting, text);
    job.env("TOKEN", &file).env("NEXT", &next);
    job::run_within(&mut job, Duration::from_mins(1))
        .unwrap()
        .success()
        .unwrap();

    let sessions = setting.agent.sessions().unwrap();
    let id = sessions[0]["session"].as_str().unwrap().to_owned();
    let replay = setting.agent.cli("replay", &[&id, "--json"]).unwrap();
    let steps: Vec<serde_json::Value> = replay
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let of = |kind: &str| {
        let kind = kind.to_owned();
        steps.iter().filter(move |step| step["step"] == kind.as_str())
    };
    let identity = of("identity").next().unwrap();
    assert_eq!(
        (&identity["number"], &identity["state"]),
        (&1.into(), &"renewed".into())
    );
    let ran_under = |sql: &str| {
        let command = of("command").rfind(|step| step["command"]["text"] == sql);
        command.unwrap()["identity"].as_u64().unwrap()
    };
    assert_eq!(
        [
            ran_under("SELECT 1"),
            ran_under("SELECT 2"),
            ran_under("SELECT 3")
        ],
        [0, 0, 1]
    );
    assert!(setting.agent.cli("verify", &[]).is_ok());
}

#[test]
fn a_revoked_identity_is_out_at_once_and_stays_out_until_that_is_lifted() {
    let mut setting = start();
    let token = setting.provider.token("tollgate").unwrap();
    let text = r#"
from wire import *
client = Client()
client.until(b"Z")
client.send(query("SELECT 1"))
client.until(b"Z")
print("ready", flush=True)
# Nothing is sent: the session ends by itself.
print(told(client.until(b""))[2])
"#;
    let open_session = || {
        let mut job = script(&setting, text);
        job.env("TOLLGATE_ID_TOKEN", &token);
        tollgate_tests::script::first_line(&mut job, "ready")
    };
    let child = open_session();
    let listed = setting.agent.cli("identity", &["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["subject"], "job-4711");
    assert_eq!(listed[0]["sessions"].as_array().unwrap().len(), 1);
    let key = listed[0]["key"].as_str().unwrap().to_owned();

    // By a claim that the policy does not ask for, by the key, by the subject.
    for which in [
        ["--claim", "pipeline_id=42"],
        ["--key", key.as_str()],
        ["--subject", "job-*"],
    ] {
        let child = if which[0] == "--claim" {
            None
        } else {
            Some(open_session())
        };
        let mut words = vec!["revoke"];
        words.extend(which);
        words.extend(["--reason", "runner 7 was stolen", "--json"]);
        let revoked = setting.agent.cli("identity", &words).unwrap();
        let revoked: serde_json::Value = serde_json::from_str(&revoked).unwrap();
        if let Some(child) = child {
            let told = tollgate_tests::script::ended(child);
            assert!(told.contains("runner 7 was stolen"), "{which:?}: {told}");
        }
        let refused = psql(&setting, Some(&token));
        assert!(
            refused.stderr.contains("runner 7 was stolen"),
            "{which:?}: {refused:?}"
        );
        setting
            .agent
            .cli("identity", &["lift", revoked["id"].as_str().unwrap()])
            .unwrap();
        assert_eq!(psql(&setting, Some(&token)).success().unwrap(), "1\n");
    }
    assert!(tollgate_tests::script::ended(child).contains("runner 7 was stolen"));

    // Of another issuer: it is not this one.
    let other = [
        "revoke",
        "--subject",
        "*",
        "--issuer",
        "https://other.test",
        "--reason",
        "x",
    ];
    setting.agent.cli("identity", &other).unwrap();
    assert_eq!(psql(&setting, Some(&token)).success().unwrap(), "1\n");

    let for_good = ["revoke", "--subject", "job-4711", "--reason", "for good"];
    setting.agent.cli("identity", &for_good).unwrap();
    setting.agent.kill().unwrap();
    setting.agent.resume().unwrap();
    let refused = psql(&setting, Some(&token));
    assert!(refused.stderr.contains("for good"), "{refused:?}");
    let list = setting.agent.cli("identity", &["revocations"]).unwrap();
    assert!(list.contains("job-4711") && list.contains("for good"), "{list}");
}

#[test]
fn two_hundred_sessions_of_a_revoked_identity_end_within_a_second() {
    let mut setting = start();
    setting.server.takes(600).unwrap();
    let token = setting.provider.token("tollgate").unwrap();
    // Some are busy, the others wait for the server to say something.
    let text = r#"
import selectors, threading, time
from wire import *
clients = [Client() for _ in range(200)]
for client in clients:
    client.until(b"Z")
ends, busy = [], clients[:8]
def work(client):
    try:
        while client.send(query("SELECT 1")) or client.until(b"Z")[-1][0] == b"Z":
            pass
    except OSError:
        pass
    ends.append(time.time())
threads = [threading.Thread(target=work, args=(client,)) for client in busy]
for thread in threads:
    thread.start()
waiting = selectors.DefaultSelector()
for client in clients[len(busy):]:
    client.socket.setblocking(False)
    waiting.register(client.socket, selectors.EVENT_READ)
print("ready", flush=True)
while waiting.get_map():
    for key, _ in waiting.select(20):
        try:
            more = key.fileobj.recv(1 << 16)
        except ConnectionResetError:
            more = b""
        if not more:
            waiting.unregister(key.fileobj)
            ends.append(time.time())
for thread in threads:
    thread.join()
print(len(ends), max(ends))
"#;
    let mut job = script(&setting, text);
    job.env("TOLLGATE_ID_TOKEN", &token);
    let child = tollgate_tests::script::first_line(&mut job, "ready");
    let listed = setting.agent.cli("identity", &["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["sessions"].as_array().unwrap().len(), 200);
    let words = ["revoke", "--subject", "job-*", "--reason", "runner 7 was stolen"];
    let asked = SystemTime::now();
    setting.agent.cli("identity", &words).unwrap();
    let told = tollgate_tests::script::ended(child);
    let (count, last) = told.trim().split_once(' ').unwrap();
    assert_eq!(count, "200");
    let last = UNIX_EPOCH + Duration::from_secs_f64(last.parse().unwrap());
    let took = last.duration_since(asked).unwrap();
    println!("200 sessions had ended {took:.2?} after an operator wanted that");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn what_a_policy_denies_ends_with_its_reload_and_nothing_else_does() {
    let setting = start();
    let token = setting.provider.token("tollgate").unwrap();
    let text = r#"
from wire import *
client = Client()
client.until(b"Z")
print("ready", flush=True)
print(told(client.until(b""))[2])
"#;
    let mut job = script(&setting, text);
    job.env("TOLLGATE_ID_TOKEN", &token);
    let child = tollgate_tests::script::first_line(&mut job, "ready");
    let deny = |entry: &str| {
        edit(&setting, |text| {
            let rest = text
                .lines()
                .filter(|line| !line.starts_with("deny = "))
                .fold(String::new(), |text, line| text + line + "\n");
            rest.replace(
                "[identity.oidc]\n",
                &format!("[identity]\ndeny = [{entry}]\n[identity.oidc]\n"),
            )
            .replace("[identity]\n[identity]\n", "[identity]\n")
        });
        setting.agent.cli("reload", &["--json"]).unwrap()
    };
    let report = deny("{ subject = \"somebody-else\" }");
    assert!(report.contains("\"sessions_ended\": 0"), "{report}");
    assert_eq!(psql(&setting, Some(&token)).success().unwrap(), "1\n");
    deny("{ claim = \"pipeline_id\", value = \"4?\" }");
    let told = tollgate_tests::script::ended(child);
    assert!(told.contains("the policy denies"), "{told}");
    let refused = psql(&setting, Some(&token));
    assert!(refused.stderr.contains("the policy denies"), "{refused:?}");
}

#[test]
fn a_job_logs_in_for_its_own_cgroup_and_for_no_other() {
    let mut setting = start();
    edit(&setting, |text| {
        text.replace("{ env = \"TOLLGATE_ID_TOKEN\" }", "{ login = true }")
    });
    setting.agent.stop().unwrap();
    setting.agent.resume().unwrap();
    let neighbour = Cgroup::create(&setting.job.path().replace("job-1", "job-2")).unwrap();
    let token = setting.provider.token("tollgate").unwrap();
    let log_in = |cgroup: &Cgroup, token: &str| log_in(&setting, cgroup, token);

    let before = psql(&setting, None);
    assert!(before.stderr.contains("tollgate identity login"), "{before:?}");
    let wrong = log_in(&setting.job, &setting.provider.token("vault").unwrap());
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stderr.contains("not for the audience"), "{wrong:?}");
    assert_eq!(log_in(&setting.job, "").code, Some(1));

    let right = log_in(&setting.job, &token).success().unwrap();
    assert!(right.contains("Logged in as job-4711 until"), "{right}");
    assert_eq!(psql(&setting, None).success().unwrap(), "1\n");
    // Whoever is in another cgroup has logged in for nobody but itself.
    let refused = psql_in(&setting, &neighbour, None);
    assert!(refused.stderr.contains("nobody has logged in"), "{refused:?}");

    // Who is under no policy has nothing to prove.
    let mut outsider = setting.agent.tollgate("identity");
    let outsider = outsider
        .args(["login", "--env", "TOKEN"])
        .env("TOKEN", &token)
        .output()
        .unwrap();
    assert_eq!(outsider.status.code(), Some(1));
    let said = String::from_utf8_lossy(&outsider.stderr);
    assert!(said.contains("needs no login"), "{said}");
    let log = setting.agent.log();
    assert!(!log.contains(&token), "the token is in the log");
}

#[test]
fn a_login_outlasts_an_upgrade_a_crash_and_a_restart_of_the_agent_and_not_its_token() {
    let mut setting = start();
    edit(&setting, |text| {
        text.replace("{ env = \"TOLLGATE_ID_TOKEN\" }", "{ login = true }")
    });
    setting.agent.stop().unwrap();
    let mut manager = Manager::start(&setting.agent).unwrap();
    manager.start_agent().unwrap();
    assert_eq!(manager.keeps("logins-").unwrap(), 0);

    let neighbour = Cgroup::create(&setting.job.path().replace("job-1", "job-2")).unwrap();
    let token = setting.provider.token("tollgate").unwrap();
    let short = Duration::from_secs(4);
    let short = setting.provider.token_for("tollgate", short).unwrap();
    log_in(&setting, &neighbour, &short).success().unwrap();
    log_in(&setting, &setting.job, &token).success().unwrap();
    // What is newer is there in the place of what was.
    assert_eq!(manager.keeps("logins-").unwrap(), 1);

    setting.agent.cli("upgrade", &[]).unwrap();
    assert_eq!(psql(&setting, None).success().unwrap(), "1\n");
    eventually("the short token to end", Duration::from_secs(20), || {
        let refused = psql_in(&setting, &neighbour, None);
        refused.stderr.contains("expired").then_some(())
    })
    .unwrap();
    for how in ["kill", "stop", "kill"] {
        assert_eq!(manager.keeps("logins-").unwrap(), 1);
        manager.tell(how).unwrap();
        manager.start_agent().unwrap();
        assert_eq!(psql(&setting, None).success().unwrap(), "1\n", "{how}");
        let refused = psql_in(&setting, &neighbour, None);
        assert!(refused.stderr.contains("nobody has logged in"), "{refused:?}");
    }
    // A job in a new cgroup of the same path is another one.
    let path = setting.job.path().to_owned();
    drop(std::mem::replace(&mut setting.job, neighbour));
    setting.job = Cgroup::create(&path).unwrap();
    let refused = psql(&setting, None);
    assert!(refused.stderr.contains("nobody has logged in"), "{refused:?}");

    assert!(
        !manager.log().unwrap().contains(&token),
        "the token is in the log"
    );
    let files = Command::new("grep")
        .args(["--recursive", "--files-with-matches", "--text", "--devices=skip"])
        .args(["--fixed-strings", &token])
        .args(["state", "run", "shipped"].map(|name| setting.agent.dir().join(name)))
        .output()
        .unwrap();
    assert_eq!(files.status.code(), Some(1), "the token is in {files:?}");
}
