//! Programs as they are, and as they should not be.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use super::{PLAIN, ask};
use crate::config::{CredentialKind, CredentialSource, ExecSpec, Share};
use crate::credential::{CredentialError, Credentials, Lease, LeaseEnd, Leases, Material};

struct Program {
    dir: tempfile::TempDir,
    timeout: Duration,
}

impl Program {
    /// A shell script; the shell is the script's, not the agent's.
    fn new(script: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("program");
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        Self {
            dir,
            timeout: Duration::from_secs(20),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn credentials(&self) -> Credentials {
        let program = self.path().join("program").display().to_string();
        let spec = CredentialSource {
            kind: CredentialKind::Exec(ExecSpec {
                command: vec![program, "two words".into(), "$HOME".into()],
                timeout: self.timeout,
                share: Share::Session,
            }),
            database: Some("orders".into()),
            http: None,
        };
        Credentials::open(&spec, &PLAIN, Path::new("/nonexistent")).unwrap()
    }

    async fn lease(&self) -> Result<Lease, CredentialError> {
        let leases = Leases::open(&self.path().join("leases")).unwrap();
        let lease = self.credentials().lease(&leases, ask(Share::Session)).await;
        assert_eq!(
            std::fs::read_dir(self.path().join("leases")).unwrap().count(),
            0,
            "nothing to revoke, so nothing in the journal"
        );
        lease
    }

    async fn error(&self) -> String {
        self.lease().await.unwrap_err().to_string()
    }
}

#[tokio::test]
async fn a_program_gives_a_login_and_when_it_ends() {
    let program = Program::new(r#"echo '{"user": "report", "password": "hunter2", "expires_in": 900}'"#);
    let before = SystemTime::now();
    let lease = program.lease().await.unwrap();
    let login = lease.login().unwrap();
    assert_eq!(login.user.expose(), b"report");
    assert_eq!(login.password.expose(), b"hunter2");
    assert_eq!(login.database.as_deref(), Some("orders"));
    let left = lease.expires().unwrap().duration_since(before).unwrap();
    assert!((900..960).contains(&left.as_secs()), "{left:?}");
    assert!(!format!("{lease:?}").contains("hunter2"));
    // The record must not say that it was revoked: it is valid for as long as whoever made it says.
    assert_eq!(lease.end(Duration::from_secs(5)).await, LeaseEnd::Nothing);
}

#[tokio::test]
async fn a_token_or_a_key_is_had_as_what_it_is_and_is_no_login() {
    let token = Program::new(r#"echo '{"token": "t0ken", "expires_at": "2999-01-01T00:00:00Z"}'"#);
    let lease = token.lease().await.unwrap();
    assert!(matches!(lease.material(), Material::Token(token) if token.expose() == b"t0ken"));
    let error = lease.login().unwrap_err().to_string();
    assert!(error.contains("gives a token"), "{error}");
    let key = Program::new(r#"echo '{"private_key": "k", "certificate": "c"}'"#);
    let lease = key.lease().await.unwrap();
    assert!(
        matches!(lease.material(), Material::Key { private, certificate: Some(_) } if private.expose() == b"k")
    );
}

#[tokio::test]
async fn its_environment_is_clean_and_its_arguments_are_not_looked_into() {
    let program = Program::new(
        r#"[ $# = 2 ] && [ "$1" = "two words" ] && [ "$2" = '$HOME' ] && [ "$(pwd)" = / ] && [ -n "$TOLLGATE_SESSION" ] || exit 3
           names=$(env | cut -d= -f1 | sort | tr '\n' ' ')
           echo "{\"user\": \"$names\", \"password\": \"$TOLLGATE_WORKLOAD/$TOLLGATE_SERVICE\"}""#,
    );
    let login = program.lease().await.unwrap().login().unwrap();
    let names = String::from_utf8(login.user.expose().to_vec()).unwrap();
    for name in names.split_whitespace() {
        assert!(
            ["PATH", "LANG", "PWD", "_", "OLDPWD", "SHLVL"].contains(&name) || name.starts_with("TOLLGATE_"),
            "{names}"
        );
    }
    assert_eq!(login.password.expose(), b"ci-report/orders-db");
}

#[tokio::test]
async fn what_a_failing_program_writes_is_shown_to_nobody() {
    let program = Program::new("echo hunter2 >&2; echo hunter2; exit 4");
    let error = program.error().await;
    assert!(
        error.contains("exit status: 4") && !error.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn nonsense_is_refused_without_being_repeated() {
    for (script, expected) in [
        (":", "printed nothing"),
        ("echo hunter2", "the one JSON object"),
        (r#"echo '{"user": "hunter2"}'"#, "not one credential"),
        (
            r#"echo '{"user": "u", "password": "hunter2", "token": "t"}'"#,
            "not one credential",
        ),
        (
            r#"echo '{"user": "u", "password": "hunter2", "expiers_in": 9}'"#,
            "the one JSON object",
        ),
        (
            r#"echo '{"user": "u", "password": "hunter2", "expires_in": -9}'"#,
            "the one JSON object",
        ),
        (
            r#"echo '{"user": "u", "password": "hunter2", "expires_in": 9, "expires_at": "2999-01-01T00:00:00Z"}'"#,
            "both",
        ),
        (
            r#"echo '{"user": "u", "password": "hunter2", "expires_at": "2001-01-01T00:00:00Z"}'"#,
            "expired already",
        ),
        (r#"echo '{"user": "u", "password": ""}'"#, "empty secret"),
        (
            r#"echo '{"user": "u", "password": "hunter2\u0000"}'"#,
            "zero byte",
        ),
        (
            r#"echo '{"user": "u", "password": "hunter2"}{}'"#,
            "the one JSON object",
        ),
        ("yes hunter2", "more than 64 KiB"),
    ] {
        let error = Program::new(script).error().await;
        assert!(error.contains(expected), "{script}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_its_children() {
    let mut program = Program::new(r#"sleep 1000 & echo $! > "${0%/*}/child"; wait"#);
    program.timeout = Duration::from_secs(1);
    let begun = Instant::now();
    let error = program.error().await;
    assert!(error.contains("did not end within 1 s"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    let child = std::fs::read_to_string(program.path().join("child")).unwrap();
    let child = format!("/proc/{}/cmdline", child.trim());
    for _ in 0..200 {
        // A zombie has no command line any more.
        if std::fs::read(&child).unwrap_or_default().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("the child goes on");
}

#[tokio::test]
async fn a_program_that_others_can_change_or_that_is_not_there_is_not_run() {
    let program = Program::new("exit 0");
    let path = program.path().join("program");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o722)).unwrap();
    let error = program.credentials().check().await.unwrap_err().to_string();
    assert!(error.contains("can be changed by others"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = program.credentials().check().await.unwrap_err().to_string();
    assert!(error.contains("cannot be run"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(program.error().await.contains("cannot be run"));
}
