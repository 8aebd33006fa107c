//! Network namespaces: entered by a thread of their own, for as long as it takes to make a socket.

use std::cell::Cell;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

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

    /// A new one, with its loopback up and nothing else in it.
    pub fn create() -> io::Result<Self> {
        let make = || -> io::Result<(File, NetnsCookie)> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            raise_loopback()?;
            Ok((File::open("/proc/thread-self/ns/net")?, netns_cookie(probe()?)?))
        };
        // On a thread that ends, as in `run_in`.
        let (file, cookie) = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn(make)?
            .join()
            .map_err(|_| io::Error::other("the thread in the namespace panicked"))??;
        let inode = file.metadata()?.ino();
        Ok(Self {
            file,
            cookie,
            inode,
            own: false,
        })
    }

    /// The namespace of a socket. Needs `CAP_NET_ADMIN` there.
    pub fn of_socket(socket: impl AsFd) -> io::Result<Self> {
        Self::of_file(super::sockets::netns_of(socket)?.into())
    }

    /// The namespace of thread `tid` of process `pid`, which may be in another than its process's first thread.
    pub fn of_thread(pid: u32, tid: u32) -> io::Result<Self> {
        Self::at(&format!("/proc/{pid}/task/{tid}/ns/net"))
    }

    fn at(path: &str) -> io::Result<Self> {
        Self::of_file(File::open(path)?)
    }

    /// The one that a file of `nsfs` stands for.
    pub(super) fn of_file(file: File) -> io::Result<Self> {
        let inode = file.metadata()?.ino();
        let own = fs::metadata("/proc/self/ns/net")?.ino() == inode;
        let probe = run_in(&file, probe)??;
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

    /// Its inode, as `/proc/PID/ns/net` has it.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// Whether this process is in it.
    pub fn is_own(&self) -> bool {
        self.own
    }

    /// Runs `work` in the namespace: here if this thread is in it, else on a thread. Sockets made there belong to it for good,
    /// whoever uses them. `work` may call this again, which costs nothing then.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        let entered = ENTERED.get();
        if entered == Some(self.inode) || (self.own && entered.is_none()) {
            Ok(work())
        } else {
            run_in(&self.file, || {
                ENTERED.set(Some(self.inode));
                work()
            })
        }
    }

    /// Switches its loopback interface on: what is redirected goes there.
    pub fn raise_loopback(&self) -> io::Result<()> {
        self.run(raise_loopback)?
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

thread_local! {
    /// The namespace that the thread was started in, if it is not the process's.
    static ENTERED: Cell<Option<u64>> = const { Cell::new(None) };
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

/// A socket to ask for the cookie of the namespace.
fn probe() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Inet, SockType::Datagram, flags, None)
}

/// Switches the loopback interface on, which is the first of every namespace (rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    const RTM_NEWLINK: u16 = 16;
    /// `NLM_F_REQUEST | NLM_F_ACK`.
    const REQUEST_WITH_ANSWER: u16 = 5;
    const LENGTH: u32 = 32;
    const LOOPBACK: u32 = 1;
    const IFF_UP: u32 = 1;

    let mut message = Vec::with_capacity(32);
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_WITH_ANSWER.to_ne_bytes());
    message.extend([0; 12]);
    message.extend(LOOPBACK.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let kernel = NetlinkAddr::new(0, 0);
    sendto(netlink.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 128];
    recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // After the header `struct nlmsgerr` begins with a negated errno, 0 for success.
    let code = answer
        .get(16..)
        .and_then(|error| error.first_chunk())
        .map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
