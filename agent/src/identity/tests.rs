use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use super::process::ProcessHandle;
use super::source::{LONGEST_TOKEN, from_environment, from_file};
use super::{FlowFacts, IdentityError, Logins, ProcessState, TokenVerifier, Tokens, identify};
use crate::config::{IdentitySpec, Proof, TokenSource};
use crate::model::{CgroupId, CgroupPath};

/// A process that waits until it is dropped.
struct Waiting {
    child: Child,
    /// The process that printed its pid, which may be a descendant.
    pid: u32,
}

impl Waiting {
    /// Runs a shell script that prints a pid and then waits for its standard input to end.
    fn start(script: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        Self {
            child,
            pid: line.trim().parse().unwrap(),
        }
    }

    fn facts(&self) -> FlowFacts {
        FlowFacts {
            cgroup: CgroupId(1),
            cgroup_path: ProcessHandle::open(self.pid).unwrap().cgroup().unwrap(),
            pid: self.pid,
            uid: nix::unistd::getuid().as_raw(),
            says_engine: None,
            selected_by: None,
            variables: Vec::new(),
            connected_at_boottime_ns: since_boot().as_nanos().try_into().unwrap(),
        }
    }

    fn end(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.end();
    }
}

const WAIT: &str = "echo $$; read end; true";

fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// Tests that switch users say so where they cannot.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "this test needs root");
    if !root {
        eprintln!("NOT TESTED: needs root");
    }
    root
}

/// A verifier that knows no issuer, and no logins.
fn tokens() -> Tokens {
    Tokens {
        verifier: TokenVerifier::new(),
        logins: Logins::new(|_| None),
    }
}

fn spec(token: TokenSource) -> IdentitySpec {
    IdentitySpec {
        proof: Proof::Oidc,
        issuer: "http://127.0.0.1:1".into(),
        audience: "tollgate".into(),
        token,
        claims: Vec::new(),
        ca: None,
        leeway: Duration::ZERO,
        offline: Duration::from_hours(1),
    }
}

#[tokio::test]
async fn a_flow_is_tied_to_its_process() {
    let process = Waiting::start(
        WAIT,
        &["job", "--password=hunter2", "postgres://u:hunter2@db/x"],
        &[],
    );
    let identity = identify(&process.facts(), None, &tokens()).await.unwrap();
    let ProcessState::Known(known) = &identity.process else {
        panic!("{:?}", identity.process);
    };
    assert_eq!(known.pid, process.pid);
    let executable = known.executable.as_ref().unwrap();
    assert_eq!(*executable, fs::canonicalize("/bin/sh").unwrap());
    assert_eq!(
        known.command_line[3..],
        ["job", "--password=***", "postgres://u:***@db/x"]
    );
    let age = SystemTime::now().duration_since(known.started_at.into()).unwrap();
    assert!(age < Duration::from_mins(1), "{age:?}");
    let shown = format!(
        "{} {}",
        serde_json::to_string(&identity).unwrap(),
        identity.summary()
    );
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(identity.expires_at(), None);
}

#[tokio::test]
async fn a_process_that_started_after_the_connect_is_another_one() {
    let process = Waiting::start(WAIT, &[], &[("TOLLGATE_TEST", "token")]);
    let mut facts = process.facts();
    facts.connected_at_boottime_ns -= 30_000_000_000;
    let identity = identify(&facts, None, &tokens()).await.unwrap();
    assert_eq!(identity.process, ProcessState::Gone { pid: process.pid });
    assert!(matches!(
        from_environment(&facts, "TOLLGATE_TEST"),
        Err(IdentityError::ProcessGone { .. })
    ));
}

#[tokio::test]
async fn of_a_process_that_ended_the_cgroup_remains_and_its_environment_does_not() {
    let mut process = Waiting::start(WAIT, &[], &[("TOLLGATE_TEST", "token")]);
    let mut facts = process.facts();
    facts.cgroup_path = CgroupPath("/actions.slice/report-1.service".into());
    process.end();
    let verifier = tokens();
    let identity = identify(&facts, None, &verifier).await.unwrap();
    assert_eq!(identity.process, ProcessState::Gone { pid: facts.pid });
    assert_eq!(identity.cgroup.unit.as_deref(), Some("report-1.service"));
    assert!(identity.summary().contains("(ended)"));
    let error = identify(
        &facts,
        Some(&spec(TokenSource::Env("TOLLGATE_TEST".into()))),
        &verifier,
    )
    .await
    .unwrap_err();
    assert!(matches!(error, IdentityError::ProcessGone { .. }));
}

#[test]
fn the_token_is_found_in_the_process_and_in_its_ancestors() {
    let own = Waiting::start(
        WAIT,
        &[],
        &[("TOLLGATE_TEST", " token\n"), ("TOLLGATE_TEST_2", "other")],
    );
    let token = from_environment(&own.facts(), "TOLLGATE_TEST").unwrap();
    assert_eq!(token.expose(), b"token");

    let script = format!("env -u TOLLGATE_TEST sh -c '{WAIT}'; true");
    let nested = Waiting::start(&script, &[], &[("TOLLGATE_TEST", "of the parent")]);
    assert_ne!(nested.pid, nested.child.id());
    assert_eq!(
        from_environment(&nested.facts(), "TOLLGATE_TEST")
            .unwrap()
            .expose(),
        b"of the parent"
    );

    let script = format!("TOLLGATE_TEST= sh -c '{WAIT}'; true");
    let emptied = Waiting::start(&script, &[], &[("TOLLGATE_TEST", "of the parent")]);
    assert_eq!(
        from_environment(&emptied.facts(), "TOLLGATE_TEST")
            .unwrap()
            .expose(),
        b"of the parent"
    );
}

#[test]
fn a_variable_that_nobody_has_is_named() {
    let process = Waiting::start(WAIT, &[], &[("TOLLGATE_TEST_LONGER", "x")]);
    let error = from_environment(&process.facts(), "TOLLGATE_TEST").unwrap_err();
    assert!(matches!(error, IdentityError::NoVariable { .. }));
    assert!(error.to_string().contains("$TOLLGATE_TEST"), "{error}");
}

#[test]
fn processes_of_another_cgroup_do_not_speak_for_the_flow() {
    let process = Waiting::start(WAIT, &[], &[("TOLLGATE_TEST", "token")]);
    let mut facts = process.facts();
    facts.cgroup_path = CgroupPath("/actions.slice/report-1.service".into());
    assert!(matches!(
        from_environment(&facts, "TOLLGATE_TEST"),
        Err(IdentityError::NoVariable { .. })
    ));
}

/// Reads a token file as the agent does: on a thread of its own, which gives up its rights.
fn read_file(facts: &FlowFacts, container: bool, path: &Path) -> Result<Vec<u8>, IdentityError> {
    let (facts, path) = (facts.clone(), path.to_owned());
    std::thread::spawn(move || from_file(&facts, container, &path).map(|token| token.expose().to_vec()))
        .join()
        .unwrap()
}

fn write(path: &Path, content: &[u8], mode: u32, uid: u32) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(uid), None).unwrap();
}

const JOB: u32 = 65_533;

#[test]
fn a_token_file_is_read_with_the_rights_of_the_process() {
    if !is_root() {
        return;
    }
    let process = Waiting::start(WAIT, &[], &[]);
    let mut facts = process.facts();
    facts.uid = JOB;
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let own = directory.path().join("own");
    write(&own, b"token\n", 0o600, JOB);
    assert_eq!(read_file(&facts, false, &own).unwrap(), b"token");

    let of_root = directory.path().join("of-root");
    write(&of_root, b"secret", 0o600, 0);
    let link = directory.path().join("link");
    symlink(&of_root, &link).unwrap();
    let behind_a_wall = directory.path().join("closed/token");
    fs::create_dir(behind_a_wall.parent().unwrap()).unwrap();
    write(&behind_a_wall, b"secret", 0o644, 0);
    fs::set_permissions(behind_a_wall.parent().unwrap(), fs::Permissions::from_mode(0o700)).unwrap();
    for path in [&of_root, &link, &behind_a_wall] {
        let error = read_file(&facts, false, path).unwrap_err();
        assert!(
            matches!(error, IdentityError::Unreadable { .. }),
            "{}",
            path.display()
        );
    }
    // A job that runs as root reads what root reads.
    facts.uid = 0;
    assert_eq!(read_file(&facts, false, &of_root).unwrap(), b"secret");
    // This thread gave up nothing.
    assert_eq!(fs::read(&of_root).unwrap(), b"secret");
}

#[test]
fn links_stay_in_the_root_of_the_process() {
    if !is_root() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("run")).unwrap();
    fs::write(root.path().join("run/inside"), "inside").unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink("/run/inside", root.path().join("absolute")).unwrap();
    symlink(outside.path(), root.path().join("escape")).unwrap();
    symlink("../../../../../../../../../etc/passwd", root.path().join("climb")).unwrap();
    symlink("/proc/self/root/etc/passwd", root.path().join("magic")).unwrap();
    let read = |name: &str| {
        let root: std::os::fd::OwnedFd = fs::File::open(root.path()).unwrap().into();
        super::source::read_as(&root, Path::new(name), 0, 0).map(|bytes| bytes.to_vec())
    };
    assert_eq!(read("/absolute").unwrap(), b"inside");
    for name in ["/escape", "/climb", "/magic", "/../../../etc/passwd"] {
        assert!(read(name).is_err(), "{name}");
    }
}

#[test]
fn only_regular_files_of_sensible_size_are_tokens() {
    let process = Waiting::start(WAIT, &[], &[]);
    let facts = process.facts();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, vec![b'x'; LONGEST_TOKEN + 1]).unwrap();
    assert!(matches!(
        read_file(&facts, false, &path),
        Err(IdentityError::TokenTooLong { .. })
    ));
    fs::write(&path, " \n").unwrap();
    assert!(matches!(
        read_file(&facts, false, &path),
        Err(IdentityError::TokenEmpty { .. })
    ));
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    for path in [&pipe, &directory.path().join("missing")] {
        assert!(matches!(
            read_file(&facts, false, path),
            Err(IdentityError::Unreadable { .. })
        ));
    }
}

#[test]
fn for_a_process_that_ended_the_host_stands_in_but_never_for_a_container() {
    let mut process = Waiting::start(WAIT, &[], &[]);
    let facts = process.facts();
    process.end();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, "token").unwrap();
    assert_eq!(read_file(&facts, false, &path).unwrap(), b"token");
    assert!(matches!(
        read_file(&facts, true, &path),
        Err(IdentityError::ProcessGone { .. })
    ));
}

/// `fs.suid_dumpable` as it was, when this is dropped.
struct SuidDumpable(String);

impl SuidDumpable {
    const PATH: &str = "/proc/sys/fs/suid_dumpable";

    fn set(value: &str) -> Self {
        let before = fs::read_to_string(Self::PATH).unwrap();
        fs::write(Self::PATH, value).unwrap();
        Self(before)
    }
}

impl Drop for SuidDumpable {
    fn drop(&mut self) {
        fs::write(Self::PATH, &self.0).unwrap();
    }
}

#[test]
fn a_thread_that_took_on_another_user_leaves_no_door_open_to_dumps() {
    use nix::sys::prctl::get_dumpable;
    use nix::unistd::{Uid, setfsuid};

    if !is_root() {
        return;
    }
    crate::kernel::dump::forbid().unwrap();
    // As hosts have it on which programs that change their user are to be debugged. By default the kernel would set 0 anyway.
    let _before = SuidDumpable::set("1");
    let comes_to = |wanted: bool, mut act: Box<dyn FnMut()>| {
        // Other tests of this process do the same.
        (0..1000).any(|_| {
            act();
            get_dumpable().unwrap() == wanted
        })
    };
    // The kernel does open it: what follows would be seen otherwise.
    let changes = || {
        let changed = std::thread::spawn(|| setfsuid(Uid::from_raw(JOB)));
        changed.join().unwrap();
    };
    assert!(comes_to(true, Box::new(changes)));
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let own = directory.path().join("own");
    write(&own, b"token\n", 0o600, JOB);
    let process = Waiting::start(WAIT, &[], &[]);
    let mut facts = process.facts();
    facts.uid = JOB;
    assert_eq!(read_file(&facts, false, &own).unwrap(), b"token");
    let waits = || std::thread::sleep(Duration::from_millis(1));
    assert!(comes_to(false, Box::new(waits)), "it can be dumped from then on");
}
