//! Certificates as OpenSSH's own tools see them: `ssh-keygen -L` reads them, `ssh` logs in with them, `sshd` judges them.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::{SshCaError, maker};
use crate::config::{Share, SourceSpec, SshCaSpec};
use crate::credential::maker::{Left, Made, MakeError};
use crate::credential::tests::ask;
use crate::credential::{CredentialError, Material};

fn user() -> String {
    let uid = nix::unistd::geteuid();
    nix::unistd::User::from_uid(uid).unwrap().unwrap().name
}

/// An authority, as `ssh-keygen` makes it.
fn authority(dir: &Path, name: &str, arguments: &[&str]) -> PathBuf {
    let path = dir.join(name);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-C", "authority"])
        .args(arguments)
        .arg("-f")
        .arg(&path)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    path
}

fn spec(ca: PathBuf) -> SshCaSpec {
    SshCaSpec {
        ca: SourceSpec::File(ca),
        principals: vec![user()],
        ttl: Duration::from_mins(5),
        force_command: None,
        source_address: Vec::new(),
        extensions: Vec::new(),
    }
}

async fn make(spec: &SshCaSpec) -> Result<Made, MakeError> {
    let (maker, ask) = (maker(spec), ask(Share::Session));
    assert_eq!(maker.plan(&ask), None, "there is nothing to revoke");
    maker.make(&ask, None).await
}

/// A key and its certificate, where `ssh` looks for them.
struct Client {
    dir: tempfile::TempDir,
}

impl Client {
    async fn of(spec: &SshCaSpec) -> Self {
        let Material::Key {
            private,
            certificate: Some(certificate),
        } = make(spec).await.unwrap().material
        else {
            panic!("a key and a certificate are made")
        };
        let dir = tempfile::tempdir().unwrap();
        for (name, secret) in [("key", private), ("key-cert.pub", certificate)] {
            let path = dir.path().join(name);
            fs::write(&path, secret.expose()).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { dir }
    }

    /// What `ssh-keygen -L` says of it, a line each.
    fn listing(&self) -> String {
        let listed = Command::new("ssh-keygen")
            .arg("-Lf")
            .arg(self.dir.path().join("key-cert.pub"))
            .env("TZ", "UTC")
            .output()
            .unwrap();
        assert!(listed.status.success(), "{listed:?}");
        String::from_utf8(listed.stdout).unwrap()
    }
}

/// A real sshd on loopback that trusts one authority and nothing else.
struct Sshd {
    process: Child,
    port: u16,
    log: Arc<Mutex<String>>,
    _dir: tempfile::TempDir,
}

impl Sshd {
    fn start(authority: &Path) -> Self {
        // Where sshd separates its privileges; a package's unit makes it otherwise.
        fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let host_key = super::tests::authority(dir.path(), "host", &["-t", "ed25519", "-N", ""]);
        let config = dir.path().join("sshd_config");
        fs::write(
            &config,
            format!(
                "ListenAddress 127.0.0.1\nHostKey {}\nTrustedUserCAKeys {}.pub\nAuthorizedKeysFile none\n\
                 AuthenticationMethods publickey\nPermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\n\
                 PidFile none\nLogLevel VERBOSE\n",
                host_key.display(),
                authority.display()
            ),
        )
        .unwrap();
        let port = tollgate_tests::process::free_port().unwrap();
        let mut process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-p", &port.to_string(), "-f"])
            .arg(&config)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        while !seen.contains("Server listening") {
            seen.push_str(
                &lines
                    .next()
                    .unwrap_or_else(|| panic!("sshd did not start: {seen}"))
                    .unwrap(),
            );
        }
        let log = Arc::new(Mutex::new(String::new()));
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = writer.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            process,
            port,
            log,
            _dir: dir,
        }
    }

    fn ssh(&self, client: &Client, arguments: &[&str]) -> Output {
        self.ssh_as(&user(), client, arguments)
    }

    fn ssh_as(&self, user: &str, client: &Client, arguments: &[&str]) -> Output {
        Command::new("ssh")
            .args(["-F", "none", "-p", &self.port.to_string(), "-l", user])
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "IdentitiesOnly=yes",
                "-o",
                "IdentityAgent=none",
            ])
            .args([
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "UserKnownHostsFile=/dev/null",
                "-o",
                "LogLevel=ERROR",
            ])
            .arg("-i")
            .arg(client.dir.path().join("key"))
            .arg("127.0.0.1")
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Waits until the log has it: sshd writes it when the client may be gone already.
    fn logged(&self, text: &str) {
        let until = std::time::Instant::now() + Duration::from_secs(20);
        while !self.log.lock().unwrap().contains(text) {
            assert!(
                std::time::Instant::now() < until,
                "{text:?} is not in {}",
                self.log.lock().unwrap()
            );
            std::thread::yield_now();
        }
    }

    fn refuses(&self, client: &Client, why: &str) {
        let output = self.ssh(client, &["id", "-u"]);
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        self.logged(why);
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn sshd_takes_the_certificate_of_its_authority_for_its_principal_and_its_log_says_whose_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for (name, arguments) in [
        ("ed25519", ["-t", "ed25519", "-N", ""].as_slice()),
        ("p256", &["-t", "ecdsa", "-b", "256", "-N", ""]),
        ("p384", &["-t", "ecdsa", "-b", "384", "-N", ""]),
    ] {
        let ca = authority(dir.path(), name, arguments);
        let sshd = Sshd::start(&ca);
        let client = Client::of(&spec(ca)).await;
        let output = sshd.ssh(&client, &["id", "-un"]);
        assert_eq!(text(&output), user(), "{name}: {output:?}");
        sshd.logged("ID tollgate:ci-report/orders-db:session=");
        sshd.logged(":identity=uid_1000 (serial ");
    }
}

#[tokio::test]
async fn what_ssh_keygen_reads_in_it_is_what_the_policy_says_and_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let mut spec = spec(ca);
    spec.principals = vec!["{workload}-{service}".into(), "backup".into(), "backup".into()];
    let client = Client::of(&spec).await;
    let listing = client.listing();
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    for expected in [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        "Critical Options: (none)",
        "Extensions: (none)",
    ] {
        assert!(lines.contains(&expected), "{listing}");
    }
    let at = lines.iter().position(|line| *line == "Principals:").unwrap();
    assert_eq!(
        lines[at + 1..at + 4],
        ["ci-report-orders-db", "backup", "Critical Options: (none)"]
    );
    // Five minutes, and one for a clock that is behind.
    let valid = lines
        .iter()
        .find_map(|line| line.strip_prefix("Valid: from "))
        .unwrap();
    let (from, to) = valid.split_once(" to ").unwrap();
    let time = |text: &str| chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S").unwrap();
    assert_eq!((time(to) - time(from)).num_seconds(), 360);
    let age = chrono::DateTime::<chrono::Utc>::from(SystemTime::now()).naive_utc() - time(from);
    assert!((60..120).contains(&age.num_seconds()), "{listing}");

    spec.force_command = Some("rsync --server \"/srv/a b\"".into());
    spec.source_address = vec!["10.0.4.0/24".parse().unwrap(), "2001:db8::7/128".parse().unwrap()];
    spec.extensions = vec!["permit-pty", "permit-port-forwarding"];
    let listing = Client::of(&spec).await.listing();
    for expected in [
        "force-command rsync --server \"/srv/a b\"",
        "source-address 10.0.4.0/24,2001:db8::7/128",
        "permit-pty",
        "permit-port-forwarding",
    ] {
        assert!(listing.lines().any(|line| line.trim() == expected), "{listing}");
    }
    let other = Client::of(&spec).await.listing();
    let of = |listing: &str, what: &str| {
        let line = listing
            .lines()
            .find(|line| line.trim().starts_with(what))
            .unwrap();
        line.to_owned()
    };
    for each in ["Serial:", "Public key:", "Key ID:"] {
        assert_ne!(of(&listing, each), of(&other, each), "each session has its own");
    }
}

#[tokio::test]
async fn sshd_refuses_one_that_is_over_another_principal_another_place_and_another_authority() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let sshd = Sshd::start(&ca);
    let good = spec(ca);

    let over = SshCaSpec {
        ttl: Duration::ZERO,
        ..good.clone()
    };
    sshd.refuses(&Client::of(&over).await, "Certificate invalid: expired");
    let somebody = SshCaSpec {
        principals: vec!["somebody-else".into()],
        ..good.clone()
    };
    sshd.refuses(
        &Client::of(&somebody).await,
        "Certificate invalid: name is not a listed principal",
    );
    let elsewhere = SshCaSpec {
        source_address: vec!["192.0.2.0/24".parse().unwrap()],
        ..good.clone()
    };
    sshd.refuses(
        &Client::of(&elsewhere).await,
        "not from a permitted source address",
    );
    let stranger = authority(dir.path(), "stranger", &["-t", "ed25519", "-N", ""]);
    let fingerprint = Command::new("ssh-keygen")
        .arg("-lf")
        .arg(&stranger)
        .output()
        .unwrap();
    let fingerprint = text(&fingerprint);
    let fingerprint = fingerprint.split(' ').nth(1).unwrap();
    sshd.refuses(
        &Client::of(&spec(stranger)).await,
        &format!("CA ED25519 {fingerprint}"),
    );

    let here = SshCaSpec {
        source_address: vec!["127.0.0.0/8".parse().unwrap()],
        ..good
    };
    let output = sshd.ssh(&Client::of(&here).await, &["echo", "in"]);
    assert_eq!(text(&output), "in", "{output:?}");
}

#[tokio::test]
async fn sshd_runs_the_forced_command_and_gives_no_terminal_and_no_forward_that_is_not_named() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let sshd = Sshd::start(&ca);
    let plain = Client::of(&spec(ca.clone())).await;
    let forced = SshCaSpec {
        force_command: Some("echo forced: \"$SSH_ORIGINAL_COMMAND\"".into()),
        ..spec(ca.clone())
    };
    let output = sshd.ssh(&Client::of(&forced).await, &["cat", "/etc/shadow"]);
    assert_eq!(text(&output), "forced: cat /etc/shadow", "{output:?}");

    let output = sshd.ssh(&plain, &["-tt", "tty"]);
    assert!(!text(&output).contains("/dev/pts"), "{output:?}");
    // To the server itself, which is there: what is refused is the forward.
    let forward = format!("127.0.0.1:{}", sshd.port);
    let output = sshd.ssh(&plain, &["-W", &forward]);
    assert!(!text(&output).contains("SSH-2.0"), "{output:?}");
    let open = SshCaSpec {
        extensions: vec!["permit-pty", "permit-port-forwarding"],
        ..spec(ca)
    };
    let open = Client::of(&open).await;
    let output = sshd.ssh(&open, &["-tt", "tty"]);
    assert!(text(&output).contains("/dev/pts"), "{output:?}");
    let output = sshd.ssh(&open, &["-W", &forward]);
    assert!(text(&output).contains("SSH-2.0"), "{output:?}");
}

#[tokio::test]
async fn keys_that_are_no_authority_are_refused_when_the_agent_starts_and_nothing_of_them_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let nonsense = dir.path().join("nonsense");
    fs::write(&nonsense, "hunter2-7f3a\n").unwrap();
    fs::set_permissions(&nonsense, fs::Permissions::from_mode(0o400)).unwrap();
    let cut = authority(dir.path(), "cut", &["-t", "ed25519", "-N", ""]);
    let whole = fs::read_to_string(&cut).unwrap();
    fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let public = authority(dir.path(), "public", &["-t", "ed25519", "-N", ""]);
    fs::rename(public.with_extension("pub"), &public).unwrap();
    fs::set_permissions(&public, fs::Permissions::from_mode(0o400)).unwrap();
    let phrase = authority(dir.path(), "phrase", &["-t", "ed25519", "-N", "a passphrase"]);
    let rsa = authority(dir.path(), "rsa", &["-t", "rsa", "-b", "2048", "-N", ""]);
    let p521 = authority(dir.path(), "p521", &["-t", "ecdsa", "-b", "521", "-N", ""]);
    for (key, expected) in [
        (nonsense, "no private key in OpenSSH's form"),
        (cut, "no private key in OpenSSH's form"),
        (public, "no private key in OpenSSH's form"),
        (phrase, "passphrase"),
        (rsa, "of the kind ssh-rsa"),
        (p521, "nistp521"),
    ] {
        let spec = spec(key);
        let error = maker(&spec).check().await.unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        let MakeError { error, left } = make(&spec).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(left, Left::Nothing);
    }
    let exposed = authority(dir.path(), "exposed", &["-t", "ed25519", "-N", ""]);
    fs::set_permissions(&exposed, fs::Permissions::from_mode(0o644)).unwrap();
    let error = maker(&spec(exposed)).check().await.unwrap_err();
    assert!(matches!(error, CredentialError::Exposed { .. }), "{error}");
}

#[tokio::test]
async fn a_name_that_would_be_more_than_one_principal_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority(dir.path(), "ca", &["-t", "ed25519", "-N", ""]);
    let long = "x".repeat(65);
    for pattern in ["root,backup", "*", "a b", "-x", "", "{identity}", "a\nb", &long] {
        let mut spec = spec(ca.clone());
        spec.principals = vec![pattern.to_owned()];
        let MakeError { error, .. } = make(&spec).await.unwrap_err();
        assert!(
            matches!(error, CredentialError::SshCa(SshCaError::Principal(_))),
            "{pattern:?}: {error}"
        );
    }
    let mut none = spec(ca);
    none.principals.clear();
    assert!(make(&none).await.is_err(), "good for every user");
}
