//! Why connections cannot be taken.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::socket::advice;
use crate::kernel::KernelError;
use crate::model::NetnsCookie;

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} in the network namespace {netns}: {source}{}",
        advice(source)
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The namespace.
        netns: NetnsCookie,
        /// What the system said.
        source: io::Error,
    },
    /// The namespace cannot be entered, or is another one by now.
    #[error("cannot enter the network namespace {netns} of process {pid}: {source}")]
    Namespace {
        /// The namespace.
        netns: NetnsCookie,
        /// A process in it.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The directory of unix sockets cannot be used.
    #[error("cannot keep unix sockets in {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A unix socket cannot be listened on.
    #[error("cannot listen on {}: {source}", path.display())]
    Unix {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A namespace cannot be entered.
    #[error("cannot enter the network namespace {netns}: {source}")]
    Enter {
        /// The namespace.
        netns: NetnsCookie,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}
