//! Embeds the eBPF object, if it has been built; without it the library compiles and refuses to start.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    println!("cargo::rerun-if-env-changed=TOLLGATE_EBPF");
    let object = match env::var_os("TOLLGATE_EBPF") {
        Some(path) => PathBuf::from(path),
        None => root.join("target/bpf/tollgate-ebpf"),
    };
    // A path that does not exist makes cargo run this script each time, which is how the object is noticed when it
    // appears; the output is written only when it changes.
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = if object.exists() {
        fs::read(&object)?
    } else {
        Vec::new()
    };
    let embedded = PathBuf::from(env::var("OUT_DIR")?).join("tollgate-ebpf");
    if fs::read(&embedded).ok().as_ref() != Some(&bytes) {
        fs::write(&embedded, bytes)?;
    }
    Ok(())
}
