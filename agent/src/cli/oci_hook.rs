//! `tollgate oci-hook`: the agent listens in a container's network namespace before the container's first process runs.
//!
//! Nothing is open without it: the first connect in a new namespace waits for the agent, or is refused. So what is not known
//! to concern a policy is let start, whatever is broken; what is known to, and cannot be served, is not.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::ask::{Socket, unexpected};
use super::text::one_line;
use crate::config::{AgentConfig, PolicyErrors};
use crate::control::{Client, ControlError, Request, Response};
use crate::identity::OciState;
use crate::kernel::process::ProcessDirectory;
use crate::kernel::{ProcessStanding, standing_by_pins};
use crate::model::CgroupPath;

/// Have the agent ready in a container before the container's first process starts
///
/// Container runtimes run this as a hook at `createRuntime` (OCI runtime specification), with the container's state on
/// standard input. If the container's cgroup is under a policy, the agent is told to listen in the container's network
/// namespace; when it does, the hook ends and the container starts. For other containers it ends at once and says nothing,
/// whether an agent runs or not: what is pinned in the kernel tells whom a policy concerns.
///
/// Where a policy asks for a container's image or labels, the agent is told what the runtime says of it, or asks Docker or
/// Podman, before the container starts.
///
/// A container that a policy concerns is not started where no agent answers, or the agent cannot listen: its connections
/// would be refused. Without this hook nothing is open either: the first connection then waits for the agent.
///
/// Needs root. For podman and CRI-O, packaging/tollgate-oci-hook.json goes to /etc/containers/oci/hooks.d.
#[derive(Clone, Debug, clap::Args)]
#[command(after_long_help = "\
Exit codes: 0 the container may start, 1 it must not, 2 the state is none or the agent cannot be asked, 3 no agent is running.

Examples:
  podman run --hooks-dir /etc/containers/oci/hooks.d --cgroup-parent /jobs.slice IMAGE
  echo '{\"ociVersion\":\"1.0.2\",\"id\":\"try\",\"status\":\"creating\",\"pid\":4711,\"bundle\":\"/\"}' | tollgate oci-hook")]
pub(super) struct Args {
    /// How long the agent may take, if a policy concerns the container; longer than a restart of the agent
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    limit: u64,
    #[command(flatten)]
    socket: Socket,
}

/// The state of a container, as far as it matters here.
#[derive(Debug, Deserialize)]
struct State {
    id: String,
    #[serde(default)]
    pid: u32,
    /// Where its `config.json` is.
    #[serde(default)]
    bundle: PathBuf,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// What matters of a bundle's `config.json`.
#[derive(Debug, Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

/// What is known of a container before the agent is asked.
#[derive(Debug)]
enum Known {
    /// No policy concerns it.
    Free,
    /// A policy concerns this cgroup, or may.
    Concerned(CgroupPath),
    /// Nothing is pinned: no agent has run here, or one whose pins are elsewhere.
    NoPins,
    /// It cannot be found out; a sentence says why.
    Unknown(String),
}

/// What came of asking the agent.
#[derive(Debug)]
enum Answer {
    /// It may start.
    Ready,
    /// A policy concerns it, and the agent cannot listen there; why.
    Unready(String),
    /// The agent did not say; why.
    Silent(ControlError),
    /// It does not answer such a question; what it said.
    Refused(String),
    /// It did not answer in time.
    Late,
}

/// What becomes of the container.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Start,
    StartAndSay(String),
    Stop { code: u8, why: String },
}

/// Where syslog(3) writes.
const SYSLOG: &str = "/dev/log";

/// Facility "daemon", severity "warning" (RFC 3164 §4.1.1).
const WARNING: u8 = 3 * 8 + 4;

const MUST_NOT: u8 = 1;
const FAILED: u8 = 2;
const NOT_RUNNING: u8 = 3;

/// After which time an agent is asked again that did not answer: it is being restarted, or replaced.
const AGAIN: Duration = Duration::from_millis(50);

/// Longer than any state: annotations are in it.
const LONGEST_STATE: u64 = 4 * 1024 * 1024;

/// Runs the verb.
pub(super) async fn run(args: Args, config: Result<AgentConfig, PolicyErrors>) -> ExitCode {
    // A fault in the agent's own file must not keep every container of the host from starting.
    let config = config.unwrap_or_else(|error| {
        say(&format!("{error}; looking for the agent in its usual place"));
        AgentConfig::default()
    });
    let state = match read_state(io::stdin().lock()) {
        Ok(state) => state,
        Err(error) => {
            say(&format!(
                "standard input is not the state of a container that is being made ({error}): this is a hook for \
                 `createRuntime`, to be run by a container runtime"
            ));
            return ExitCode::from(FAILED);
        }
    };
    let known = look(&config.pin_dir, state.pid);
    let outcome = match known {
        Known::Free => Outcome::Start,
        known => {
            let socket = args.socket.socket.as_deref().unwrap_or(&config.control_socket);
            let limit = Duration::from_secs(args.limit);
            let answer = ask(socket, state.pid, &said(&state), limit, &known).await;
            decide(&known, answer)
        }
    };
    match outcome {
        Outcome::Start => ExitCode::SUCCESS,
        Outcome::StartAndSay(what) => {
            say(&what);
            ExitCode::SUCCESS
        }
        Outcome::Stop { code, why } => {
            say(&format!(
                "container {} is not started: {why}",
                one_line(&state.id)
            ));
            ExitCode::from(code)
        }
    }
}

/// To the runtime, and to the host's log: some runtimes tell nothing of a hook but that it failed.
fn say(what: &str) {
    // Nothing is left to tell it to, if this fails.
    let _unheard = writeln!(io::stderr(), "tollgate: {what}");
    if let Ok(log) = UnixDatagram::unbound()
        && log.set_nonblocking(true).is_ok()
    {
        // A host without such a log has the runtime's.
        let _unheard = log.send_to(format!("<{WARNING}>tollgate: {what}").as_bytes(), SYSLOG);
    }
}

fn read_state(input: impl io::Read) -> io::Result<State> {
    let mut text = Vec::new();
    input.take(LONGEST_STATE).read_to_end(&mut text)?;
    let state: State = serde_json::from_slice(&text)?;
    if state.pid == 0 {
        return Err(io::Error::other("it names no process"));
    }
    Ok(state)
}

/// What the runtime says of the container. A bundle that cannot be read says nothing: the agent then says what it lacks.
fn said(state: &State) -> OciState {
    let config = state.bundle.join("config.json");
    let bundle: Option<Bundle> = File::open(config).ok().and_then(|file| {
        let mut text = Vec::new();
        file.take(LONGEST_STATE).read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    });
    let mut annotations = bundle.and_then(|bundle| bundle.annotations).unwrap_or_default();
    annotations.extend(state.annotations.clone());
    let mut said = OciState {
        id: state.id.clone(),
        annotations,
    };
    if said.shorten() {
        say("the container has too many annotations; only those of its engine are told the agent");
    }
    said
}

fn look(pin_dir: &Path, pid: u32) -> Known {
    let cgroup = match ProcessDirectory::open(pid).and_then(|process| process.cgroup()) {
        Ok(cgroup) => cgroup,
        Err(error) => return Known::Unknown(format!("process {pid} cannot be looked at: {error}")),
    };
    match standing_by_pins(pin_dir, &cgroup) {
        Ok(Some(ProcessStanding::Free)) => Known::Free,
        Ok(Some(ProcessStanding::Managed(_) | ProcessStanding::Pending)) => Known::Concerned(cgroup),
        Ok(None) => Known::NoPins,
        Err(error) => Known::Unknown(error.to_string()),
    }
}

/// Asks until there is an answer, if a policy concerns the container; else once.
async fn ask(socket: &Path, pid: u32, state: &OciState, limit: Duration, known: &Known) -> Answer {
    let until = Instant::now() + limit;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let answer = tokio::time::timeout(left, ask_once(socket, pid, state)).await;
        let again = matches!(known, Known::Concerned(_)) && Instant::now() + AGAIN < until;
        match answer {
            Ok(Ok(Response::Prepared { .. })) => return Answer::Ready,
            Ok(Ok(Response::Unprepared { message })) => return Answer::Unready(message),
            // Others may have all the connections that root gets.
            Ok(Ok(Response::Refused { .. })) if again => {}
            Ok(Ok(Response::Refused { message })) => return Answer::Refused(message),
            Ok(Ok(_)) => return Answer::Refused(unexpected().to_string()),
            Ok(Err(ControlError::NotRunning { .. } | ControlError::Closed | ControlError::Broken { .. }))
                if again => {}
            Ok(Err(error)) => return Answer::Silent(error),
            Err(_) => return Answer::Late,
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn ask_once(socket: &Path, pid: u32, state: &OciState) -> Result<Response, ControlError> {
    Client::connect(socket)
        .await?
        .ask(&Request::Prepare {
            pid,
            state: Some(state.clone()),
        })
        .await
}

fn decide(known: &Known, answer: Answer) -> Outcome {
    let (code, why) = match answer {
        Answer::Ready => return Outcome::Start,
        Answer::Unready(why) => {
            return Outcome::Stop {
                code: MUST_NOT,
                why: format!("a policy concerns it, and the agent cannot serve it: {why}"),
            };
        }
        Answer::Silent(error) => {
            let code = match error {
                ControlError::NotRunning { .. } => NOT_RUNNING,
                _ => FAILED,
            };
            (code, error.to_string())
        }
        Answer::Refused(message) => (FAILED, format!("the agent says: {}", one_line(&message))),
        Answer::Late => (
            FAILED,
            "the agent does not answer; see `systemctl status tollgate`".to_owned(),
        ),
    };
    match known {
        Known::Concerned(cgroup) => Outcome::Stop {
            code,
            why: format!(
                "a policy concerns its cgroup {}, and its connections would be refused: {why}",
                one_line(cgroup.as_str())
            ),
        },
        // Where nothing is pinned, nothing is managed.
        Known::Free | Known::NoPins if code == NOT_RUNNING => Outcome::Start,
        Known::Free | Known::NoPins => Outcome::StartAndSay(format!(
            "whether a policy concerns this container is not known, and it is started: {why}"
        )),
        Known::Unknown(unknown) => Outcome::StartAndSay(format!(
            "whether a policy concerns this container is not known, and it is started: {unknown}; {why}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::approval::Holds;
    use crate::control::{AgentStatus, ControlHandler, EgressListing, LiveSession, Server};

    #[test]
    fn the_state_has_to_name_a_process() {
        let podmans =
            br#"{"ociVersion":"1.0.2-dev","id":"b209","status":"creating","pid":14715,"bundle":"/b",
            "annotations":{"io.container.manager":"libpod"}}"#;
        let state = read_state(&podmans[..]).unwrap();
        assert_eq!((state.id.as_str(), state.pid), ("b209", 14715));
        for wrong in [
            &b""[..],
            b"{}",
            b"4711",
            br#"{"id":"a"}"#,
            br#"{"id":"a","pid":0}"#,
            br#"{"id":"a","pid":-1}"#,
        ] {
            assert!(read_state(wrong).is_err(), "{}", String::from_utf8_lossy(wrong));
        }
    }

    /// What stops a container, and what must not.
    #[test]
    fn only_what_is_known_to_concern_a_policy_is_stopped() {
        let concerned = || Known::Concerned(CgroupPath("/jobs/one".into()));
        let unknown = || Known::Unknown("the pins are another's".to_owned());
        let not_running = || {
            Answer::Silent(ControlError::NotRunning {
                path: PathBuf::from("/s"),
            })
        };
        let not_allowed = || {
            Answer::Silent(ControlError::NotAllowed {
                path: PathBuf::from("/s"),
            })
        };
        let stopped = |code| Some(Some(code));
        let started = None;
        let started_with_a_word = Some(None);
        for (known, answer, expected) in [
            (concerned(), Answer::Ready, started),
            (concerned(), not_running(), stopped(NOT_RUNNING)),
            (concerned(), not_allowed(), stopped(FAILED)),
            (concerned(), Answer::Late, stopped(FAILED)),
            (concerned(), Answer::Refused("no".to_owned()), stopped(FAILED)),
            (
                concerned(),
                Answer::Unready("no room".to_owned()),
                stopped(MUST_NOT),
            ),
            (Known::NoPins, not_running(), started),
            (Known::NoPins, Answer::Ready, started),
            (
                Known::NoPins,
                Answer::Unready("no room".to_owned()),
                stopped(MUST_NOT),
            ),
            (Known::NoPins, not_allowed(), started_with_a_word),
            (unknown(), Answer::Ready, started),
            (unknown(), not_running(), started_with_a_word),
            (unknown(), not_allowed(), started_with_a_word),
            (unknown(), Answer::Late, started_with_a_word),
            (
                unknown(),
                Answer::Unready("no room".to_owned()),
                stopped(MUST_NOT),
            ),
        ] {
            let what = format!("{known:?} {answer:?}");
            let outcome = match decide(&known, answer) {
                Outcome::Start => None,
                Outcome::StartAndSay(_) => Some(None),
                Outcome::Stop { code, .. } => Some(Some(code)),
            };
            assert_eq!(outcome, expected, "{what}");
        }
        let Outcome::Stop { why, .. } = decide(&concerned(), not_running()) else {
            panic!("started")
        };
        assert!(
            why.contains("/jobs/one") && why.contains("systemctl start tollgate"),
            "{why}"
        );
    }

    /// Says that it is ready for every process but 1.
    #[derive(Default)]
    struct Agent(AtomicU32);

    impl ControlHandler for Agent {
        fn status(&self) -> AgentStatus {
            unreachable!("not asked")
        }

        fn sessions(&self) -> Vec<LiveSession> {
            Vec::new()
        }

        fn egress(&self) -> Result<EgressListing, String> {
            Err("not asked".to_owned())
        }

        fn is_managed(&self, _pid: u32) -> bool {
            true
        }

        fn prepare(
            &self,
            asker: u32,
            pid: u32,
            _state: Option<OciState>,
        ) -> std::pin::Pin<Box<dyn Future<Output = Response> + Send + '_>> {
            assert_eq!(asker, std::process::id());
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match pid {
                    1 => Response::Unprepared {
                        message: "no".to_owned(),
                    },
                    _ => Response::Prepared { workload: None },
                }
            })
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_being_restarted_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let concerned = Known::Concerned(CgroupPath("/jobs/one".into()));
        let second = Duration::from_secs(1);
        let nothing = OciState::default();
        let gone = ask(&socket, 7, &nothing, second / 10, &concerned).await;
        assert!(
            matches!(gone, Answer::Silent(ControlError::NotRunning { .. })),
            "{gone:?}"
        );
        let gone = ask(&socket, 7, &nothing, 60 * second, &Known::NoPins).await;
        assert!(
            matches!(gone, Answer::Silent(ControlError::NotRunning { .. })),
            "{gone:?}"
        );

        let asked = ask(&socket, 7, &nothing, 60 * second, &concerned);
        let agent = Arc::new(Agent::default());
        // Polled second: by then the socket has been looked for in vain.
        let starts = async {
            let server = Server::bind(&socket, None).unwrap();
            let served = server.serve(Holds::new(), Arc::clone(&agent) as _, std::future::pending());
            vec![tokio::spawn(served)]
        };
        let (answer, server) = tokio::join!(asked, starts);
        // This test is in no managed cgroup; the agent says that it is, and answers all the same.
        let root = nix::unistd::geteuid().is_root();
        assert!(if root {
            matches!(answer, Answer::Ready)
        } else {
            matches!(answer, Answer::Refused(_))
        });
        if root {
            assert!(matches!(
                ask(&socket, 1, &nothing, second, &concerned).await,
                Answer::Unready(_)
            ));
            assert_eq!(agent.0.load(Ordering::Relaxed), 2);
        }
        server[0].abort();
    }
}
