//! A job is who its SAML assertion says, and without a sound one it does not get in.

use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::{Agent, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::postgres::{Options, Postgres};
use tollgate_tests::process::run;
use tollgate_tests::saml::IdentityProvider;
use tollgate_tests::world::{PASSWORD, ROLE};

/// A session that is open until somebody ends it.
const OPEN: &str = r#"
from wire import *
client = Client()
client.until(b"Z")
print("ready", flush=True)
print(told(client.until(b""))[2])
"#;
const RECIPIENT: &str = "https://tollgate.test/jobs";

struct Setting {
    agent: Agent,
    job: Cgroup,
    server: Postgres,
    provider: IdentityProvider,
}

fn policy(setting: &Setting, slice: &str, token: &str) -> Policy {
    let secret = setting.agent.secret("password", PASSWORD).unwrap();
    Policy::from_text(&format!(
        r#"
[workload]
name   = "report"
cgroup = ["{slice}/job-*"]

[identity.saml]
metadata   = "{metadata}"
entity_id  = "{entity}"
audience   = "tollgate"
recipient  = "{RECIPIENT}"
token      = {token}
attributes = {{ department = ["billing", "audit"] }}

[[service]]
name     = "orders-db"
protocol = "postgres"
address  = ["127.0.0.1:{port}"]
tls      = {{ upstream = "disable" }}

[service.credential]
source   = "file"
user     = "{ROLE}"
password = "{secret}"
database = "postgres"

[[service.rule]]
name    = "reads"
effects = ["read"]
tables  = ["*.*"]
verdict = "allow"
"#,
        metadata = setting.provider.metadata(),
        entity = setting.provider.entity_id(),
        port = setting.server.port(),
        secret = secret.display(),
    ))
}

fn start(token: impl Fn(&Agent) -> String) -> Setting {
    let server = Postgres::start(Options::default()).unwrap();
    server
        .admin(
            "postgres",
            &format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'"),
        )
        .unwrap();
    let slice = format!("/tollgate-saml-{}", std::process::id());
    let mut setting = Setting {
        agent: Agent::prepare(&[]).unwrap(),
        job: Cgroup::create(&format!("{slice}/job-1")).unwrap(),
        server,
        provider: IdentityProvider::start().unwrap(),
    };
    let policy = policy(&setting, &slice, &token(&setting.agent));
    setting.agent.policy("report", &policy).unwrap();
    setting.agent.resume().unwrap();
    setting
}

fn psql(setting: &Setting, assertion: Option<&str>) -> job::Ended {
    let mut command = job::command(&setting.job, NOBODY, "psql");
    let port = setting.server.port().to_string();
    command.args(["-qAtX", "-h", "127.0.0.1", "-p", &port, "-d", "postgres"]);
    command.args(["-c", "SELECT 1"]);
    if let Some(assertion) = assertion {
        command.env("SAML_ASSERTION", assertion);
    }
    job::run_within(&mut command, Duration::from_secs(30)).unwrap()
}

#[test]
fn a_sound_assertion_in_a_variable_opens_a_session_and_every_other_one_is_refused() {
    let setting = start(|_| "{ env = \"SAML_ASSERTION\" }".to_owned());
    let right = setting.provider.response(RECIPIENT, &["session=600"]).unwrap();
    assert_eq!(psql(&setting, Some(&right)).success().unwrap(), "1\n");

    let sessions = setting.agent.sessions().unwrap();
    let summary = sessions[0]["identity"].as_str().unwrap();
    assert!(summary.contains("job-4711"), "{summary}");
    let id = sessions[0]["session"].as_str().unwrap().to_owned();
    let replay = setting.agent.cli("replay", &[&id, "--json"]).unwrap();
    let open: serde_json::Value = serde_json::from_str(replay.lines().next().unwrap()).unwrap();
    let token = &open["identity"]["token"];
    assert_eq!(token["kind"], "saml", "{open}");
    assert_eq!(token["issuer"], setting.provider.entity_id().as_str());
    assert_eq!(token["subject"], "job-4711");
    assert_eq!(token["audience"], "tollgate");
    assert_eq!(token["claims"]["department"], "billing");

    let of = |fields: &[&str]| setting.provider.response(RECIPIENT, fields).unwrap();
    let elsewhere = setting.provider.response("https://other.test/jobs", &[]).unwrap();
    let altered = right.replace("job-4711", "job-1");
    let commented = right.replace("job-4711", "job-<!---->4711");
    let declared = right.replace("<ns0:Response ", "<!DOCTYPE x><ns0:Response ");
    for (what, assertion, told) in [
        ("none", None, "SAML_ASSERTION"),
        (
            "no assertion",
            Some("hello".to_owned()),
            "neither a SAML assertion",
        ),
        ("unsigned", Some(of(&["sign=none"])), "not signed"),
        ("altered", Some(altered), "changed after it was signed"),
        ("with a comment", Some(commented), "comments"),
        ("with a document type", Some(declared), "document type"),
        (
            "another audience",
            Some(of(&["audience=vault"])),
            "for the audience",
        ),
        ("another recipient", Some(elsewhere), "recipient"),
        ("old", Some(of(&["life=-600"])), "expired"),
    ] {
        let ended = psql(&setting, assertion.as_deref());
        assert_ne!(ended.code, Some(0), "{what} was let in");
        assert!(
            ended.stderr.contains("FATAL:  tollgate: ") && ended.stderr.contains(told),
            "{what}: {}",
            ended.stderr
        );
    }
    assert!(
        !setting.server.log().contains("FATAL"),
        "somebody without an assertion reached the server"
    );
    // The assertion is nowhere but with the job.
    let signature = right.split("SignatureValue>").nth(1).unwrap();
    let part = signature.split_whitespace().next().unwrap();
    assert!(!setting.agent.log().contains(part) && !replay.contains(part));
}

#[test]
fn an_assertion_in_a_file_opens_a_session_and_the_listing_says_whose() {
    let path = |agent: &Agent| agent.dir().join("assertion");
    let setting = start(|agent| format!("{{ file = \"{}\" }}", path(agent).display()));
    let file = path(&setting.agent);
    // The form that a browser posts it in, and as a whole response of which only the outside is signed.
    let response = setting.provider.response(RECIPIENT, &["sign=response"]).unwrap();
    std::fs::write(&file, response).unwrap();
    let encoded = run(Command::new("base64").arg(&file)).unwrap();
    std::fs::write(&file, encoded).unwrap();
    run(Command::new("chmod").arg("a+rx").arg(setting.agent.dir())).unwrap();
    assert_eq!(psql(&setting, None).success().unwrap(), "1\n");

    let python = tollgate_tests::driver::python().display().to_string();
    let mut open = job::command(&setting.job, "root", &python);
    open.args(["-c", OPEN])
        .env("HOST", "127.0.0.1")
        .env("PORT", setting.server.port().to_string())
        .env("DB", "postgres")
        .env("PYTHONPATH", workspace().join("tests/client"));
    let session = tollgate_tests::script::first_line(&mut open, "ready");
    let listed = setting.agent.cli("identity", &["list", "--json"]).unwrap();
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed[0]["subject"], "job-4711", "{listed}");
    // The SHA-256 of the provider's certificate names its key.
    assert_eq!(listed[0]["key"].as_str().map(str::len), Some(64), "{listed}");
    let revoke = ["revoke", "--subject", "job-4711", "--reason", "gone"];
    setting.agent.cli("identity", &revoke).unwrap();
    let told = tollgate_tests::script::ended(session);
    assert!(told.contains("gone"), "{told}");
    let refused = psql(&setting, None);
    assert!(refused.stderr.contains("gone"), "{}", refused.stderr);
}

#[test]
fn a_job_logs_in_with_an_assertion_and_its_sessions_say_whose_they_are() {
    let setting = start(|_| "{ login = true }".to_owned());
    let log_in = |assertion: &str| {
        let program = setting.agent.tollgate("identity");
        let mut job = job::command(&setting.job, NOBODY, &program.get_program().display().to_string());
        job.args(["identity", "login", "--env", "ASSERTION", "--json", "--socket"])
            .arg(setting.agent.dir().join("run/job.sock"))
            .env("ASSERTION", assertion);
        job::run_within(&mut job, Duration::from_secs(30)).unwrap()
    };
    let of = |fields: &[&str]| setting.provider.response(RECIPIENT, fields).unwrap();
    let right = of(&["session=600"]);
    let refused = psql(&setting, None);
    assert!(refused.stderr.contains("tollgate identity login"), "{refused:?}");
    for (what, assertion, told) in [
        ("unsigned", of(&["sign=none"]), "not signed"),
        (
            "altered",
            right.replace("job-4711", "job-1"),
            "changed after it was signed",
        ),
        ("another audience", of(&["audience=vault"]), "for the audience"),
        ("old", of(&["life=-600"]), "expired"),
        ("endless", format!("{right}{}", "A".repeat(64 * 1024)), "64 KiB"),
    ] {
        let ended = log_in(&assertion);
        assert_eq!(ended.code, Some(1), "{what}: {ended:?}");
        assert!(ended.stderr.contains(told), "{what}: {}", ended.stderr);
    }
    let refused = psql(&setting, None);
    assert!(refused.stderr.contains("nobody has logged in"), "{refused:?}");

    let said = log_in(&right).success().unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said["subject"], "job-4711", "{said}");
    for _ in 0..2 {
        assert_eq!(psql(&setting, None).success().unwrap(), "1\n");
    }
    // Those that were refused before are in the list too.
    let sessions = setting.agent.sessions().unwrap();
    let id = sessions.last().unwrap()["session"].as_str().unwrap().to_owned();
    let replay = setting.agent.cli("replay", &[&id, "--json"]).unwrap();
    let open: serde_json::Value = serde_json::from_str(replay.lines().next().unwrap()).unwrap();
    assert_eq!(open["identity"]["token"]["kind"], "saml", "{open}");
    assert_eq!(open["identity"]["token"]["subject"], "job-4711", "{open}");
    // A newer one takes its place, and counts for as long as it says itself.
    let again = log_in(&of(&["session=900", "sign=both"])).success().unwrap();
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert!(again["until"].as_str() > said["until"].as_str(), "{again} {said}");
}
