//! What building and testing need, installed where it is missing and named as it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use tollgate_tests::agent::workspace;

/// The version whose LLVM is that of the compiler in use.
const BPF_LINKER: &str = "0.10.1";

/// Debian packages of the tests and the demo, and a file that each brings.
const DEBIAN: &[(&str, &str)] = &[
    ("postgresql", "/usr/share/postgresql-common/pg_wrapper"),
    ("postgresql-client", "/usr/bin/psql"),
    (
        "postgresql-contrib",
        "/usr/share/doc/postgresql-contrib/copyright",
    ),
    ("curl", "/usr/bin/curl"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("openssl", "/usr/bin/openssl"),
    ("git", "/usr/bin/git"),
    ("python3", "/usr/bin/python3"),
    ("default-jre-headless", "/usr/bin/keytool"),
    ("age", "/usr/bin/age"),
    ("mariadb-server", "/usr/sbin/mariadbd"),
    ("mariadb-client", "/usr/bin/mariadb"),
    ("xmlsec1", "/usr/bin/xmlsec1"),
    ("iproute2", "/sbin/ip"),
    ("dnsmasq-base", "/usr/sbin/dnsmasq"),
    ("bind9-dnsutils", "/usr/bin/dig"),
    ("musl-tools", "/usr/bin/musl-gcc"),
    ("strace", "/usr/bin/strace"),
    ("nftables", "/usr/sbin/nft"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssh-client", "/usr/bin/ssh"),
    ("cron", "/usr/sbin/cron"),
    ("at", "/usr/sbin/atd"),
    ("podman", "/usr/bin/podman"),
    ("crun", "/usr/bin/crun"),
    ("runc", "/usr/sbin/runc"),
    ("jq", "/usr/bin/jq"),
    ("debootstrap", "/usr/sbin/debootstrap"),
    ("python3-venv", "/usr/share/doc/python3-venv/copyright"),
    ("nodejs", "/usr/bin/node"),
    ("npm", "/usr/bin/npm"),
];

/// `PyPI` packages of the tests, in `target/python`: the driver, what the record reader imports, an S3 server, a client
/// of HTTP/3, a SAML identity provider.
const PYPI: &[(&str, &str)] = &[
    ("psycopg[binary]", "psycopg"),
    ("blake3", "blake3"),
    ("cryptography", "cryptography"),
    ("zstandard", "zstandard"),
    ("moto[server]", "moto.server"),
    ("curl_cffi", "curl_cffi"),
    ("pysaml2", "saml2"),
];

/// Everything.
pub(crate) fn everything() -> Result<()> {
    for_build()?;
    for_tests()
}

/// What a build needs: a C compiler, the source of `core`, and bpf-linker.
pub(crate) fn for_build() -> Result<()> {
    if !Path::new("/usr/bin/cc").exists() {
        apt(&["build-essential"])?;
    }
    if !rust_src_exists() && !Path::new("/usr/lib/rust-web").exists() {
        say("the Rust component rust-src");
        let added = Command::new("rustup")
            .args(["component", "add", "rust-src"])
            .status();
        if !added.is_ok_and(|status| status.success()) {
            say("rustup refuses rust-src; Debian's pair of compiler and source instead");
            apt(&["rustc-web", "rust-web-src"])?;
        }
    }
    let installed = output(Command::new("bpf-linker").arg("--version")).unwrap_or_default();
    if !installed.contains(BPF_LINKER) {
        say(&format!("bpf-linker {BPF_LINKER} (about a minute)"));
        run(Command::new("cargo").args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
            "--quiet",
        ]))?;
    }
    Ok(())
}

/// What the tests and the demo need besides: real servers and clients.
pub(crate) fn for_tests() -> Result<()> {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() {
        if missing.contains(&"postgresql") {
            keep_debian_from_starting_a_server()?;
        }
        apt(&missing)?;
    }
    oidc_provider()?;
    container_root()?;
    docker()?;
    python_packages()
}

/// Debian packages with a file that each brings; those whose file is missing are installed.
pub(crate) fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(name, _)| *name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt(&missing)
}

/// The `cargo` that builds for the bpf target: the toolchain's, or Debian's pair where rustup has no rust-src.
pub(crate) fn ebpf_cargo() -> Command {
    let mut cargo = Command::new("cargo");
    if !rust_src_exists() && Path::new("/usr/lib/rust-web").exists() {
        cargo.env("RUSTC", "/usr/lib/rust-web/bin/rustc");
    }
    cargo
}

fn rust_src_exists() -> bool {
    output(Command::new("rustc").args(["--print", "sysroot"])).is_ok_and(|root| {
        Path::new(root.trim())
            .join("lib/rustlib/src/rust/library/core")
            .exists()
    })
}

/// Debian's package makes and starts a cluster on port 5432; the tests make servers of their own.
fn keep_debian_from_starting_a_server() -> Result<()> {
    let dir = Path::new("/etc/postgresql-common");
    let file = dir.join("createcluster.conf");
    if !file.exists() {
        std::fs::create_dir_all(dir)?;
        std::fs::write(file, "create_main_cluster = false\n")?;
    }
    Ok(())
}

/// The root file system of the tests' containers, in the target folder: made once, since it takes a minute.
fn container_root() -> Result<()> {
    let root = tollgate_tests::container::root();
    if root.exists() {
        return Ok(());
    }
    say(&format!("a Debian for containers ({})", root.display()));
    let making = root.with_extension("making");
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    run(Command::new("debootstrap")
        .args(["--variant=minbase", "--include=postgresql-client", "bookworm"])
        .arg(&making))?;
    let packages = making.join("var/cache/apt/archives");
    for package in std::fs::read_dir(packages)?.flatten() {
        if package.path().extension().is_some_and(|kind| kind == "deb") {
            std::fs::remove_file(package.path())?;
        }
    }
    std::fs::rename(&making, &root)?;
    Ok(())
}

/// Docker Engine, unpacked and not installed: an installed one starts itself and changes the host's firewall.
fn docker() -> Result<()> {
    let programs = tollgate_tests::docker::programs();
    if programs.exists() {
        return Ok(());
    }
    say(&format!(
        "Docker Engine for the tests alone ({})",
        programs.display()
    ));
    let making = programs.with_extension("making");
    if making.exists() {
        std::fs::remove_dir_all(&making)?;
    }
    let packages = making.join("packages");
    std::fs::create_dir_all(&packages)?;
    run(Command::new("apt-get")
        .args(["download", "docker.io", "containerd"])
        .current_dir(&packages))?;
    for package in std::fs::read_dir(&packages)?.flatten() {
        run(Command::new("dpkg")
            .arg("--extract")
            .arg(package.path())
            .arg(&making))?;
    }
    std::fs::remove_dir_all(&packages)?;
    std::fs::rename(&making, &programs)?;
    Ok(())
}

fn oidc_provider() -> Result<()> {
    let from = workspace().join("tests/oidc");
    let to = workspace().join("target/oidc");
    std::fs::create_dir_all(&to)?;
    let mut changed = false;
    for name in [
        "package.json",
        "package-lock.json",
        "provider.mjs",
        "authorization.mjs",
    ] {
        let wanted = std::fs::read(from.join(name)).with_context(|| format!("read tests/oidc/{name}"))?;
        let there = to.join(name);
        if std::fs::read(&there).ok().as_ref() != Some(&wanted) {
            std::fs::write(&there, &wanted)?;
            changed |= name.starts_with("package");
        }
    }
    if changed || !to.join("node_modules/oidc-provider").exists() {
        say("oidc-provider and what it needs from npm (target/oidc)");
        run(Command::new("npm")
            .args(["ci", "--silent", "--no-audit", "--no-fund"])
            .current_dir(&to))?;
    }
    Ok(())
}

fn python_packages() -> Result<()> {
    let venv = workspace().join("target/python");
    let python = venv.join("bin/python3");
    if !python.exists() {
        say("a Python environment (target/python)");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    for (package, module) in PYPI {
        let there = Command::new(&python)
            .args(["-c", &format!("import {module}")])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            say(&format!("{package} from PyPI"));
            run(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                package,
            ]))?;
        }
    }
    Ok(())
}

fn apt(packages: &[&str]) -> Result<()> {
    if !nix::unistd::Uid::effective().is_root() {
        bail!(
            "these Debian packages are missing: {}. Install them, or run this as root.",
            packages.join(" ")
        );
    }
    say(&format!("from Debian: {}", packages.join(" ")));
    run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Tests start what they need themselves: no daemon of the host's begins because its program came.
        .env("RUNLEVEL", "1"))
}

/// Tells what is installed.
#[expect(clippy::print_stdout, reason = "a task tells what it installs")]
pub(crate) fn say(what: &str) {
    println!("installing {what}");
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?} failed");
    Ok(String::from_utf8(output.stdout)?)
}

/// Runs a command whose output matters only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
