//! The agent is killed, at any moment of whatever it does: who is managed stays closed, everybody else notices nothing, and
//! it can be started again.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tollgate_tests::agent::{Agent, workspace};
use tollgate_tests::cgroup::Cgroup;
use tollgate_tests::job;
use tollgate_tests::policy::Policy;
use tollgate_tests::process::eventually;

const LIMIT: Duration = Duration::from_secs(30);

/// Somebody who connects again and again, and ends as soon as that goes wrong.
struct Probe {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Probe {
    fn start(mut command: Command, arguments: &[&str]) -> Self {
        let script = std::fs::read_to_string(workspace().join("tests/client/probe.py")).unwrap();
        let mut child = command
            .args(["-c", &script])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, output }
    }

    /// Fails if it has ended, with what it says to that.
    fn is_content(&mut self, after: &str) {
        let runs = self.child.try_wait().unwrap().is_none();
        assert!(runs, "{after}: {}", self.last_words());
    }

    fn last_words(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// How often it was answered, and how often not.
    fn end(mut self) -> (u32, u32) {
        drop(self.child.stdin.take());
        let said = self.last_words();
        self.child.wait().unwrap();
        let counts: Vec<u32> = said
            .split_whitespace()
            .map(|count| count.parse().unwrap())
            .collect();
        (counts[0], counts[1])
    }
}

/// An agent, a server that it protects, and the probes.
struct Scene {
    agent: Agent,
    inside: Probe,
    outside: Probe,
    _cgroup: Cgroup,
    port: u16,
    policy: String,
}

impl Scene {
    fn start() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in server.incoming().flatten() {
                let mut stream = stream;
                // One that is gone already needs no answer.
                stream.write_all(b"direct").ok();
            }
        });
        let path = format!("/tollgate-test-kill-{}/job", std::process::id());
        let mut agent = Agent::prepare(&[]).unwrap();
        let secret = agent.secret("password", "p").unwrap();
        let policy = format!(
            "[workload]\nname = \"killed\"\ncgroup = [\"{path}\"]\n\n[[service]]\nname = \"mute\"\nprotocol = \"postgres\"\n\
             address = [\"127.0.0.1:{port}\"]\ntls = {{ upstream = \"disable\" }}\n\n[service.credential]\n\
             source = \"file\"\nuser = \"u\"\npassword = \"{}\"\n\n[[service.rule]]\nname = \"r\"\neffects = [\"read\"]\n\
             verdict = \"allow\"\n",
            secret.display()
        );
        agent.policy("killed", &Policy::from_text(&policy)).unwrap();
        let cgroup = Cgroup::create(&path).unwrap();
        agent.resume().unwrap();
        let port_text = port.to_string();
        let inside = job::command(&cgroup, "nobody", "python3");
        let inside = Probe::start(inside, &["inside", &port_text]);
        let outside = Probe::start(Command::new("python3"), &["outside", &port_text]);
        Self {
            agent,
            inside,
            outside,
            _cgroup: cgroup,
            port,
            policy,
        }
    }

    /// Kills the agent `after` a while, and sees whether everybody is content.
    fn kill(&mut self, what: &str, after: Duration) {
        let until = Instant::now() + after;
        // What is stepped through is time itself: there is no other condition for "in the middle of it".
        std::thread::sleep(until.saturating_duration_since(Instant::now()));
        self.agent.kill().unwrap();
        self.content(&format!("killed {after:?} into {what}"));
    }

    fn content(&mut self, after: &str) {
        self.inside.is_content(after);
        self.outside.is_content(after);
    }

    /// Starts it, and waits until it serves.
    fn restart(&mut self, after: &str) {
        self.agent
            .resume()
            .unwrap_or_else(|error| panic!("after {after}: {error:#}"));
        eventually("a session", LIMIT, || {
            let status = self.agent.cli("status", &["--json"]).ok()?;
            let status: serde_json::Value = serde_json::from_str(&status).ok()?;
            (status["total_sessions"].as_u64()? > 0).then_some(())
        })
        .unwrap();
        self.content(&format!("restarted after {after}"));
    }

    /// How long it takes from a start until it is ready.
    fn time_of_a_start(&mut self) -> Duration {
        self.agent.kill().unwrap();
        let begun = Instant::now();
        self.agent.resume().unwrap();
        begun.elapsed()
    }

    fn tollgate(&self, verb: &str) -> Child {
        self.agent
            .tollgate(verb)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// Steps of a stretch of time, the ends among them.
fn steps(stretch: Duration, count: u32) -> impl Iterator<Item = Duration> {
    (0..=count).map(move |step| stretch * step / count)
}

#[test]
fn killed_at_any_moment_it_leaves_managed_cgroups_closed_and_everybody_else_alone() {
    let mut scene = Scene::start();
    let start = scene.time_of_a_start();

    scene.agent.kill().unwrap();
    for after in steps(start, 12) {
        scene.agent.begin().unwrap();
        scene.kill("a start", after);
    }
    scene.restart("killed starts");

    // Addresses come and go, so that maps change.
    for (round, after) in steps(Duration::from_millis(120), 5).enumerate() {
        let addresses: Vec<_> = (0..50)
            .map(|n| format!("\"192.0.2.{n}:{}\"", 1000 + round))
            .collect();
        let addresses = format!(
            "address = [\"127.0.0.1:{}\", {}]",
            scene.port,
            addresses.join(", ")
        );
        let policy = scene
            .policy
            .replace(&format!("address = [\"127.0.0.1:{}\"]", scene.port), &addresses);
        scene.agent.policy("killed", &Policy::from_text(&policy)).unwrap();
        let mut reload = scene.tollgate("reload");
        scene.kill("a reload", after);
        reload.wait().unwrap();
        scene.restart("a killed reload");
    }

    for after in steps(Duration::from_millis(100), 3) {
        scene.agent.terminate().unwrap();
        scene.kill("a stop", after);
        scene.restart("a killed stop");
    }

    // A check, a hand-over and a start.
    for after in steps(start * 2 + start / 2, 7) {
        let mut upgrade = scene.tollgate("upgrade");
        scene.kill("an upgrade", after);
        // It would go on asking whether another version has come up.
        upgrade.kill().unwrap();
        upgrade.wait().unwrap();
        scene.restart("a killed upgrade");
    }

    let (answered, refused) = scene.inside.end();
    assert!(answered > 100 && refused > 100, "{answered} {refused}");
    let (answered, refused) = scene.outside.end();
    assert!(answered > 100 && refused == 0, "{answered} {refused}");
    scene.agent.cli("verify", &[]).unwrap();
}
