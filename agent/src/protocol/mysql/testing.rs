//! A real MariaDB server of a test's own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tempfile::TempDir;

use crate::config::{EndpointHost, TlsSpec};
use crate::model::Place;
use crate::protocol::Target;
use crate::protocol::postgres::login::testing::Authority;
use crate::tls::Upstream;

/// A server in a directory of its own; stopped and removed when dropped.
pub(crate) struct MariaDb {
    dir: TempDir,
    process: Option<Child>,
    port: u16,
    _pristine: Arc<TempDir>,
}

/// The files of a server that has not run yet; they go with the last server that was made of them. Made once for many tests:
/// it is most of the work, and servers that are made at once run out of what the host has for asynchronous I/O.
fn pristine() -> Arc<TempDir> {
    static MADE: Mutex<Weak<TempDir>> = Mutex::new(Weak::new());
    let mut kept = MADE.lock();
    if let Some(made) = kept.upgrade() {
        return made;
    }
    let dir = tempfile::Builder::new().prefix("my-").tempdir().unwrap();
    let made = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--force",
        ])
        .args([
            "--innodb-log-file-size=4M",
            "--innodb-use-native-aio=0",
            "--user=root",
        ])
        .arg(format!("--datadir={}", dir.path().display()))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stdout));
    let dir = Arc::new(dir);
    *kept = Arc::downgrade(&dir);
    dir
}

impl MariaDb {
    /// Starts one and runs `sql` as root. TLS is on, with a certificate of `authority` for `db.acme.test` and 127.0.0.1.
    pub(crate) fn start(authority: &Authority, sql: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("my-").tempdir().unwrap();
        let pristine = pristine();
        let copied = Command::new("cp")
            .args(["-a", "--"])
            .arg(pristine.path())
            .arg(dir.path().join("data"))
            .status()
            .unwrap();
        assert!(copied.success());
        let (certificate, key) = authority.issue(&["db.acme.test"], Some(Ipv4Addr::LOCALHOST.into()), 2100);
        fs::write(dir.path().join("server.crt"), certificate).unwrap();
        fs::write(dir.path().join("server.key"), key).unwrap();
        let port = tollgate_tests::process::free_port().unwrap();
        let mut server = Self {
            dir,
            process: None,
            port,
            _pristine: pristine,
        };
        server.up();
        server.run(sql);
        server
    }

    /// Starts it, after [`Self::down`].
    pub(crate) fn up(&mut self) {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let mut process = Command::new("mariadbd")
            .args([
                "--no-defaults",
                "--user=root",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
            ])
            .args([
                "--innodb-log-file-size=4M",
                "--innodb-buffer-pool-size=8M",
                "--innodb-flush-log-at-trx-commit=0",
                "--innodb-use-native-aio=0",
            ])
            .args(["--skip-log-bin", "--performance-schema=off"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--ssl-cert={}", path("server.crt")))
            .arg(format!("--ssl-key={}", path("server.key")))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("ready for connections") {
            assert_ne!(
                log.read_line(&mut seen).unwrap(),
                0,
                "the server did not start: {seen}"
            );
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        self.process = Some(process);
    }

    /// Kills it; what it has stays.
    pub(crate) fn down(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Runs `sql` as root and gives what it says.
    pub(crate) fn run(&self, sql: &str) -> String {
        let output = self.client(
            "root",
            "",
            &["--socket", &self.socket().display().to_string()],
            sql,
        );
        assert!(
            output.status.success(),
            "{sql}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// What the real client says as somebody.
    pub(crate) fn client(&self, user: &str, password: &str, way: &[&str], sql: &str) -> Output {
        self.start_client(user, password, way)
            .args(["-e", sql])
            .output()
            .unwrap()
    }

    /// The real client, not started; over TCP unless `way` says otherwise.
    pub(crate) fn start_client(&self, user: &str, password: &str, way: &[&str]) -> Command {
        let mut client = Command::new("mariadb");
        client
            .args(["--no-defaults", "-N", "-B", "-u", user])
            .env("MYSQL_PWD", password)
            .stdin(Stdio::null());
        if !way.contains(&"--socket") {
            client.args(["-h", "127.0.0.1", "-P", &self.port.to_string()]);
        }
        client.args(way);
        client
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The server as a target at `place`, under the name of its certificate.
    pub(crate) fn target(place: Place, tls: &TlsSpec) -> Target {
        Target {
            service: "orders-db".into(),
            host: EndpointHost::Name("db.acme.test".to_owned()),
            address: place,
            tls: Arc::new(Upstream::from_spec(tls).unwrap()),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        self.down();
    }
}
