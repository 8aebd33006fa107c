//! A real MariaDB server in a directory of its own.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::process::{Service, free_port, run};
use crate::scratch::Scratch;

/// A running server on a port of 127.0.0.1, without TLS.
#[derive(Debug)]
pub struct MariaDb {
    // Ends before its folder goes.
    _service: Service,
    scratch: Scratch,
    port: u16,
}

impl MariaDb {
    /// Makes and starts a server; it takes about a second.
    pub fn start() -> Result<Self> {
        let scratch = Scratch::new("mariadb")?;
        let path = |name: &str| scratch.path().join(name).display().to_string();
        run(Command::new("mariadb-install-db")
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
                "--force",
            ])
            .args(["--innodb-log-file-size=4M", "--user=root"])
            .arg(format!("--datadir={}", path("data"))))?;
        let port = free_port()?;
        let mut server = Command::new("mariadbd");
        server
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
            .arg(format!("--port={port}"))
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")));
        let mut service = Service::start("mariadbd", &mut server, &scratch.path().join("server.log"))?;
        service.wait_for("it to accept connections", Duration::from_secs(30), |output| {
            output.contains("ready for connections")
        })?;
        Ok(Self {
            _service: service,
            scratch,
            port,
        })
    }

    /// Runs `sql` as root, and gives what it says.
    pub fn admin(&self, sql: &str) -> Result<String> {
        run(Command::new("mariadb")
            .args(["--no-defaults", "-N", "-B", "-u", "root", "-e", sql, "--socket"])
            .arg(self.scratch.path().join("socket")))
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a secret into its folder, and gives the path.
    pub fn secret(&self, name: &str, text: &str) -> Result<std::path::PathBuf> {
        self.scratch.secret(name, text)
    }
}
