use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Ask, CredentialError, Credentials, Leases, Owner, source::Source};
use crate::config::{CredentialKind, CredentialSource, EndpointHost, Share, SourceSpec, TlsMode, TlsSpec};
use crate::kernel::netns::Netns;
use crate::model::{CgroupId, CgroupPath, Place, SessionId};
use crate::protocol::Login;
use crate::protocol::Target;
use crate::tls::Upstream;

mod age;
mod exec;
pub(super) mod leases;

pub(super) const PLAIN: TlsSpec = TlsSpec {
    upstream: TlsMode::Disable,
    ca: None,
    server_name: None,
};

/// What a session of its own would ask for.
pub(super) fn ask(share: Share) -> Ask {
    Ask {
        owner: Owner {
            workload: "ci-report".into(),
            service: "orders-db".into(),
            cgroup: CgroupId(7),
            cgroup_path: CgroupPath("/job".into()),
            identity: "uid 1000".into(),
            session: SessionId::new(),
            share,
        },
        target: Target {
            service: "orders-db".into(),
            host: EndpointHost::Name("db.acme.test".into()),
            address: Place::Network("192.0.2.7:5432".parse().unwrap()),
            tls: Arc::new(Upstream::from_spec(&PLAIN).unwrap()),
        },
        netns: Arc::new(Netns::own().unwrap()),
        token: None,
    }
}

/// The login that a session gets.
async fn lease(credentials: &Credentials) -> Result<Login, CredentialError> {
    let directory = tempfile::tempdir().unwrap();
    let leases = Leases::open(&directory.path().join("leases")).unwrap();
    credentials.lease(&leases, ask(Share::Session)).await?.login()
}

fn secret_file(directory: &Path, content: &[u8], mode: u32) -> PathBuf {
    let path = directory.join("secret");
    // One of before may not let itself be written.
    let _not_there = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn of_file(path: &Path) -> Credentials {
    let spec = CredentialSource {
        kind: CredentialKind::Static {
            user: SourceSpec::Literal("report".into()),
            password: SourceSpec::File(path.to_owned()),
        },
        database: Some("orders".into()),
        http: None,
    };
    Credentials::open(&spec, &PLAIN, Path::new("/nonexistent")).unwrap()
}

async fn password(credentials: &Credentials) -> Result<Vec<u8>, CredentialError> {
    let login = lease(credentials).await?;
    Ok(login.password.expose().to_vec())
}

#[tokio::test]
async fn a_file_gives_its_bytes_less_one_newline() {
    let directory = tempfile::tempdir().unwrap();
    for (content, expected) in [
        (&b"hunter2"[..], &b"hunter2"[..]),
        (b"hunter2\n", b"hunter2"),
        (b"hunter2\r\n", b"hunter2"),
        (b"hunter2\n\n", b"hunter2\n"),
        (b" hunter2 ", b" hunter2 "),
        (b"\xff\xfe", b"\xff\xfe"),
    ] {
        let path = secret_file(directory.path(), content, 0o600);
        assert_eq!(password(&of_file(&path)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn a_rotated_file_counts_at_the_next_lease() {
    let directory = tempfile::tempdir().unwrap();
    let path = secret_file(directory.path(), b"old", 0o600);
    let credentials = of_file(&path);
    assert_eq!(password(&credentials).await.unwrap(), b"old");
    fs::write(&path, b"new").unwrap();
    assert_eq!(password(&credentials).await.unwrap(), b"new");
}

#[tokio::test]
async fn a_login_carries_user_and_database() {
    let directory = tempfile::tempdir().unwrap();
    let path = secret_file(directory.path(), b"hunter2", 0o400);
    let login = lease(&of_file(&path)).await.unwrap();
    assert_eq!(login.user.expose(), b"report");
    assert_eq!(login.database.as_deref(), Some("orders"));
}

#[tokio::test]
async fn a_file_that_others_could_read_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    for mode in [0o640, 0o604, 0o620, 0o602, 0o610, 0o777] {
        let path = secret_file(directory.path(), b"hunter2", mode);
        let error = password(&of_file(&path)).await.unwrap_err();
        assert!(
            matches!(error, CredentialError::Exposed { mode: shown, .. } if shown == mode),
            "{mode:o}"
        );
    }
}

#[tokio::test]
async fn a_file_of_somebody_else_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "needs root to give a file away");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = secret_file(directory.path(), b"hunter2", 0o600);
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    let error = password(&of_file(&path)).await.unwrap_err();
    assert!(matches!(
        error,
        CredentialError::ForeignOwner { owner: 65534, .. }
    ));
}

#[tokio::test]
async fn unusable_contents_are_refused_by_name_and_without_the_content() {
    let directory = tempfile::tempdir().unwrap();
    for (content, expected) in [
        (Vec::new(), "is empty"),
        (b"\n".to_vec(), "is empty"),
        (b"hunter2\0x".to_vec(), "zero byte"),
        (vec![b'h'; 64 * 1024 + 1], "longer than 65536 bytes"),
    ] {
        let path = secret_file(directory.path(), &content, 0o600);
        let error = password(&of_file(&path)).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
        assert!(!error.contains("hunter2") && !error.contains("hhh"), "{error}");
    }
}

#[tokio::test]
async fn pipes_directories_and_missing_files_are_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(
        &pipe,
        nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR,
    )
    .unwrap();
    let not_a_file = |error| matches!(error, CredentialError::NotAFile { .. });
    assert!(not_a_file(password(&of_file(&pipe)).await.unwrap_err()));
    assert!(not_a_file(
        password(&of_file(directory.path())).await.unwrap_err()
    ));
    let missing = of_file(&directory.path().join("missing"));
    assert!(matches!(missing.check().await, Err(CredentialError::Read { .. })));
}

#[test]
fn a_variable_is_read_once_and_a_missing_one_is_named() {
    // PATH is the one variable that a test can count on without changing its own environment.
    let source = Source::open(&SourceSpec::Env("PATH".into())).unwrap();
    assert_eq!(
        source.read().unwrap().expose(),
        std::env::var("PATH").unwrap().as_bytes()
    );
    let error = Source::open(&SourceSpec::Env("TOLLGATE_NO_SUCH".into())).unwrap_err();
    assert!(error.to_string().contains("TOLLGATE_NO_SUCH"));
}

#[test]
fn a_systemd_credential_is_found_by_name_in_its_directory_alone() {
    let directory = tempfile::tempdir().unwrap();
    // systemd shows the ACL mask as group bits.
    secret_file(directory.path(), b"hunter2\n", 0o440);
    let open = |name: &str, directory| Source::open_in(&SourceSpec::Systemd(name.into()), directory);
    let inside = Some(directory.path().to_owned());
    assert_eq!(
        open("secret", inside.clone()).unwrap().read().unwrap().expose(),
        b"hunter2"
    );
    for name in ["../secret", "/etc/shadow", "..", ".", ""] {
        let error = open(name, inside.clone()).unwrap_err();
        assert!(
            matches!(error, CredentialError::BadCredentialName { .. }),
            "{name}"
        );
    }
    let error = open("secret", None).unwrap_err().to_string();
    assert!(error.contains("LoadCredential=secret"), "{error}");
    secret_file(directory.path(), b"hunter2\n", 0o444);
    let exposed = open("secret", inside).unwrap().read();
    assert!(matches!(exposed, Err(CredentialError::Exposed { .. })));
}

#[test]
fn a_password_in_the_policy_is_refused() {
    let spec = CredentialSource {
        kind: CredentialKind::Static {
            user: SourceSpec::Literal("report".into()),
            password: SourceSpec::Literal("hunter2".into()),
        },
        database: None,
        http: None,
    };
    let error = Credentials::open(&spec, &PLAIN, Path::new("/nonexistent")).unwrap_err();
    assert!(matches!(error, CredentialError::LiteralPassword));
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

#[tokio::test]
async fn debug_shows_neither_password_nor_user_name() {
    let directory = tempfile::tempdir().unwrap();
    let credentials = of_file(&secret_file(directory.path(), b"hunter2", 0o600));
    let login = lease(&credentials).await.unwrap();
    let shown = format!("{credentials:?} {login:?}");
    assert!(!shown.contains("hunter2") && !shown.contains("report"), "{shown}");
}
