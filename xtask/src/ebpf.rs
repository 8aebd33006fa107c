//! Builds the kernel programs, for the BPF target and with their own `core`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, ensure};

const TARGET: &str = "bpfel-unknown-none";

/// Builds the object and returns where it is: `target/bpf/tollgate-ebpf` below the workspace, written only if it
/// changed, so that the agent is not built again for nothing.
pub(crate) fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let source = root.join("agent-ebpf");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args([
            "build",
            "--release",
            "--locked",
            "--target",
            TARGET,
            "-Z",
            "build-std=core",
        ])
        // `-Z` on the stable toolchain; this crate alone is built so.
        .env("RUSTC_BOOTSTRAP", "1")
        // What the outer cargo was told for the host would replace what the crate's own configuration says.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .current_dir(&source)
        .status()
        .context("cargo could not be started")?;
    ensure!(
        status.success(),
        "the kernel programs did not build; they need `rustup component add rust-src` and \
         `cargo install bpf-linker --version 0.10.1 --locked`"
    );
    let built = source.join("target").join(TARGET).join("release/tollgate-ebpf");
    let object = fs::read(&built).with_context(|| format!("reading {}", built.display()))?;
    let kept = root.join("target/bpf/tollgate-ebpf");
    fs::create_dir_all(root.join("target/bpf"))?;
    if fs::read(&kept).ok().as_ref() != Some(&object) {
        fs::write(&kept, object).with_context(|| format!("writing {}", kept.display()))?;
    }
    Ok(kept)
}
