//! Where an issuer gives nothing, a request of HTTP is answered in the target's place, and the session's record says why: never what
//! the issuer said besides.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job::{self, NOBODY};
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{eventually, free_port, run};

const LIMIT: Duration = Duration::from_secs(20);
/// In what is shown to issuers, and in what they say.
const SECRET: &str = "hunter2-8c41";

/// An issuer that refuses everybody, and says more than it should. It goes with the test's process.
fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) < 3 {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok();
            let answer = format!("{{\"error\":\"access_denied\",\"message\":\"{SECRET}\"}}");
            let head = format!(
                "HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
                answer.len()
            );
            reader.into_inner().write_all(head.as_bytes()).ok();
        }
    });
    address
}

/// Each source, as a policy has it, with `{issuer}`, `{secret}` and `{key}` in it.
const SOURCES: &[(&str, &str)] = &[
    (
        "oauth2",
        "grant_type = \"client_credentials\"\nclient_id = \"tollgate\"\nclient_secret = { file = \"{secret}\" }\n\
         endpoint = \"http://{issuer}/token\"",
    ),
    (
        "github-app",
        "app_id = 123456\napp_key = { file = \"{key}\" }\ninstallation = 4711\nrepositories = [\"report\"]\n\
         permissions = { contents = \"read\" }\nendpoint = \"http://{issuer}/api/v3\"",
    ),
    (
        "aws",
        "region = \"eu-central-1\"\nrole_arn = \"arn:aws:iam::123456789012:role/report\"\n\
         keys = { access_key_id = \"AKIATOLLGATETEST\", secret_access_key = { file = \"{secret}\" } }\n\
         endpoint = \"http://{issuer}\"",
    ),
];

#[test]
fn where_an_issuer_gives_nothing_the_record_says_why_and_repeats_nothing() {
    let mut agent = Agent::prepare(&[]).unwrap();
    let secret = agent.secret("secret", SECRET).unwrap();
    let key = run(Command::new("openssl").args(["genrsa", "2048"])).unwrap();
    let key = agent.secret("key", &key).unwrap();
    let slice = format!("/tollgate-issuers-{}", std::process::id());
    let (down, refuses) = (
        format!("127.0.0.1:{}", free_port().unwrap()),
        refusing().to_string(),
    );
    let mut policy =
        format!("[workload]\nname = \"issuers\"\ncgroup = [\"{slice}/job\"]\negress = \"deny\"\n");
    let mut cases = Vec::new();
    for (source, lines) in SOURCES {
        for (issuer, why) in [(&down, "cannot be reached"), (&refuses, "refused with 403")] {
            // Nothing is asked of the target.
            let target = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = target.local_addr().unwrap();
            let name = format!("{source}-{}", cases.len());
            let lines = lines
                .replace("{issuer}", issuer)
                .replace("{secret}", &secret.display().to_string())
                .replace("{key}", &key.display().to_string());
            policy.push_str(&format!(
                "\n[[service]]\nname = \"{name}\"\nprotocol = \"http\"\naddress = [\"{address}\"]\n\
                 tls = {{ upstream = \"disable\", client = \"plain\" }}\n[service.credential]\nsource = \"{source}\"\n{lines}\n\
                 [[service.rule]]\nname = \"reads\"\nmethods = [\"GET\"]\nverdict = \"allow\"\n"
            ));
            cases.push((name, *source, why, target));
        }
    }
    agent.policy("issuers", &Policy::from_text(&policy)).unwrap();
    agent.resume().unwrap();
    let job = Cgroup::create(&format!("{slice}/job")).unwrap();
    for (name, source, why, target) in cases {
        let mut curl = job::command(&job, NOBODY, "curl");
        curl.args(["--silent", "--show-error", "--include", "--max-time", "15"])
            .arg(format!("http://{}/v1/users", target.local_addr().unwrap()));
        let ended = job::run_within(&mut curl, LIMIT).unwrap();
        assert!(
            ended.stdout.starts_with("HTTP/1.1 5"),
            "{name}: {ended:?}\n{}",
            agent.log()
        );
        let closed = || {
            let sessions = agent.sessions().ok()?;
            let of_it = |session: &&serde_json::Value| {
                session["open"]["service"] == name.as_str() && session["state"] != "open"
            };
            Some(sessions.iter().find(of_it)?["session"].as_str()?.to_owned())
        };
        let session = eventually("its session to be recorded", LIMIT, closed)
            .unwrap_or_else(|error| panic!("{name}: {error:#}\n{}", agent.log()));
        let shown = agent.cli("replay", &[&session]).unwrap();
        assert!(
            shown.contains(&format!("no credential ({source})")) && shown.contains(why),
            "{name}: {shown}"
        );
        for text in [&shown, &ended.stdout, &agent.log()] {
            assert!(!text.contains(SECRET), "{name}: {text}");
        }
    }
}
