//! QUIC to a protected destination is refused in a way that real clients understand: they come by TCP at once.

use std::process::Command;
use std::time::Duration;

use tollgate_tests::agent::Agent;
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::driver;
use tollgate_tests::job;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::{Service, free_port, run};
use tollgate_tests::scratch::Scratch;

const SERVER: &str = r#"
import http.server, socket, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *_): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
server.socket = context.wrap_socket(server.socket, server_side=True)
# Datagrams are taken here, and nothing is said: whoever waits for an answer waits in vain.
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", int(sys.argv[1])))
print("serving", flush=True)
server.serve_forever()
"#;

/// libcurl with ngtcp2: once HTTP/3 with TCP to fall back on, once HTTP/3 alone. How it ended, and after how long.
const CLIENT: &str = r#"
import sys, time
from curl_cffi import requests
for version in ("v3", "v3only"):
    started = time.monotonic()
    try:
        answer = requests.get(sys.argv[1], http_version=version, verify=False, timeout=20).text
    except Exception as error:
        answer = "failed"
        print(error, file=sys.stderr)
    print(version, answer, "at once" if time.monotonic() - started < 1.5 else "late")
"#;

/// A client that sends datagrams without `connect()`, as QUIC libraries with a socket for many peers do.
const UNCONNECTED: &str = r#"
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
try:
    s.sendto(bytes(1200), ("127.0.0.1", int(sys.argv[1])))
    print("sent")
except OSError as error:
    print(type(error).__name__)
"#;

#[test]
fn a_client_of_http_3_falls_back_to_tcp_at_once() {
    let scratch = Scratch::new("quic").unwrap();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    run(Command::new("openssl").args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=web.acme.test",
        "-keyout",
        &path("key"),
        "-out",
        &path("cert"),
    ]))
    .unwrap();
    let port = free_port().unwrap();
    let mut server = Command::new("python3");
    server.args(["-c", SERVER, &port.to_string(), &path("cert"), &path("key")]);
    let mut server = Service::start("https server", &mut server, &scratch.path().join("server.log")).unwrap();
    server
        .wait_for("it to serve", Duration::from_secs(20), |output| {
            output.contains("serving")
        })
        .unwrap();
    let slice = format!("/tollgate-test-quic-{}", std::process::id());
    let policy = format!(
        "[workload]\nname = \"web-job\"\ncgroup = [\"{slice}/job\"]\n\
         [[service]]\nname = \"web\"\nprotocol = \"opaque\"\naddress = [\"127.0.0.1:{port}\"]\n"
    );
    let agent = Agent::start(&[("web-job", Policy::from_text(&policy))]).unwrap();
    let cgroup = Cgroup::create(&format!("{slice}/job")).unwrap();
    let run_inside = |script: &str, argument: String| {
        let mut job = job::command(&cgroup, "root", &driver::python().display().to_string());
        job::run_within(job.args(["-c", script, &argument]), Duration::from_mins(1)).unwrap()
    };
    let ended = run_inside(CLIENT, format!("https://127.0.0.1:{port}/"));
    assert_eq!(
        ended.stdout,
        "v3 ok at once\nv3only failed at once\n",
        "{ended:?}\n{}",
        agent.log()
    );
    // By way of the agent, and the refusal with who was refused.
    assert!(
        agent
            .sessions()
            .unwrap()
            .iter()
            .any(|session| session["open"]["service"] == "web")
    );
    assert!(agent.log().contains("ProtocolRefused"), "{}", agent.log());
    let ended = run_inside(UNCONNECTED, port.to_string());
    assert_eq!(ended.stdout.trim(), "PermissionError", "{ended:?}");
    assert!(agent.log().contains("DatagramRefused"), "{}", agent.log());
}
