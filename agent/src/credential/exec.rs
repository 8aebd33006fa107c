//! `source = "exec"`: a program that prints a secret and its expiry.
//!
//! It prints one JSON object, on standard output, and ends with 0:
//!
//! - `user` and `password`; or `token`; or `private_key` and, if there is one, `certificate`: texts;
//! - `expires_at` (RFC 3339) or `expires_in` (seconds, a whole number); neither: the secret has no end that is known.
//!
//! Whatever else is in it is an error, so that a misspelt expiry is not taken for none. The program runs without a shell, in
//! `/`, in an environment that has `PATH`, `LANG` and the names of workload, service and session, and nothing of the
//! agent's. What it writes to standard error is thrown away: nobody can tell whether the secret is in it.
//!
//! Known limit: there is no call to void what was printed. What has to be revoked needs a source that can.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use super::hidden::Hidden;
use super::maker::{Ask, Made, MakeError, Maker, Working};
use super::{CredentialError, Handle, Material};
use crate::config::ExecSpec;

/// No login, token or key with its certificate is longer.
const LONGEST_OUTPUT: usize = 64 * 1024;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program gave no secret. Nothing that it wrote is in it.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not there, or may not be executed.
    #[error("the program {} cannot be run ({})", .program.display(), .source.kind())]
    Run {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Others decide what it does.
    #[error("the program {} can be changed by others than root and the agent's user (mode {mode:04o}, uid {owner})", .program.display())]
    Exposed {
        /// The program.
        program: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// Its owner.
        owner: u32,
    },
    /// It took too long, and was killed with all its children.
    #[error("the program {} did not end within {limit} s", .program.display())]
    TooSlow {
        /// The program.
        program: PathBuf,
        /// The limit, in seconds.
        limit: u64,
    },
    /// It said that it failed.
    #[error("the program {} failed ({status}); what it wrote is not shown, since the secret may be in it: run it by hand", .program.display())]
    Failed {
        /// The program.
        program: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// It did not print what it should.
    #[error("the program {} printed {what}", .program.display())]
    Nonsense {
        /// The program.
        program: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// The source.
#[derive(Debug)]
pub(super) struct ExecMaker {
    program: PathBuf,
    arguments: Vec<String>,
    timeout: Duration,
}

/// What it prints.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Printed {
    user: Option<Hidden>,
    password: Option<Hidden>,
    token: Option<Hidden>,
    private_key: Option<Hidden>,
    certificate: Option<Hidden>,
    expires_at: Option<DateTime<Utc>>,
    expires_in: Option<u32>,
}

impl ExecMaker {
    pub(super) fn new(spec: &ExecSpec) -> Self {
        let (program, arguments) = spec.command.split_first().map_or_else(
            || (PathBuf::new(), Vec::new()),
            |(program, rest)| (PathBuf::from(program), rest.to_vec()),
        );
        Self {
            program,
            arguments,
            timeout: spec.timeout,
        }
    }

    async fn run(&self, ask: &Ask) -> Result<Made, ExecError> {
        check_program(&self.program)?;
        let asked = SystemTime::now();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .env("PATH", PATH)
            .env("LANG", "C.UTF-8")
            .env("TOLLGATE_WORKLOAD", ask.owner.workload.as_str())
            .env("TOLLGATE_SERVICE", ask.owner.service.as_str())
            .env("TOLLGATE_SESSION", ask.owner.session.to_string())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // A group of its own, so that its children go with it.
            .process_group(0);
        let child = command.spawn().map_err(|source| ExecError::Run {
            program: self.program.clone(),
            source,
        })?;
        let mut group = Group(child);
        let Ok(ended) = tokio::time::timeout(self.timeout, group.output()).await else {
            return Err(ExecError::TooSlow {
                program: self.program.clone(),
                limit: self.timeout.as_secs(),
            });
        };
        let (output, status) = ended.map_err(|source| ExecError::Run {
            program: self.program.clone(),
            source,
        })?;
        let nonsense = |what| ExecError::Nonsense {
            program: self.program.clone(),
            what,
        };
        if output.len() > LONGEST_OUTPUT {
            return Err(nonsense("more than 64 KiB, which no credential is"));
        }
        let status = status.ok_or_else(|| nonsense("more than it should"))?;
        if !status.success() {
            return Err(ExecError::Failed {
                program: self.program.clone(),
                status,
            });
        }
        made(&output, asked).map_err(nonsense)
    }
}

impl Maker for ExecMaker {
    fn check(&self) -> Working<'_, Result<(), CredentialError>> {
        Box::pin(async { Ok(check_program(&self.program)?) })
    }

    fn plan(&self, _ask: &Ask) -> Option<Handle> {
        None
    }

    fn make<'a>(
        &'a self,
        ask: &'a Ask,
        _planned: Option<&'a Handle>,
    ) -> Working<'a, Result<Made, MakeError>> {
        Box::pin(async { self.run(ask).await.map_err(MakeError::before) })
    }
}

/// Shared by the sources that make something, in the form that the keeper takes.
pub(super) fn maker(spec: &ExecSpec) -> Arc<dyn Maker> {
    Arc::new(ExecMaker::new(spec))
}

/// A child that leads a process group. If it is not seen to end, the whole group is killed.
struct Group(Child);

impl Group {
    /// What it printed, up to one byte more than is taken, and how it ended; `None`: it printed more, and was not waited for.
    async fn output(&mut self) -> std::io::Result<(Zeroizing<Vec<u8>>, Option<ExitStatus>)> {
        // One allocation: a vector that grows leaves copies of the secret behind.
        let mut output = Zeroizing::new(Vec::with_capacity(LONGEST_OUTPUT + 1));
        if let Some(stdout) = self.0.stdout.take() {
            stdout
                .take(LONGEST_OUTPUT as u64 + 1)
                .read_to_end(&mut output)
                .await?;
        }
        if output.len() > LONGEST_OUTPUT {
            return Ok((output, None));
        }
        Ok((output, Some(self.0.wait().await?)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // `None`: it was waited for, and its number may be somebody else's by now.
        if let Some(pid) = self.0.id().and_then(|pid| i32::try_from(pid).ok()) {
            // Gone by itself, which is as good. The runtime reaps it.
            let _gone = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Whoever can change the program decides what the agent runs as root.
fn check_program(program: &Path) -> Result<(), ExecError> {
    let failed = |source| ExecError::Run {
        program: program.to_owned(),
        source,
    };
    let metadata = std::fs::metadata(program).map_err(failed)?;
    if !metadata.is_file() || metadata.mode() & 0o111 == 0 {
        return Err(failed(std::io::ErrorKind::PermissionDenied.into()));
    }
    let owner = metadata.uid();
    let foreign = owner != 0 && owner != nix::unistd::geteuid().as_raw();
    if foreign || metadata.mode() & 0o022 != 0 {
        return Err(ExecError::Exposed {
            program: program.to_owned(),
            mode: metadata.mode() & 0o7777,
            owner,
        });
    }
    Ok(())
}

fn made(output: &[u8], asked: SystemTime) -> Result<Made, &'static str> {
    if output.trim_ascii().is_empty() {
        return Err("nothing");
    }
    // What serde says of it may hold parts of it.
    let printed: Printed = serde_json::from_slice(output)
        .map_err(|_| "something else than the one JSON object that docs/credentials.md describes")?;
    let expires = match (printed.expires_at, printed.expires_in) {
        (Some(_), Some(_)) => return Err("both expires_at and expires_in"),
        (Some(at), None) => Some(SystemTime::from(at)),
        (None, Some(seconds)) => Some(asked + Duration::from_secs(seconds.into())),
        (None, None) => None,
    };
    if expires.is_some_and(|expires| expires <= SystemTime::now()) {
        return Err("a secret that has expired already");
    }
    let material = match (
        printed.user,
        printed.password,
        printed.token,
        printed.private_key,
        printed.certificate,
    ) {
        (Some(user), Some(password), None, None, None) => Material::Login {
            user: user.secret()?,
            password: password.secret()?,
        },
        (None, None, Some(token), None, None) => Material::Token(token.secret()?),
        (None, None, None, Some(key), certificate) => Material::Key {
            private: key.secret()?,
            certificate: certificate.as_ref().map(Hidden::secret).transpose()?,
        },
        _ => return Err("not one credential: it has to be user and password, or token, or private_key"),
    };
    Ok(Made {
        material,
        expires,
        handle: None,
    })
}
