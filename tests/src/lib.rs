//! Harness of the end-to-end tests and of the demo: real servers, cgroups and the agent, in folders and on
//! ports of their own. Whatever it makes it removes when it is dropped, also when a test fails.

pub mod agent;
pub mod cgroup;
pub mod driver;
pub mod faulty;
pub mod job;
pub mod netns;
pub mod oidc;
pub mod policy;
pub mod postgres;
pub mod process;
pub mod scratch;
pub mod script;
pub mod world;

/// Whether privileged tests can run here; `Err` says why not.
///
/// # Errors
/// Not root, or no cgroup2: the sentence names which.
pub fn privileged() -> Result<(), String> {
    if !nix::unistd::Uid::effective().is_root() {
        return Err("these tests attach eBPF programs and need root".to_owned());
    }
    cgroup::mount_point().map(drop).map_err(|error| error.to_string())
}

/// Declares a privileged test skipped, loudly; in CI it is a failure.
///
/// # Panics
/// When `CI` is set: a test that cannot run there has failed.
pub fn skip(why: &str) {
    assert!(
        std::env::var_os("CI").is_none(),
        "a privileged test cannot run in CI: {why}"
    );
    anstream_note(why);
}

fn anstream_note(why: &str) {
    eprintln!("SKIPPED, NOT PASSED: {why}");
}
