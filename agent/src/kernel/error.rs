//! What can go wrong between the agent and the kernel.

use std::io;
use std::path::PathBuf;

/// An error of the kernel side. Each says what is wrong and, where somebody can do something, what.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The library was compiled before the eBPF object.
    #[error("this tollgate was built without its eBPF object: build it with `cargo xtask build`")]
    NoObject,
    /// Linux is too old.
    #[error("Linux {release} is too old: Tollgate needs 6.1 or newer")]
    OldKernel {
        /// `uname -r`.
        release: String,
    },
    /// No BTF.
    #[error(
        "the kernel has no BTF (/sys/kernel/btf/vmlinux is missing): use a kernel with CONFIG_DEBUG_INFO_BTF=y"
    )]
    NoBtf,
    /// No cgroup2.
    #[error(
        "no cgroup2 hierarchy is mounted: mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`, or boot \
             with systemd.unified_cgroup_hierarchy=1"
    )]
    NoCgroup2,
    /// Not in the host's pid namespace.
    #[error("the agent runs in a pid namespace of its own: run it on the host (for a container: --pid=host)")]
    PidNamespace,
    /// A capability is missing.
    #[error("the agent lacks {capability}: run it as root, or give its unit that capability")]
    NoCapability {
        /// Name of the capability.
        capability: &'static str,
    },
    /// Another agent runs.
    #[error("another tollgate agent{holder} is running on this host (it holds {}): stop it first", path.display())]
    AgentRuns {
        /// The lock file.
        path: PathBuf,
        /// ` (pid N)`, if it is known.
        holder: String,
    },
    /// A policy would manage the agent itself.
    #[error(
        "a policy matches the agent's own cgroup {path}: its connections to the targets would come back to it; \
             narrow the policy's `cgroup`, or run the agent in a cgroup of its own"
    )]
    OwnCgroup {
        /// The agent's cgroup.
        path: String,
    },
    /// Policy number 0.
    #[error("policy number 0 means \"no policy\" to the kernel side and cannot be used for one")]
    PolicyZero,
    /// Somebody detached a program, or removed its link.
    #[error("the program of the link {} is not attached any more: connections are not redirected; restart the agent", path.display())]
    Detached {
        /// Where it was pinned.
        path: PathBuf,
    },
    /// Pins of a newer agent.
    #[error(
        "the pins in {} have layout {layout}, and this tollgate knows layouts up to {}: a newer one was here. Start that \
         one again; or, to go back, stop it and run its `tollgate uninstall` first (managed cgroups are open from then \
         until this one has started)",
        path.display(),
        agent_common::LAYOUT
    )]
    NewerLayout {
        /// The directory of the pins.
        path: PathBuf,
        /// Their layout.
        layout: u32,
    },
    /// A managed cgroup lies too deep.
    #[error(
        "the cgroup {path} lies deeper than {} levels below the root, which Tollgate cannot manage",
        agent_common::MAX_DEPTH
    )]
    TooDeep {
        /// The cgroup.
        path: String,
    },
    /// A pin directory that is not ours to use.
    #[error("cannot use {} for pins: {reason}", path.display())]
    PinDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A path that no unix socket can have.
    #[error("{} is longer than the 108 bytes that the path of a unix socket may have: use a shorter `run_dir`", path.display())]
    SocketPath {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused a program.
    #[error("the kernel refused the program {program}: {reason}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// What the kernel said, with the end of the verifier's log.
        reason: String,
    },
    /// The object could not be loaded.
    #[error("the eBPF object could not be loaded: {reason}")]
    Object {
        /// What failed.
        reason: String,
    },
    /// A map operation failed.
    #[error("the kernel refused {operation} on the map {map}: {reason}")]
    Map {
        /// Name of the map.
        map: &'static str,
        /// What was tried.
        operation: &'static str,
        /// Why.
        reason: String,
    },
    /// An operation of the system failed.
    #[error("{operation} failed: {source}")]
    System {
        /// What was tried.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
}

impl KernelError {
    pub(crate) fn system(operation: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let operation = operation.into();
        move |source| Self::System { operation, source }
    }

    pub(crate) fn map(
        map: &'static str,
        operation: &'static str,
    ) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |error| Self::Map {
            map,
            operation,
            reason: with_sources(&error),
        }
    }
}

/// An error with its causes, in one line: aya's own text leaves out what the kernel said.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
