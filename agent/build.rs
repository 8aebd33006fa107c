//! Embeds the eBPF object, if it has been built; without it the library compiles and refuses to start.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("..");
    println!("cargo::rerun-if-env-changed=TOLLGATE_EBPF");
    let object = if let Some(path) = env::var_os("TOLLGATE_EBPF") {
        let path = PathBuf::from(path);
        println!("cargo::rerun-if-changed={}", path.display());
        path
    } else {
        // Watched as a directory: for a file that does not exist cargo would build the agent each time.
        let directory = root.join("target/bpf");
        fs::create_dir_all(&directory)?;
        println!("cargo::rerun-if-changed={}", directory.display());
        directory.join("tollgate-ebpf")
    };
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
