//! HTTPS of jobs is looked into: by real clients and a real server, in both versions of HTTP.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, Ended, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{Service, eventually, free_port, run};
use tollgate_tests::scratch::Scratch;

const LIMIT: Duration = Duration::from_secs(20);
/// What the server asks for, and no job has.
const TOKEN: &str = "token-of-the-api-9c41";
/// What no job gets to see.
const EMAIL: &str = "ada@acme.test";

/// nginx with TLS, an agent in front of it, and a job. Fields are dropped in this order.
struct Web {
    agent: Agent,
    job: Cgroup,
    _server: Service,
    scratch: Scratch,
    port: u16,
}

impl Web {
    /// `authority`: the file beside nginx's that the policy trusts.
    fn start(name: &str, authority: &str) -> Self {
        let scratch = Scratch::new("web").unwrap();
        let port = free_port().unwrap();
        for certificate in ["server", "stranger"] {
            certify(&scratch, certificate);
        }
        let dir = scratch.path().display();
        let config = format!(
            r#"
daemon off;
master_process off;
pid {dir}/pid;
error_log {dir}/error.log;
events {{}}
http {{
    log_format seen '$request_method $uri $server_protocol';
    access_log {dir}/access.log seen;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    gzip on;
    gzip_min_length 1;
    gzip_types application/json;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {dir}/server.crt;
        ssl_certificate_key {dir}/server.key;
        default_type application/json;
        if ($http_authorization != "Bearer {TOKEN}") {{ return 401 "no token\n"; }}
        location / {{
            if ($http_x_coded) {{ add_header Content-Encoding br always; return 200 'what nobody can search'; }}
            return 200 '{{"id": 7, "email": "{EMAIL}", "path": "$uri"}}';
        }}
    }}
}}
"#
        );
        let path = scratch.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&path);
        let server = Service::start("nginx", &mut command, &scratch.path().join("nginx.log")).unwrap();
        eventually("nginx to listen", LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })
        .unwrap();
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
        let bundle = scratch.path().join("ca.pem");
        std::fs::write(&bundle, agent.cli("ca", &["--pem"]).unwrap()).unwrap();
        for (path, mode) in [(scratch.path(), 0o755), (bundle.as_path(), 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        Self {
            agent,
            job,
            _server: server,
            scratch,
            port,
        }
    }

    /// curl in the job, which trusts the host's authority alone.
    fn curl(&self, host: &str, args: &[&str]) -> Ended {
        let mut command = job::command(&self.job, NOBODY, "curl");
        command
            .args(["--silent", "--show-error", "--max-time", "15", "--cacert"])
            .arg(self.scratch.path().join("ca.pem"))
            .arg(format!("https://{host}:{}/users/7", self.port))
            .args(args);
        job::run_within(&mut command, LIMIT).unwrap()
    }

    /// What nginx has answered.
    fn seen(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.scratch.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// A certificate for `localhost` that vouches for itself.
fn certify(scratch: &Scratch, name: &str) {
    let path = |kind: &str| scratch.path().join(format!("{name}.{kind}"));
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
    .unwrap();
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
    let seen = web.seen();
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
    assert!(web.seen().is_empty());
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
    let resolve = format!("other.test:{}:127.0.0.1", web.port);
    let told = web.curl("other.test", &["--resolve", &resolve]);
    assert_eq!(told.code, Some(35), "{told:?}");
    assert!(web.seen().is_empty());
}
