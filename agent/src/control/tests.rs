use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{
    AgentStatus, Client, ControlError, ControlHandler, KernelStatus, LiveSession, Request, Response, Server,
};
use crate::approval::{HoldEnd, HoldInfo, Holds, Requester};
use crate::model::{Command, HoldId, ServiceName, SessionId, WorkloadName};
use crate::policy::HoldTerms;

#[derive(Default)]
struct Agent {
    managed: Mutex<HashSet<u32>>,
}

impl ControlHandler for Agent {
    fn status(&self) -> AgentStatus {
        AgentStatus {
            version: "1.2.3".into(),
            pid: 42,
            started_at: Utc::now(),
            workloads: Vec::new(),
            live_sessions: 1,
            total_sessions: 7,
            held_commands: 0,
            findings: 0,
            failed_upgrade: None,
            kernel: KernelStatus::default(),
            warnings: vec!["orders.toml was not taken".into()],
        }
    }

    fn sessions(&self) -> Vec<LiveSession> {
        Vec::new()
    }

    fn egress(&self) -> Result<crate::control::EgressListing, String> {
        Ok(crate::control::EgressListing::default())
    }

    fn is_managed(&self, pid: u32) -> bool {
        self.managed.lock().contains(&pid)
    }
}

struct Stand {
    path: PathBuf,
    holds: Arc<Holds>,
    agent: Arc<Agent>,
    stop: Option<oneshot::Sender<()>>,
    server: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Stand {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/control.sock");
        let server = Server::bind(&path, None).unwrap();
        let (holds, agent) = (Holds::new(), Arc::new(Agent::default()));
        let (stop, stopped) = oneshot::channel();
        let stopped = async { drop(stopped.await) };
        let server = tokio::spawn(server.serve(Arc::clone(&holds), Arc::clone(&agent) as _, stopped));
        Self {
            path,
            holds,
            agent,
            stop: Some(stop),
            server,
            _directory: directory,
        }
    }

    async fn ask(&self, request: &Request) -> Response {
        Client::connect(&self.path)
            .await
            .unwrap()
            .ask(request)
            .await
            .unwrap()
    }
}

fn info() -> HoldInfo {
    HoldInfo {
        session: SessionId::new(),
        requester: Requester {
            summary: "report-1.service".into(),
            uid: 65_533,
            login_uid: None,
        },
        workload: WorkloadName::from("ci-report"),
        service: ServiceName::from("orders-db"),
        command: Arc::new(Command::unknown("DELETE FROM orders", "test")),
        parameters: Vec::new(),
        binding: [7; 32],
        terms: HoldTerms {
            rules: vec!["deletes".into()],
            // Whoever runs the tests.
            approvers: vec![own_name()],
            timeout: Duration::from_mins(10),
        },
        writing_since: None,
    }
}

fn own_name() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .unwrap()
        .unwrap()
        .name
}

fn message(response: Response) -> String {
    match response {
        Response::Refused { message } => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn status_and_sessions_are_answered_on_one_connection() {
    let stand = Stand::start();
    let mut client = Client::connect(&stand.path).await.unwrap();
    let status = client.ask(&Request::Status).await.unwrap();
    assert!(matches!(status, Response::Status { status } if status.total_sessions == 7));
    let sessions = client.ask(&Request::Sessions).await.unwrap();
    assert_eq!(sessions, Response::Sessions { sessions: Vec::new() });
}

#[tokio::test]
async fn a_held_command_is_listed_and_approved_over_the_socket() {
    let stand = Stand::start();
    let held = stand.holds.place(info());
    let Response::Approvals { holds } = stand.ask(&Request::Approvals { watch: false }).await else {
        panic!("no list")
    };
    assert_eq!(holds.len(), 1);
    let approve = Request::Approve {
        id: holds[0].id.clone(),
        binding: Some(holds[0].binding.clone()),
    };
    assert!(matches!(stand.ask(&approve).await, Response::Decided { hold } if hold.id == holds[0].id));
    assert!(matches!(held.wait().await, HoldEnd::Approved { by, .. } if by == own_name()));
    assert!(message(stand.ask(&approve).await).contains("was approved by"));
}

#[tokio::test]
async fn a_refusal_needs_a_reason_and_carries_it_in_one_line() {
    let stand = Stand::start();
    let held = stand.holds.place(info());
    let deny = |reason: &str| Request::Deny {
        id: held.id().clone(),
        reason: reason.into(),
    };
    assert!(message(stand.ask(&deny(" \n")).await).contains("needs a reason"));
    assert!(matches!(
        stand.ask(&deny("not now\n\u{1b}[2J")).await,
        Response::Decided { .. }
    ));
    let HoldEnd::Denied { reason, .. } = held.wait().await else {
        panic!("not denied")
    };
    assert_eq!(reason, "not now  [2J");
}

#[tokio::test]
async fn a_binding_that_was_not_seen_or_is_none_does_not_count() {
    let stand = Stand::start();
    let held = stand.holds.place(info());
    for (binding, expected) in [
        ("08".repeat(32), "not what waits"),
        ("07".repeat(31), "64 hex digits"),
    ] {
        let approve = Request::Approve {
            id: held.id().clone(),
            binding: Some(binding),
        };
        assert!(message(stand.ask(&approve).await).contains(expected));
    }
    assert_eq!(stand.holds.list().len(), 1);
}

#[tokio::test]
async fn a_peer_in_a_managed_cgroup_is_refused_everything() {
    let stand = Stand::start();
    let held = stand.holds.place(info());
    let id = held.id().clone();
    let mut connected_before = Client::connect(&stand.path).await.unwrap();
    connected_before.ask(&Request::Status).await.unwrap();
    stand.agent.managed.lock().insert(std::process::id());
    let approve = Request::Approve { id, binding: None };
    for request in [
        Request::Status,
        Request::Sessions,
        Request::Approvals { watch: true },
        approve,
    ] {
        assert!(
            message(stand.ask(&request).await).contains("managed cgroup"),
            "{request:?}"
        );
    }
    assert!(message(connected_before.ask(&Request::Status).await.unwrap()).contains("managed cgroup"));
    assert_eq!(stand.holds.list().len(), 1, "it still waits");
}

#[tokio::test]
async fn a_watcher_is_told_of_each_change() {
    let stand = Stand::start();
    let mut client = Client::connect(&stand.path).await.unwrap();
    let count = |response| match response {
        Response::Approvals { holds } => holds.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        count(client.ask(&Request::Approvals { watch: true }).await.unwrap()),
        0
    );
    let held = stand.holds.place(info());
    assert_eq!(count(client.next().await.unwrap()), 1);
    drop(held);
    assert_eq!(count(client.next().await.unwrap()), 0);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_ends_the_connection() {
    let stand = Stand::start();
    for line in [
        "{}\n",
        "hello\n",
        "{\"request\":\"approvals\",\"x\":1}\n",
        "{\"request\":\"reboot\"}\n",
    ] {
        let mut stream = tokio::net::UnixStream::connect(&stand.path).await.unwrap();
        stream.write_all(line.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("cannot be understood"), "{line}{answer}");
    }
    // One that never ends its line is cut off.
    let mut stream = tokio::net::UnixStream::connect(&stand.path).await.unwrap();
    let _cut_off = stream.write_all(&vec![b'x'; 256 * 1024]).await;
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty());
}

#[tokio::test]
async fn an_unknown_hold_is_said_to_be_unknown() {
    let stand = Stand::start();
    let approve = Request::Approve {
        id: HoldId::from("nosuchid"),
        binding: None,
    };
    assert!(message(stand.ask(&approve).await).contains("no command is held under nosuchid"));
}

#[tokio::test]
async fn the_socket_is_for_root_and_its_group_and_goes_with_the_agent() {
    let mut stand = Stand::start();
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&stand.path), 0o660);
    assert_eq!(mode(stand.path.parent().unwrap()), 0o755);
    assert_eq!(
        std::fs::read_dir(stand.path.parent().unwrap()).unwrap().count(),
        1
    );
    let mut client = Client::connect(&stand.path).await.unwrap();
    stand.stop.take().unwrap().send(()).unwrap();
    (&mut stand.server).await.unwrap();
    assert!(client.ask(&Request::Status).await.is_err());
    assert!(!stand.path.exists());
    assert!(matches!(
        Client::connect(&stand.path).await,
        Err(ControlError::NotRunning { .. })
    ));
}

#[tokio::test]
async fn a_second_agent_is_refused_and_a_dead_ones_socket_is_taken_over() {
    let stand = Stand::start();
    assert!(matches!(
        Server::bind(&stand.path, None),
        Err(ControlError::AlreadyRunning { .. })
    ));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    assert!(matches!(
        Client::connect(&path).await,
        Err(ControlError::NotRunning { .. })
    ));
    Server::bind(&path, None).unwrap();

    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        Server::bind(&file, None),
        Err(ControlError::InTheWay { .. })
    ));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
