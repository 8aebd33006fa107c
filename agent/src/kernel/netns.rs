//! Network namespaces: entered by a thread of their own, for as long as it takes to make a socket.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::sockets::netns_cookie;
use crate::model::NetnsCookie;

/// A network namespace, kept alive for as long as this value lives.
#[derive(Debug)]
pub struct Netns {
    file: File,
    cookie: NetnsCookie,
    inode: u64,
    /// Whether this process is in it anyway.
    own: bool,
}

impl Netns {
    /// The namespace of this process.
    pub fn own() -> io::Result<Self> {
        Self::at("/proc/self/ns/net")
    }

    /// The namespace of process `pid` (in the pid namespace of the agent). Needs `CAP_SYS_PTRACE` for others' processes.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::at(&format!("/proc/{pid}/ns/net"))
    }

    fn at(path: &str) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        let own = fs::metadata("/proc/self/ns/net")?.ino() == inode;
        let probe = run_in(&file, || {
            socket(
                AddressFamily::Inet,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )
        })??;
        let cookie = netns_cookie(probe)?;
        Ok(Self {
            file,
            cookie,
            inode,
            own,
        })
    }

    /// Its cookie, as the kernel side names it.
    pub fn cookie(&self) -> NetnsCookie {
        self.cookie
    }

    /// Runs `work` in the namespace: here if it is this process's own, else on a thread. Sockets made there belong to it for good, whoever uses them.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        if self.own {
            Ok(work())
        } else {
            run_in(&self.file, work)
        }
    }

    /// Whether any process is in the namespace. The agent's own sockets would keep a dead container's alive forever.
    pub fn is_inhabited(&self) -> bool {
        let Ok(processes) = fs::read_dir("/proc") else {
            return true;
        };
        processes
            .flatten()
            .filter(|entry| {
                entry
                    .file_name()
                    .as_encoded_bytes()
                    .first()
                    .is_some_and(u8::is_ascii_digit)
            })
            .filter_map(|entry| fs::metadata(entry.path().join("ns/net")).ok())
            .any(|namespace| namespace.ino() == self.inode)
    }

    /// A datagram socket of the namespace, non-blocking, neither bound nor connected.
    pub fn datagram_socket(&self, v6: bool) -> io::Result<OwnedFd> {
        self.socket(v6, SockType::Datagram, SockProtocol::Udp)
    }

    /// A stream socket of the namespace, non-blocking, neither bound nor connected.
    pub fn stream_socket(&self, v6: bool) -> io::Result<OwnedFd> {
        self.socket(v6, SockType::Stream, SockProtocol::Tcp)
    }

    fn socket(&self, v6: bool, kind: SockType, protocol: SockProtocol) -> io::Result<OwnedFd> {
        let family = if v6 {
            AddressFamily::Inet6
        } else {
            AddressFamily::Inet
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = self.run(|| socket(family, kind, flags, protocol))??;
        Ok(made)
    }
}

fn run_in<T: Send>(namespace: impl AsFd + Sync, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    // A thread that has changed its namespace must not go back to a pool; this one ends.
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, || {
                setns(&namespace, CloneFlags::CLONE_NEWNET)?;
                Ok(work())
            })?
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace panicked"))?
    })
}
