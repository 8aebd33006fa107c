//! The bypass suite: ways round Tollgate, tried by real attacks against the whole agent.
//!
//! Each way is a function in `tests/bypass/ways/`, run as a user without privileges and as root inside of a managed
//! cgroup. It has to reach its server while there is no agent; what comes of it when there is one has to be what
//! [`table`] says, and what the table calls open is what `docs/threat-model.md` lists, since that is written from it.
//!
//! What counts is what servers receive, not what attackers say: each attack sends a nonce of its own, and a nonce that
//! arrives is in the record, or it went past the proxy.
//!
//! Everything happens in a network namespace of the suite's own, which takes the place of the host's. Nothing but
//! `python3`, `iproute2` and `util-linux` has to be on the host; a vector says what else it needs, and is reported as not
//! available where that is missing.

pub mod attack;
pub mod counters;
pub mod document;
pub mod report;
pub mod server;
pub mod stage;
pub mod suite;
pub mod table;
pub mod vector;

use std::path::PathBuf;

use crate::agent::workspace;

/// The attacks: `TOLLGATE_BYPASS_DIR`, else this workspace's.
pub fn attacks() -> PathBuf {
    std::env::var_os("TOLLGATE_BYPASS_DIR").map_or_else(|| workspace().join("tests/bypass"), PathBuf::from)
}

/// A Python that every user may run, with nothing but its own library: `TOLLGATE_BYPASS_PYTHON`, else the system's.
pub fn python() -> PathBuf {
    std::env::var_os("TOLLGATE_BYPASS_PYTHON").map_or_else(|| "/usr/bin/python3".into(), PathBuf::from)
}
