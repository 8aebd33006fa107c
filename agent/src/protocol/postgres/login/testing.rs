//! A real PostgreSQL server of a test's own, and a proxy that does nothing but start sessions.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tokio::io::{AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};

use super::{Ask, Settings, greeting, login, take_password};
use crate::config::{EndpointHost, TlsMode, TlsSpec};
use crate::flow::Stream;
use crate::model::Place;
use crate::model::{PolicyId, Secret};
use crate::protocol::Login;
use crate::protocol::Target;
use crate::protocol::postgres::cancel::{CancelMap, Cancelled, Owner, forward};
use crate::protocol::postgres::startup::{ClientTls, Opened, accept, refuse};
use crate::tls::{LocalCa, Upstream};

/// A server in a directory of its own; stopped and removed when dropped.
pub(crate) struct Server {
    dir: TempDir,
    process: Child,
    port: u16,
}

/// An authority and a certificate of it for a server.
pub(crate) struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Server {
    /// Starts a server. `hba`: lines of `pg_hba.conf` for TCP; `sql` is run by the superuser `admin` in database
    /// `postgres`. TLS is on, with a certificate of `authority` for `db.acme.test` and 127.0.0.1.
    pub(crate) fn start(authority: &Authority, hba: &str, sql: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("pg-").tempdir().unwrap();
        give(dir.path());
        let data = dir.path().join("data");
        let made = as_postgres(&program("initdb"))
            .args([
                "-U",
                "admin",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
            ])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let (certificate, key) = authority.issue(&["db.acme.test"], Some(Ipv4Addr::LOCALHOST.into()), 2100);
        for (name, text) in [
            ("server.crt", certificate),
            ("server.key", key),
            ("pg_hba.conf", format!("local all all trust\n{hba}")),
            // Not on the command line, so that a test can switch it off.
            ("postgresql.auto.conf", "ssl = on\n".to_owned()),
        ] {
            let path = data.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            give(&path);
        }
        let port = tollgate_tests::process::free_port().unwrap();
        let mut process = as_postgres(&program("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-k"])
            .arg(dir.path())
            .args(["-c", "fsync=off", "-c", "log_min_messages=log"])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut seen = String::new();
        while !seen.contains("ready to accept connections") {
            assert_ne!(
                log.read_line(&mut seen).unwrap(),
                0,
                "the server did not start: {seen}"
            );
        }
        // A full pipe would stop the server.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let server = Self { dir, process, port };
        server.run(sql);
        server
    }

    /// Runs `sql` as the superuser and gives what it says, unaligned.
    pub(crate) fn run(&self, sql: &str) -> String {
        let mut psql = Command::new(program("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "admin",
                "-d",
                "postgres",
            ])
            .args(["-p", &self.port.to_string(), "-h"])
            .arg(self.dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        psql.stdin.take().unwrap().write_all(sql.as_bytes()).unwrap();
        let output = psql.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The server as a target, reached under `name` (else by its address).
    pub(crate) fn target(&self, upstream: TlsMode, ca: Option<&Path>, name: Option<&str>) -> Target {
        let spec = TlsSpec {
            upstream,
            ca: ca.map(Path::to_owned),
            server_name: None,
        };
        Target {
            service: "orders-db".into(),
            host: match name {
                Some(name) => EndpointHost::Name(name.to_owned()),
                None => EndpointHost::Net(IpAddr::V4(Ipv4Addr::LOCALHOST).into()),
            },
            address: Place::Network(self.address()),
            tls: Arc::new(Upstream::from_spec(&spec).unwrap()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.process.id().cast_signed());
        // SIGQUIT: at once, without a checkpoint of what is thrown away.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT);
        let _ = self.process.wait();
    }
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// Writes the certificate to a file of its own.
    pub(crate) fn file(&self, dir: &Path) -> PathBuf {
        let path = dir.join(format!("{}.pem", uuid::Uuid::now_v7()));
        fs::write(&path, &self.pem).unwrap();
        path
    }

    /// Certificate and key of a server, in PEM, valid to the end of `last_year`.
    pub(crate) fn issue(&self, names: &[&str], address: Option<IpAddr>, last_year: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // One of its own: with its issuer's, servers take it for one that vouches for itself.
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, "a server of the tests");
        params.subject_alt_names.extend(address.map(SanType::IpAddress));
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(last_year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}

/// A login.
pub(crate) fn credential(user: &str, password: &str) -> Login {
    Login {
        user: Secret::new(user.as_bytes().to_vec()),
        password: Secret::new(password.as_bytes().to_vec()),
        database: None,
    }
}

/// A connection from the test itself.
pub(crate) async fn dial(address: SocketAddr) -> Stream {
    TcpSocket::new_v4()
        .unwrap()
        .connect(address)
        .await
        .unwrap()
        .into()
}

/// Connects to a target on this host.
pub(crate) async fn dial_target(target: &Target) -> Stream {
    match &target.address {
        Place::Network(address) => dial(*address).await,
        Place::Unix(path) => UnixStream::connect(path.as_path()).await.unwrap().into(),
    }
}

/// A proxy that starts sessions with `credential` and then copies bytes.
pub(crate) struct Proxy {
    pub(crate) authority: LocalCa,
    pub(crate) target: Target,
    pub(crate) credential: Login,
    pub(crate) cancels: Arc<CancelMap>,
}

impl Proxy {
    /// Listens and serves for as long as the test's runtime lives; gives the port.
    pub(crate) async fn listen(self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Arc::new(self);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let proxy = Arc::clone(&proxy);
                tokio::spawn(async move { proxy.serve(stream).await });
            }
        });
        port
    }

    async fn serve(&self, stream: TcpStream) {
        let owner = Owner {
            policy: PolicyId(1),
            service: self.target.service.clone(),
        };
        let tls = ClientTls {
            authority: &self.authority,
            names: &[],
            address: Ipv4Addr::LOCALHOST.into(),
        };
        match accept(stream.into(), tls).await {
            Ok(Opened::Session {
                mut client,
                startup,
                mut early,
            }) => {
                take_password(&mut early);
                let settings = match Settings::of(&startup) {
                    Ok(settings) => settings,
                    Err(error) => return refuse(client, &error.to_client()).await,
                };
                let ask = Ask {
                    database: startup.database(),
                    settings: &settings,
                };
                let stream = dial_target(&self.target).await;
                let mut session = match login(stream, &self.target, &self.credential, ask).await {
                    Ok(session) => session,
                    Err(error) => return refuse(client, &error.to_client(&self.target.service)).await,
                };
                let registration = self.cancels.register(owner, &self.target, session.key.clone());
                let greeting = greeting(&session, &startup, registration.key());
                client.write_all(&greeting).await.unwrap();
                client.flush().await.unwrap();
                session.stream.write_all(&early).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut session.stream).await;
            }
            Ok(Opened::Cancel { client, key }) => {
                if let Cancelled::Forward(cancel) = self.cancels.cancel(key, &owner) {
                    forward(dial_target(cancel.target()).await, &cancel)
                        .await
                        .unwrap();
                }
                drop(client);
            }
            Err(_) => {}
        }
    }
}

/// A program of PostgreSQL: of the server whose programs `TOLLGATE_TEST_POSTGRES` names (`cargo xtask conformance`), else of
/// the newest that is installed. Distributions of the server alone have no client: then the installed one.
pub(crate) fn program(name: &str) -> PathBuf {
    let chosen = std::env::var_os("TOLLGATE_TEST_POSTGRES").map(PathBuf::from);
    if let Some(path) = chosen.map(|bin| bin.join(name)).filter(|path| path.exists()) {
        return path;
    }
    let mut versions: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("these tests need a PostgreSQL server: install the package postgresql")
        .map(|entry| entry.unwrap().path().join("bin").join(name))
        .filter(|path| path.exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .expect("these tests need a PostgreSQL server: install the package postgresql")
}

/// PostgreSQL refuses to run as root. The server dies with the thread that started it, even if that is killed.
fn as_postgres(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--init-groups"]);
    }
    command.arg(program).current_dir("/");
    command
}

fn give(path: &Path) {
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres")
            .unwrap()
            .expect("user postgres");
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}
