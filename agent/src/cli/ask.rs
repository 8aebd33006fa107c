//! Asking the running agent, and saying what went wrong.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use crate::control::{Client, ControlError, Request, Response};

/// Where the agent is.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Socket {
    /// Control socket of the running agent [default: the one that the agent's own file names]
    #[arg(
        long,
        value_name = "PATH",
        env = "TOLLGATE_SOCKET",
        hide_env_values = true,
        display_order = 800
    )]
    pub(super) socket: Option<PathBuf>,
}

/// Why a verb did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{0}")]
    Refused(String),
    #[error("the answer cannot be written ({})", .0.kind())]
    Output(#[from] io::Error),
}

impl Failed {
    /// Whether whoever reads has gone away: `… | head` has seen enough.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl Socket {
    /// Connects; `configured` is where the configuration says that it is.
    pub(super) async fn connect(&self, configured: &Path) -> Result<Client, Failed> {
        Ok(Client::connect(self.socket.as_deref().unwrap_or(configured)).await?)
    }
}

/// Asks, and takes a refusal for a failure.
pub(super) async fn ask(client: &mut Client, request: &Request) -> Result<Response, Failed> {
    unless_refused(client.ask(request).await?)
}

pub(super) fn unless_refused(response: Response) -> Result<Response, Failed> {
    match response {
        Response::Refused { message } => Err(Failed::Refused(message)),
        answered => Ok(answered),
    }
}

/// An answer to another question than the one that was asked.
pub(super) fn unexpected() -> Failed {
    Failed::Control(ControlError::Unintelligible)
}

pub(super) fn print(text: &str) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

pub(super) fn print_json(value: &impl Serialize) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    print(&format!("{text}\n"))
}

/// Exit code: 0 done, 1 the agent refused, 2 something failed (as a wrong command line does), 3 no agent is running.
pub(super) fn finish(result: Result<(), Failed>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) if failed.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failed) => {
            let code = match &failed {
                Failed::Refused(_) => REFUSED,
                Failed::Control(ControlError::NotRunning { .. }) => NOT_RUNNING,
                Failed::Control(_) | Failed::Output(_) => FAILED,
            };
            // Nothing is left to tell it to, if this fails too.
            let _unheard = writeln!(io::stderr(), "tollgate: {failed}");
            ExitCode::from(code)
        }
    }
}

const REFUSED: u8 = 1;
const FAILED: u8 = 2;
const NOT_RUNNING: u8 = 3;

#[cfg(test)]
mod tests {
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::time::Duration;

    use clap::Parser;

    use super::{FAILED, Failed, NOT_RUNNING, finish};
    use crate::approval::{HoldEnd, HoldInfo, Holds, Requester};
    use crate::cli::{approvals, approve, deny, status};
    use crate::control::{AgentStatus, ControlHandler, KernelStatus, LiveSession, Server};
    use crate::model::{Command, SessionId};
    use crate::policy::HoldTerms;

    #[derive(Parser)]
    enum Verb {
        Approvals(approvals::Args),
        Approve(approve::Args),
        Deny(deny::Args),
        Status(status::Args),
    }

    async fn run(socket: &std::path::Path, arguments: &[&str]) -> String {
        let (verb, rest) = arguments.split_first().unwrap();
        let line = ["tollgate", verb].into_iter().chain(rest.iter().copied());
        let code = match Verb::try_parse_from(line).unwrap() {
            Verb::Approvals(args) => approvals::run(args, socket).await,
            Verb::Approve(args) => approve::run(args, socket).await,
            Verb::Deny(args) => deny::run(args, socket).await,
            Verb::Status(args) => status::run(args, socket).await,
        };
        format!("{code:?}")
    }

    fn code(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    struct Agent;

    impl ControlHandler for Agent {
        fn status(&self) -> AgentStatus {
            AgentStatus {
                version: "1.2.3".into(),
                pid: 42,
                started_at: chrono::Utc::now(),
                workloads: Vec::new(),
                live_sessions: 0,
                total_sessions: 0,
                held_commands: 0,
                findings: 0,
                failed_upgrade: None,
                kernel: KernelStatus::default(),
                warnings: Vec::new(),
            }
        }

        fn sessions(&self) -> Vec<LiveSession> {
            Vec::new()
        }

        fn egress(&self) -> Result<crate::control::EgressListing, String> {
            Ok(crate::control::EgressListing::default())
        }

        fn is_managed(&self, _pid: u32) -> bool {
            false
        }
    }

    fn info() -> HoldInfo {
        let user = nix::unistd::User::from_uid(nix::unistd::getuid())
            .unwrap()
            .unwrap();
        HoldInfo {
            session: SessionId::new(),
            requester: Requester {
                summary: "report-1.service".into(),
                uid: 65_533,
                login_uid: None,
            },
            workload: "ci-report".into(),
            service: "orders-db".into(),
            command: Arc::new(Command::unknown("DELETE FROM orders", "test")),
            parameters: Vec::new(),
            binding: [7; 32],
            terms: HoldTerms {
                rules: vec!["deletes".into()],
                approvers: vec![user.name],
                timeout: Duration::from_mins(10),
            },
            writing_since: None,
        }
    }

    #[tokio::test]
    async fn without_an_agent_every_verb_ends_with_3() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        for arguments in [
            &["status"][..],
            &["approvals"],
            &["approve", "abcdefgh"],
            &["deny", "abcdefgh", "--reason", "no"],
        ] {
            assert_eq!(run(&socket, arguments).await, code(NOT_RUNNING), "{arguments:?}");
        }
    }

    #[tokio::test]
    async fn the_verbs_decide_on_held_commands() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let holds = Holds::new();
        let server = Server::bind(&socket, None).unwrap();
        let server = tokio::spawn(server.serve(Arc::clone(&holds), Arc::new(Agent), std::future::pending()));

        for arguments in [
            &["status"][..],
            &["status", "--json"],
            &["approvals"],
            &["approvals", "--json"],
        ] {
            assert_eq!(run(&socket, arguments).await, code(0), "{arguments:?}");
        }
        let held = holds.place(info());
        let id = held.id().to_string();
        let other = ["approve", &id, "--binding", "0808080808"];
        assert_eq!(run(&socket, &other).await, code(1));
        let typed_in_capitals = id.to_uppercase();
        assert_eq!(
            run(&socket, &["approve", &typed_in_capitals, "--binding", "07070707"]).await,
            code(0)
        );
        assert!(matches!(held.wait().await, HoldEnd::Approved { .. }));
        assert_eq!(run(&socket, &["approve", &id]).await, code(1), "it is gone");

        let held = holds.place(info());
        let id = held.id().to_string();
        assert_eq!(
            run(&socket, &["deny", &id, "--reason", "not on a Friday"]).await,
            code(0)
        );
        assert!(matches!(held.wait().await, HoldEnd::Denied { reason, .. } if reason == "not on a Friday"));
        server.abort();
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let broken_pipe = Failed::Output(std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(format!("{:?}", finish(Err(broken_pipe))), code(0));
        let full_disk = Failed::Output(std::io::ErrorKind::StorageFull.into());
        assert_eq!(format!("{:?}", finish(Err(full_disk))), code(FAILED));
    }
}
