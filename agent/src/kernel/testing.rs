//! What tests with a real kernel need: a loaded kernel side of their own, throw-away cgroups, and a workload process.
//!
//! Each test pins in a directory of its own, takes free ports, and manages only cgroups that it made, so that tests
//! disturb neither one another nor an agent that runs on the same host.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipnet::IpNet;

use super::cgroup2::Cgroup2;
use super::{EventStream, Kernel, KernelEvent, KernelOptions, Protected, Standing, check_requirements};
use crate::config::Egress;
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// The policy of [`Bench::manage`].
pub(crate) const POLICY: PolicyId = PolicyId(1);

/// Whether the test can run here. Where it cannot, it says so; in CI that is a failure.
pub(crate) fn privileged() -> bool {
    let lack = check_requirements()
        .err()
        .map(|error| error.to_string())
        .or_else(|| {
            let python = Command::new("python3").arg("-c").arg("pass").status();
            (!python.is_ok_and(|status| status.success())).then(|| "python3 is missing".to_owned())
        });
    let Some(lack) = lack else {
        return true;
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "a privileged test cannot run: {lack}"
    );
    eprintln!("\n*** NOT TESTED: this test needs the real kernel, and {lack} ***\n");
    false
}

/// A loaded kernel side that is gone when this is dropped.
pub(crate) struct Bench {
    pub(crate) kernel: Arc<Kernel>,
    pub(crate) events: EventStream,
    pub(crate) pins: Pins,
}

/// A pin directory that is uninstalled when this is dropped.
pub(crate) struct Pins(tempfile::TempDir);

impl Pins {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.0.path().join("bpf")
    }

    pub(crate) fn options(&self) -> KernelOptions {
        KernelOptions { pin_dir: self.dir() }
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = Kernel::uninstall(&self.options()) {
            eprintln!("left behind: {error}");
        }
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let pins = Pins::new();
        let (kernel, events) = Kernel::load(&pins.options()).unwrap();
        Self {
            kernel: Arc::new(kernel),
            events,
            pins,
        }
    }

    /// Takes a program away, as on a kernel that refuses it.
    pub(crate) fn without(&self, program: &str) {
        std::fs::remove_file(self.pins.dir().join(format!("1-1/link_{program}"))).unwrap();
    }

    /// Puts `cgroup` under [`POLICY`].
    pub(crate) fn manage(&self, cgroup: &TestCgroup, egress: Egress, protected: &[SocketAddr]) {
        self.kernel.set_policy(POLICY, egress).unwrap();
        self.protect(protected);
        self.kernel
            .classify(cgroup.id(), &cgroup.path, Standing::Managed(POLICY))
            .unwrap();
    }

    pub(crate) fn protect(&self, protected: &[SocketAddr]) {
        let protected: BTreeSet<_> = protected
            .iter()
            .map(|address| Protected {
                network: IpNet::from(address.ip()),
                port: address.port(),
            })
            .collect();
        self.kernel.set_protected(POLICY, &protected).unwrap();
    }

    /// The next event that `wanted` accepts.
    pub(crate) async fn event(&mut self, wanted: impl Fn(&KernelEvent) -> bool) -> KernelEvent {
        let find = async {
            loop {
                let event = self.events.next().await.unwrap();
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), find)
            .await
            .expect("the event did not come")
    }
}

/// A cgroup below the root that is removed when this is dropped.
pub(crate) struct TestCgroup {
    pub(crate) path: CgroupPath,
    directory: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl TestCgroup {
    /// A new cgroup `/tollgate-test-<pid>-<number>`.
    pub(crate) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::at(&format!("/tollgate-test-{}-{number}", std::process::id()))
    }

    pub(crate) fn at(path: &str) -> Self {
        let path = CgroupPath(path.into());
        let directory = Cgroup2::discover().unwrap().directory(&path);
        std::fs::create_dir(&directory).unwrap();
        Self { path, directory }
    }

    /// A new cgroup below this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self::at(&format!("{}/{name}", self.path))
    }

    pub(crate) fn id(&self) -> CgroupId {
        Cgroup2::discover().unwrap().id_of(&self.path).unwrap()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for TestCgroup {
    /// Whatever a failed test left inside goes with it.
    fn drop(&mut self) {
        // A killed process leaves its cgroup some time later.
        for _ in 0..2_000 {
            let _gone = std::fs::write(self.directory.join("cgroup.kill"), "1");
            if remove_tree(&self.directory) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        eprintln!("left behind: {}", self.directory.display());
    }
}

fn remove_tree(directory: &Path) -> bool {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match std::fs::remove_dir(directory) {
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
        Ok(()) => true,
    }
}

/// A Python process that does what it is told. Killed when this is dropped.
pub(crate) struct Workload {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// Reads one expression or statement a line and prints one line: its value, or the name of the error.
const INTERPRETER: &str = r#"
import sys, os, socket, errno
S = {}
def open_(name, family, kind=socket.SOCK_STREAM, proto=0):
    S[name] = socket.socket(family, kind, proto)
def connect(name, host, port):
    v6 = ":" in host
    if name not in S: open_(name, socket.AF_INET6 if v6 else socket.AF_INET)
    S[name].settimeout(20)
    S[name].connect((host, port))
for line in sys.stdin:
    try:
        try: value = eval(line, globals())
        except SyntaxError: value = exec(line, globals())
        print(repr(value), flush=True)
    except OSError as e:
        print(errno.errorcode.get(e.errno, type(e).__name__), flush=True)
    except Exception as e:
        print(repr(e), flush=True)
"#;

impl Workload {
    /// A process in no cgroup of the test.
    pub(crate) fn outside() -> Self {
        Self::spawn(Command::new("python3"))
    }

    /// A process in `cgroup`.
    pub(crate) fn inside(cgroup: &TestCgroup) -> Self {
        let mut workload = Self::outside();
        workload.enter(cgroup);
        workload
    }

    /// A process in a network namespace of its own, with its loopback up.
    pub(crate) fn in_new_namespace() -> Self {
        let mut command = Command::new("unshare");
        command.args([
            "--net",
            "--",
            "sh",
            "-c",
            "ip link set lo up && exec python3 \"$@\"",
            "sh",
        ]);
        Self::spawn(command)
    }

    /// A process in the network namespace that process `pid` is in.
    pub(crate) fn in_namespace_of(pid: u32) -> Self {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &pid.to_string(), "--", "python3"]);
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command
            .args(["-u", "-c", INTERPRETER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut workload = Self { child, input, output };
        assert_eq!(workload.tell("1"), "1");
        workload
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn enter(&mut self, cgroup: &TestCgroup) {
        let procs = cgroup.directory().join("cgroup.procs");
        std::fs::write(procs, self.pid().to_string()).unwrap();
    }

    /// Runs one line of Python; `"None"` is success.
    pub(crate) fn tell(&mut self, line: &str) -> String {
        writeln!(self.input, "{line}").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        answer.trim().to_owned()
    }

    /// Connects the socket `name`, which is made if there is none.
    pub(crate) fn connect(&mut self, name: &str, address: SocketAddr) -> String {
        self.connect_to(name, &address.ip().to_string(), address.port())
    }

    pub(crate) fn connect_to(&mut self, name: &str, host: &str, port: u16) -> String {
        self.tell(&format!("connect({name:?}, {host:?}, {port})"))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
