//! Requests of HTTP get a credential that their job never has: not before, not in what the target answers, not afterwards.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;

const LIMIT: Duration = Duration::from_secs(30);
/// What the agent has, with bytes that are written otherwise in JSON, in markup and in a URL.
const SECRET: &str = "injected-secret/5d1e&x+\"y";
/// What the job has: worth nothing, and a finding.
const OWN: &str = "own-token-of-the-job-77e2";
const PLACEHOLDER: &str = "tollgate-placeholder";
/// It is found wherever bytes of the job go, so a search can find something.
const CANARY: &str = "canary-of-the-job-50f1";

/// A server that says what it was sent, in forms that web frameworks have: as it is, in JSON, in base64.
struct Echo {
    port: u16,
    /// Heads and bodies, as they came.
    got: Arc<Mutex<Vec<String>>>,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&got);
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = Arc::clone(&seen);
                std::thread::spawn(move || while answer(&stream, &seen).is_some() {});
            }
        });
        Self { port, got }
    }

    fn last(&self) -> String {
        self.got.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn answer(stream: &TcpStream, seen: &Mutex<Vec<String>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some((_, rest)) = lower.split_once("content-length: ") {
        body.resize(rest.lines().next()?.trim().parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            chunk.truncate(size);
            body.extend_from_slice(&chunk);
            if size == 0 {
                break;
            }
        }
    }
    let got = format!("{head}{}", String::from_utf8_lossy(&body));
    seen.lock().unwrap().push(got.clone());
    let json = serde_json::Value::from(got.as_str()).to_string();
    let base64 = base64(got.as_bytes());
    let echo = format!("{got}\n{json}\n{base64}\n{}\n", hex(got.as_bytes()));
    let field = lower
        .lines()
        .find(|line| line.starts_with("authorization:") || line.starts_with("cookie:"))
        .and_then(|line| head.get(head.to_ascii_lowercase().find(line)?..)?.lines().next())
        .unwrap_or_default();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-Got: {field}\r\nContent-Length: {}\r\n\r\n",
        echo.len()
    )
    .ok()?;
    // In two pieces, so that the secret may be cut anywhere.
    let (first, second) = echo.as_bytes().split_at(echo.len() / 2);
    stream.write_all(first).ok()?;
    stream.flush().ok()?;
    stream.write_all(second).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

fn base64(bytes: &[u8]) -> String {
    let mut command = Command::new("base64");
    let mut child = command
        .arg("-w0")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

struct World {
    agent: Agent,
    job: Cgroup,
    echo: Echo,
}

impl World {
    /// `lines`: the rest of `[service.credential]`, whose token is [`SECRET`].
    fn start(lines: &str) -> Self {
        let echo = Echo::start();
        let job = Cgroup::create(&format!("/tollgate-test/credentials-{}", echo.port)).unwrap();
        let mut agent = Agent::prepare(&[]).unwrap();
        let secret = agent.secret("api", SECRET).unwrap();
        let policy = format!(
            r#"
[workload]
name   = "test-job"
cgroup = ["{}"]

[[service]]
name     = "api"
protocol = "http"
address  = ["127.0.0.1:{}"]
tls      = {{ upstream = "disable", client = "plain" }}

[service.credential]
source = "file"
token  = "{}"
{lines}

[[service.rule]]
name    = "everything that is understood"
effects = ["read", "write", "modify", "delete"]
verdict = "allow"
"#,
            job.path(),
            echo.port,
            secret.display()
        );
        agent.policy("test-job", &Policy::from_text(&policy)).unwrap();
        agent.resume().unwrap();
        Self { agent, job, echo }
    }

    /// `curl` in the job's cgroup; gives all that it was answered. What it sends is in a file: a command line is recorded.
    fn curl(&self, path: &str, options: &[(&str, &str)]) -> String {
        let mut config = tempfile::NamedTempFile::new().unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.echo.port);
        for (option, value) in options.iter().chain([&("url", url.as_str())]) {
            writeln!(config, "{option} = \"{value}\"").unwrap();
        }
        let readable = std::fs::Permissions::from_mode(0o644);
        std::fs::set_permissions(config.path(), readable).unwrap();
        let mut curl = job::command(&self.job, NOBODY, "curl");
        curl.args(["-s", "-i", "--max-time", "20", "-K"])
            .arg(config.path());
        job::run_within(&mut curl, LIMIT).unwrap().success().unwrap()
    }

    fn findings(&self) -> Vec<serde_json::Value> {
        let json = self.agent.cli("findings", &["list", "--json"]).unwrap();
        serde_json::from_str(&json).unwrap()
    }

    /// Fails if one of `secrets` is anywhere that the agent writes to or answers from.
    fn nowhere(&self, secrets: &[&str]) {
        eventually("all sessions to end", LIMIT, || {
            let sessions = self.agent.sessions().ok()?;
            sessions
                .iter()
                .all(|session| session["state"] != "open")
                .then_some(())
        })
        .unwrap();
        let mut places = vec![("log".to_owned(), self.agent.log().into_bytes())];
        let mut canary = false;
        for session in self.agent.sessions().unwrap() {
            let id = session["session"].as_str().unwrap().to_owned();
            let shown = self.agent.cli("replay", &[&id, "--json"]).unwrap();
            canary |= shown.contains(CANARY);
            places.push((id, shown.into_bytes()));
        }
        assert!(canary, "the records have what the job sent");
        for file in files(&self.agent.dir().join("state")) {
            let bytes = std::fs::read(&file).unwrap_or_default();
            places.push((file.display().to_string(), bytes));
        }
        for (place, bytes) in places {
            for secret in secrets {
                assert!(
                    memchr::memmem::find(&bytes, secret.as_bytes()).is_none(),
                    "{secret} is in {place}"
                );
            }
        }
    }
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found
}

/// What of the secret no answer may have, in whatever form: its middle, where the forms of what is around it do not reach.
fn forms() -> Vec<String> {
    let quoted = serde_json::Value::from(SECRET).to_string();
    let mut forms = vec![
        SECRET.to_owned(),
        quoted.trim_matches('"').to_owned(),
        hex(SECRET.as_bytes()),
        "injected-secret%2F5d1e%26x%2B%22y".to_owned(),
    ];
    for before in ["", "x", "xy"] {
        let encoded = base64(format!("{before}{SECRET}").as_bytes());
        forms.push(encoded[4..encoded.len() - 6].to_owned());
    }
    forms
}

fn lacks_the_secret(answer: &str) {
    for form in forms() {
        assert!(!answer.contains(&form), "{form} is in {answer}");
    }
    assert!(answer.contains("200 OK") && answer.contains("****"), "{answer}");
}

#[test]
fn a_bearer_token_is_the_agents_and_the_jobs_own_is_a_finding() {
    let world = World::start(&format!("placeholder = \"{PLACEHOLDER}\""));
    let own = format!("Authorization: Bearer {OWN}");
    let answer = world.curl(
        &format!("/v1?q={CANARY}"),
        &[
            ("header", &own),
            (
                "header",
                "Proxy-Authorization: Basic bWU6b3duLXBhc3N3b3JkLTEyMw==",
            ),
        ],
    );
    let got = world.echo.last();
    assert!(
        got.contains(&format!("uthorization: Bearer {SECRET}\r\n")),
        "{got}"
    );
    assert_eq!(
        got.to_ascii_lowercase().matches("authorization:").count(),
        1,
        "{got}"
    );
    assert!(!got.contains(OWN), "{got}");
    lacks_the_secret(&answer);
    let found = world.findings();
    let places: Vec<&str> = found
        .iter()
        .filter_map(|finding| finding["where"].as_str().or(finding["at"].as_str()))
        .collect();
    assert_eq!(found.len(), 2, "{found:?} {places:?}");
    let worthless = format!("Authorization: Bearer {PLACEHOLDER}");
    lacks_the_secret(&world.curl("/v1", &[("header", &worthless)]));
    assert_eq!(world.findings().len(), 2, "a placeholder is none");
    let mut secrets = forms();
    secrets.extend([OWN.to_owned(), "own-password-123".to_owned()]);
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    world.nowhere(&secrets);
}

#[test]
fn a_parameter_or_a_header_of_the_apis_own_or_basic_authentication_is_put_in_and_masked() {
    let basic = base64(format!("x-access-token:{SECRET}").as_bytes());
    for (inject, query, sent, wanted) in [
        (
            "{ query = \"key\" }",
            "&%6bey=own-token-of-the-job-77e2",
            vec![],
            "&key=injected-secret%2F5d1e%26x%2B%22y HTTP/1.1".to_owned(),
        ),
        (
            "{ header = \"X-Api-Key\" }",
            "",
            vec![("header", "x_api_key: own-token-of-the-job-77e2")],
            format!("-key: {SECRET}\r\n"),
        ),
        (
            "{ basic = \"x-access-token\" }",
            "",
            vec![("user", "me:own-token-of-the-job-77e2")],
            format!("uthorization: Basic {basic}\r\n"),
        ),
    ] {
        let world = World::start(&format!("inject = {inject}"));
        let answer = world.curl(&format!("/v1?q={CANARY}{query}"), &sent);
        let got = world.echo.last();
        assert!(got.contains(&wanted), "{inject}: {got}");
        assert!(!got.contains(OWN), "{got}");
        lacks_the_secret(&answer);
        let mut secrets = forms();
        secrets.extend([OWN.to_owned(), basic[8..basic.len() - 8].to_owned()]);
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        world.nowhere(&secrets);
    }
}

#[test]
fn a_placeholder_in_the_body_of_a_login_is_replaced_and_elsewhere_stays() {
    let world = World::start(&format!(
        "inject = \"placeholder\"\nplaceholder = {{ text = \"{PLACEHOLDER}\", bodies = [\"/oauth/*\"] }}"
    ));
    let body = format!("client_secret={PLACEHOLDER}&q={CANARY}");
    let answer = world.curl("/oauth/token", &[("data", &body)]);
    let got = world.echo.last();
    assert!(
        got.ends_with(&format!(
            "client_secret=injected-secret%2F5d1e%26x%2B%22y&q={CANARY}"
        )),
        "{got}"
    );
    lacks_the_secret(&answer);
    world.curl("/notes", &[("data", &body)]);
    assert!(world.echo.last().ends_with(&body));
    let secrets = forms();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    world.nowhere(&secrets);
}
