//! A real PostgreSQL server in a directory of its own.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use nix::unistd::User;

use crate::process::{Service, eventually, free_port, run};
use crate::scratch::Scratch;

/// The superuser that `initdb` makes. Its password, like every one here, is thrown away with the server.
pub const ADMIN: &str = "postgres";
/// Password of [`ADMIN`].
pub const ADMIN_PASSWORD: &str = "admin-throw-away-7c1d";

/// A running server on a port of 127.0.0.1, that logs every statement.
#[derive(Debug)]
pub struct Postgres {
    service: Option<Service>,
    scratch: Scratch,
    data: PathBuf,
    bin: PathBuf,
    port: u16,
}

/// How a server is set up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Serve TLS, with a certificate for `db.acme.test` of a throw-away authority (`ca.pem` in the server's folder).
    pub tls: bool,
    /// `password_encryption = md5` and md5 in `pg_hba.conf` instead of SCRAM-SHA-256.
    pub md5: bool,
}

impl Postgres {
    /// Makes and starts a server; it takes about a second.
    pub fn start(options: Options) -> Result<Self> {
        let bin = newest_bin()?;
        let scratch = Scratch::new("postgres")?;
        let user = User::from_name("postgres")?.context("no user `postgres`: install Debian's postgresql")?;
        chown(scratch.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        let data = scratch.path().join("data");
        let password = scratch.path().join("initdb-password");
        fs::write(&password, ADMIN_PASSWORD)?;
        chown(&password, Some(user.uid.as_raw()), None)?;
        let method = if options.md5 { "md5" } else { "scram-sha-256" };
        run(as_postgres(&bin.join("initdb"))
            .args([
                "--no-sync",
                "--username",
                ADMIN,
                "--locale=C.UTF-8",
                "--encoding=UTF8",
            ])
            .arg(format!("--auth={method}"))
            .arg(format!("--pwfile={}", password.display()))
            .arg("--pgdata")
            .arg(&data))?;
        let mut config = fs::read_to_string(data.join("postgresql.conf"))?;
        config.push_str("fsync = off\nlog_statement = all\nlisten_addresses = '127.0.0.1'\n");
        writeln!(config, "unix_socket_directories = '{}'", scratch.path().display())?;
        if options.md5 {
            config.push_str("password_encryption = md5\n");
        }
        if options.tls {
            make_certificates(scratch.path(), &data, user.uid.as_raw())?;
            config.push_str("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n");
        }
        fs::write(data.join("postgresql.conf"), config)?;
        let mut server = Self {
            service: None,
            scratch,
            data,
            bin,
            port: free_port()?,
        };
        server.resume()?;
        Ok(server)
    }

    /// Starts the server again after [`Postgres::crash`], on the same port.
    pub fn resume(&mut self) -> Result<()> {
        let log = self.scratch.path().join("server.log");
        let mut command = as_postgres(&self.bin.join("postgres"));
        command
            .arg("-D")
            .arg(&self.data)
            .args(["-p", &self.port.to_string()]);
        let mut service = Service::start("postgres", &mut command, &log)?;
        service.wait_for("it to accept connections", Duration::from_secs(30), |output| {
            output.contains("database system is ready to accept connections")
        })?;
        self.service = Some(service);
        Ok(())
    }

    /// Lets it have that many connections, which takes a restart.
    pub fn takes(&mut self, connections: u32) -> Result<()> {
        self.admin(
            "postgres",
            &format!("ALTER SYSTEM SET max_connections = {connections}"),
        )?;
        self.crash()?;
        self.resume()
    }

    /// Ends the server at once, as a crash would (SIGQUIT: immediate shutdown).
    pub fn crash(&mut self) -> Result<()> {
        if let Some(mut service) = self.service.take() {
            service.signal(Signal::SIGQUIT)?;
            service.wait(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Its TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its folder.
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Everything the server has logged: each statement that it received.
    pub fn log(&self) -> String {
        self.service.as_ref().map(Service::output).unwrap_or_default()
    }

    /// Runs SQL as the superuser, directly and outside any managed cgroup; gives unaligned, tuples-only output.
    pub fn admin(&self, database: &str, sql: &str) -> Result<String> {
        run(self
            .psql(ADMIN, ADMIN_PASSWORD, database)
            .args(["-qAtX", "-v", "ON_ERROR_STOP=1", "-c", sql]))
    }

    /// Its version as a number, as 160014 of 16.14.
    pub fn version(&self) -> Result<u32> {
        Ok(self
            .admin("postgres", "SHOW server_version_num")?
            .trim()
            .parse()?)
    }

    /// A `psql` that talks to the server directly.
    pub fn psql(&self, user: &str, password: &str, database: &str) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
                "-U",
                user,
                "-d",
                database,
            ])
            .env("PGPASSWORD", password);
        command
    }

    /// Waits until the server has no session of `user` left.
    pub fn wait_until_gone(&self, user: &str) -> Result<()> {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
        eventually("the sessions to end", Duration::from_secs(10), || {
            (self.admin("postgres", &sql).ok()?.trim() == "0").then_some(())
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.crash().ok();
    }
}

fn as_postgres(program: &Path) -> Command {
    // `setpriv` executes in place, so the child is the server itself and gets our signals; `runuser` would stay between.
    let mut command = Command::new("setpriv");
    command
        .args([
            "--pdeathsig",
            "QUIT",
            "--reuid",
            "postgres",
            "--regid",
            "postgres",
            "--init-groups",
            "--",
        ])
        .arg(program)
        .current_dir("/");
    command
}

/// Directory of the server's programs: what `TOLLGATE_TEST_POSTGRES` names (`cargo xtask conformance`), else of the newest
/// version, as Debian lays them out.
pub fn newest_bin() -> Result<PathBuf> {
    if let Some(chosen) = std::env::var_os("TOLLGATE_TEST_POSTGRES") {
        return Ok(PathBuf::from(chosen));
    }
    let newest = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse::<u32>().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, bin)| bin.join("postgres").exists())
        .max();
    match newest {
        Some((_, bin)) => Ok(bin),
        None => bail!("no PostgreSQL server in /usr/lib/postgresql: run `cargo xtask setup`"),
    }
}

fn make_certificates(dir: &Path, data: &Path, uid: u32) -> Result<()> {
    let script = r#"
        set -e
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj "/CN=throw-away authority" \
            -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=db.acme.test" \
            -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:db.acme.test\n' > san
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile san -out server.crt
    "#;
    run(Command::new("sh").arg("-c").arg(script).current_dir(dir))?;
    for name in ["server.key", "server.crt"] {
        let target = data.join(name);
        fs::rename(dir.join(name), &target)?;
        chown(&target, Some(uid), None)?;
    }
    Ok(())
}
