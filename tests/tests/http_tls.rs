//! HTTPS of jobs is looked into: by real clients and a real server, in both versions of HTTP.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::nginx::Nginx;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::run;

const LIMIT: Duration = Duration::from_secs(20);
/// What the server asks for, and no job has.
const TOKEN: &str = "token-of-the-api-9c41";
/// What no job gets to see.
const EMAIL: &str = "ada@acme.test";

/// The server: an API that wants a token, and does not always heed what codings it may use.
const API: &str = r#"
gzip on;
gzip_min_length 1;
gzip_types application/json;
server {
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {dir}/server.crt;
    ssl_certificate_key {dir}/server.key;
    default_type application/json;
    if ($http_authorization != "Bearer token-of-the-api-9c41") { return 401 "no token\n"; }
    location / {
        if ($http_x_coded) { add_header Content-Encoding br always; return 200 'what nobody can search'; }
        return 200 '{"id": 7, "email": "ada@acme.test", "path": "$uri"}';
    }
}
"#;

/// nginx with TLS, an agent in front of it, and a job. Fields are dropped in this order.
struct Web {
    agent: Agent,
    job: Cgroup,
    server: Nginx,
}

impl Web {
    /// `authority`: the file beside nginx's that the policy trusts.
    fn start(name: &str, authority: &str) -> Self {
        let server = Nginx::start(API, |dir| {
            certify(dir, "server")?;
            certify(dir, "stranger")
        })
        .unwrap();
        let (dir, port) = (server.dir().display(), server.port());
        let slice = format!("/tollgate-test-{name}-{}", std::process::id());
        let mut agent = Agent::prepare(&[]).unwrap();
        let token = agent.secret("api", TOKEN).unwrap();
        let policy = format!(
            r#"
[workload]
name   = "web-job"
cgroup = ["{slice}/job"]
egress = "allow"

[[service]]
name     = "web"
protocol = "http"
address  = ["localhost:{port}"]
tls      = {{ upstream = "verify-full", ca = "{dir}/{authority}.crt" }}

[service.credential]
source = "file"
token  = "{}"

[[service.mask]]
keys = ["email"]
with = "redact"

[[service.rule]]
name    = "reads"
methods = ["GET", "HEAD"]
verdict = "allow"
"#,
            token.display()
        );
        agent.policy("web-job", &Policy::from_text(&policy)).unwrap();
        agent.resume().unwrap();
        let job = Cgroup::create(&format!("{slice}/job")).unwrap();
        let bundle = server.dir().join("ca.pem");
        std::fs::write(&bundle, agent.cli("ca", &["--pem"]).unwrap()).unwrap();
        for (path, mode) in [(server.dir(), 0o755), (bundle.as_path(), 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Self { agent, job, server }
    }

    /// curl in the job, which trusts the host's authority alone.
    fn curl(&self, host: &str, args: &[&str]) -> Ended {
        let mut command = job::command(&self.job, NOBODY, "curl");
        command
            .args(["--silent", "--show-error", "--max-time", "15", "--cacert"])
            .arg(self.server.dir().join("ca.pem"))
            .arg(format!("https://{host}:{}/users/7", self.server.port()))
            .args(args);
        job::run_within(&mut command, LIMIT).unwrap()
    }
}

/// A certificate for `localhost` that vouches for itself.
fn certify(dir: &Path, name: &str) -> Result<()> {
    let path = |kind: &str| dir.join(format!("{name}.{kind}"));
    run(Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ])
        .args([
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(path("key"))
        .arg("-out")
        .arg(path("crt")))
    .map(drop)
}

#[test]
fn each_version_of_http_is_spoken_to_the_end_with_a_credential_a_mask_and_a_refusal() {
    let web = Web::start("tls", "server");
    for (version, number) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for compressed in ["--compressed", "--no-alpn"] {
            if (version, compressed) == ("--http2", "--no-alpn") {
                continue;
            }
            let told = web.curl(
                "localhost",
                &[
                    version,
                    compressed,
                    "--write-out",
                    " %{http_version} %{http_code}",
                ],
            );
            assert!(
                told.stdout.ends_with(&format!(" {number} 200")),
                "{told:?}\n{}",
                web.agent.log()
            );
            assert!(told.stdout.contains("\"id\": 7"), "{told:?}");
            assert!(!told.stdout.contains("ada"), "{told:?}");
        }
        let refused = web.curl(
            "localhost",
            &[
                version,
                "-X",
                "DELETE",
                "--write-out",
                " %{http_version} %{http_code}",
            ],
        );
        assert!(refused.stdout.ends_with(&format!(" {number} 403")), "{refused:?}");
        assert!(refused.stdout.contains("\"status\":403"), "{refused:?}");
    }
    let seen = web.server.seen();
    assert!(seen.contains(&"GET /users/7 HTTP/1.1".to_owned()), "{seen:?}");
    assert!(seen.contains(&"GET /users/7 HTTP/2.0".to_owned()), "{seen:?}");
    assert!(!seen.iter().any(|line| line.starts_with("DELETE")), "{seen:?}");

    let sessions = web.agent.sessions().unwrap();
    let mut shown = String::new();
    for session in &sessions {
        let id = session["session"].as_str().unwrap();
        shown.push_str(&web.agent.cli("replay", &[id]).unwrap());
        web.agent.cli("verify", &[id]).unwrap();
        let har = web.agent.cli("export", &[id]).unwrap();
        let har: serde_json::Value = serde_json::from_str(&har).unwrap();
        assert_eq!(har["log"]["version"], "1.2");
    }
    assert!(shown.contains("/users/7"), "{shown}");
    assert!(!shown.contains(TOKEN) && !shown.contains(EMAIL), "{shown}");
}

#[test]
fn a_server_that_the_policy_does_not_trust_gets_nothing_and_the_job_is_told_why() {
    let web = Web::start("tls-stranger", "stranger");
    let told = web.curl("localhost", &["--write-out", " %{http_code}"]);
    assert!(told.stdout.ends_with(" 502"), "{told:?}\n{}", web.agent.log());
    assert!(web.server.seen().is_empty());
}

#[test]
fn an_answer_that_cannot_be_searched_for_the_credential_does_not_pass() {
    let web = Web::start("tls-coded", "server");
    let told = web.curl("localhost", &["-H", "X-Coded: 1", "--write-out", " %{http_code}"]);
    assert!(told.stdout.ends_with(" 502"), "{told:?}");
    assert!(told.stdout.contains("Accept-Encoding: identity"), "{told:?}");
    assert!(!told.stdout.contains("what nobody"), "{told:?}");
}

#[test]
fn a_name_that_no_service_has_is_refused_in_the_handshake() {
    let web = Web::start("tls-name", "server");
    let resolve = format!("other.test:{}:127.0.0.1", web.server.port());
    let told = web.curl("other.test", &["--resolve", &resolve]);
    assert_eq!(told.code, Some(35), "{told:?}");
    assert!(web.server.seen().is_empty());
}
