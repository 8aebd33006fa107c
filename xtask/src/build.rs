//! Building the eBPF object, and the agent with the object inside.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tollgate_tests::agent::workspace;

use crate::setup;

/// Builds the eBPF object and gives its path.
///
/// On a stable toolchain: `core` is built from its source for the bpf target, which stable allows only with
/// `RUSTC_BOOTSTRAP`. The object contains nothing that depends on an unstable language feature.
pub(crate) fn ebpf() -> Result<PathBuf> {
    let built = for_bpf("build").status().context("start cargo")?;
    ensure!(built.success(), "the eBPF object does not build");
    let root = workspace();
    let object = root.join("target/bpf/tollgate-ebpf");
    std::fs::create_dir_all(root.join("target/bpf"))?;
    let built = std::fs::read(root.join("agent-ebpf/target/bpfel-unknown-none/release/tollgate-ebpf"))?;
    // Left alone when nothing changed, so that the agent is not linked again for nothing.
    if std::fs::read(&object).ok().as_ref() != Some(&built) {
        std::fs::write(&object, built)?;
    }
    Ok(object)
}

/// The lints of the kernel programs, which are no member of the workspace. `None` where they are compiled with Debian's
/// compiler: the toolchain's clippy cannot read what that one makes.
pub(crate) fn ebpf_lints() -> Option<Command> {
    let mut cargo = for_bpf("clippy");
    cargo.args(["--", "--deny", "warnings"]);
    cargo.get_envs().all(|(name, _)| name != "RUSTC").then_some(cargo)
}

fn for_bpf(verb: &str) -> Command {
    let mut cargo = setup::ebpf_cargo();
    cargo
        .current_dir(workspace().join("agent-ebpf"))
        .env("RUSTC_BOOTSTRAP", "1")
        // What the outer cargo was told for the host would replace what the crate's own configuration says.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .args([
            verb,
            "--release",
            "--locked",
            "--target",
            "bpfel-unknown-none",
            "-Z",
            "build-std=core",
        ]);
    cargo
}

/// Builds the agent with the eBPF object inside, and gives the binary's path.
pub(crate) fn agent(release: bool) -> Result<PathBuf> {
    let object = ebpf()?;
    let root = workspace();
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&root).env("TOLLGATE_EBPF", object).args([
        "build",
        "--locked",
        "--package",
        "tollgate",
    ]);
    if release {
        cargo.arg("--release");
    }
    ensure!(
        cargo.status().context("start cargo")?.success(),
        "the agent does not build"
    );
    Ok(root
        .join("target")
        .join(if release { "release" } else { "debug" })
        .join("tollgate"))
}

/// Builds the loads of the benchmarks, optimised, and gives the binary's path.
pub(crate) fn load() -> Result<PathBuf> {
    let root = workspace();
    let built = Command::new("cargo")
        .current_dir(&root)
        .args([
            "build",
            "--release",
            "--locked",
            "--package",
            "tollgate-tests",
            "--bin",
            "tollgate-load",
        ])
        .status()
        .context("start cargo")?;
    ensure!(built.success(), "the loads do not build");
    Ok(root.join("target/release/tollgate-load"))
}
