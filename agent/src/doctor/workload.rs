//! Processes of the doctor's own: each does what it is told, one deed at a time, over a socket that is its standard
//! input. They are this very program again, so that nothing has to be installed for an examination.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::sockopt::{ReceiveTimeout, SendTimeout};
use nix::sys::socket::{
    MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, UnixAddr, bind, connect, getpeername, recv, recvfrom,
    send, sendto, setsockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::kernel::netns::Netns;
use crate::kernel::{attached_at, sockets};

/// How long a deed may take. On a loopback everything is done at once, unless a packet is dropped.
const PATIENCE_MS: i64 = 200;

/// How long an answer is waited for.
const ANSWER: Duration = Duration::from_secs(5);

/// Frames of every kind (`linux/if_ether.h`).
const ETH_P_ALL: u16 = 3;

/// How to start this program as such a process.
#[derive(Clone, Debug)]
pub struct Launcher {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables of its environment.
    pub environment: Vec<(OsString, OsString)>,
}

/// What a process is told to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Deed {
    /// Makes a socket and keeps it under a number.
    Open { socket: u32, kind: SocketKind, v6: bool },
    /// Connects a kept socket.
    Connect { socket: u32, to: SocketAddr },
    /// Connects a kept socket to a unix socket.
    ConnectUnix { socket: u32, path: PathBuf },
    /// Says to whom a kept socket is connected.
    Peer { socket: u32 },
    /// Sends one byte on a connected socket.
    Send { socket: u32 },
    /// Sends one byte to an address.
    SendTo { socket: u32, to: SocketAddr },
    /// Receives a datagram, and says from whom it is.
    Receive { socket: u32 },
    /// Waits until the other end has closed.
    AwaitEnd { socket: u32 },
    /// Binds a kept socket.
    Bind { socket: u32, to: SocketAddr },
    /// Receives one byte on a connected socket.
    Take { socket: u32 },
    /// Asks a connected socket for what it has received by `getsockopt()`.
    TakeByOption { socket: u32 },
    /// Opens a file, for writing or for reading, and keeps it under a number.
    OpenFile { file: u32, path: PathBuf, write: bool },
    /// Writes to a kept file.
    Write { file: u32, text: String },
    /// Makes a directory.
    MakeDir { path: PathBuf },
    /// Asks whether it may send a process signals. None is sent.
    MaySignal { process: i32 },
    /// Asks the kernel for the programs on the cgroup at `path`.
    Programs { path: PathBuf },
}

/// A kind of socket.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum SocketKind {
    Tcp,
    Udp,
    Mptcp,
    Raw,
    Unix,
    Packet,
    Vsock,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// It was done.
    Done,
    /// The kernel refused, with this error number.
    Refused(i32),
    /// The other end.
    Peer(SocketAddr),
    /// The other end, a unix socket.
    PeerUnix(PathBuf),
}

impl Outcome {
    /// In a few words.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Done => "it is let through".to_owned(),
            Self::Refused(errno) => format!("refused with {:?}", Errno::from_raw(*errno)),
            Self::Peer(address) => format!("its other end is {address}"),
            Self::PeerUnix(path) => format!("its other end is {}", path.display()),
        }
    }

    pub(super) fn is(&self, errno: Errno) -> bool {
        *self == Self::Refused(errno as i32)
    }
}

/// A process. It ends when this is dropped, and also when this process is killed.
#[derive(Debug)]
pub(super) struct Workload {
    child: Child,
    teller: BufReader<UnixStream>,
    sockets: u32,
}

impl Workload {
    /// Starts one in the network namespace `netns`, and in the cgroup at `cgroup` if there is one.
    pub(super) fn start(launcher: &Launcher, netns: &Netns, cgroup: Option<&Path>) -> io::Result<Self> {
        let (teller, told) = UnixStream::pair()?;
        teller.set_read_timeout(Some(ANSWER))?;
        let mut command = Command::new(&launcher.program);
        command
            .args(&launcher.arguments)
            .envs(launcher.environment.iter().map(|(name, value)| (name, value)))
            .stdin(OwnedFd::from(told))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // A process begins in the namespace of the thread that makes it.
        let child = netns.run(|| command.spawn())??;
        let mut workload = Self {
            child,
            teller: BufReader::new(teller),
            sockets: 0,
        };
        if let Some(cgroup) = cgroup {
            workload.enter(cgroup)?;
        }
        Ok(workload)
    }

    /// Its number, as in `/proc`.
    pub(super) fn process(&self) -> String {
        self.child.id().to_string()
    }

    /// Brings it into the cgroup at `cgroup`.
    pub(super) fn enter(&mut self, cgroup: &Path) -> io::Result<()> {
        fs::write(cgroup.join("cgroup.procs"), self.process())
    }

    /// A new socket's number, and what became of making it.
    pub(super) fn open(&mut self, kind: SocketKind, v6: bool) -> io::Result<(u32, Outcome)> {
        self.sockets += 1;
        let socket = self.sockets;
        let outcome = self.tell(Deed::Open { socket, kind, v6 })?;
        Ok((socket, outcome))
    }

    /// Makes a TCP socket and connects it.
    pub(super) fn connect(&mut self, to: SocketAddr) -> io::Result<(u32, Outcome)> {
        let (socket, opened) = self.open(SocketKind::Tcp, to.is_ipv6())?;
        match opened {
            Outcome::Done => Ok((socket, self.tell(Deed::Connect { socket, to })?)),
            refused => Ok((socket, refused)),
        }
    }

    /// Makes a UDP socket and sends a byte with it.
    pub(super) fn datagram(&mut self, to: SocketAddr) -> io::Result<Outcome> {
        let (socket, opened) = self.open(SocketKind::Udp, to.is_ipv6())?;
        match opened {
            Outcome::Done => self.tell(Deed::SendTo { socket, to }),
            refused => Ok(refused),
        }
    }

    /// Opens a file; its number, and what became of it.
    pub(super) fn open_file(&mut self, path: &Path, write: bool) -> io::Result<(u32, Outcome)> {
        self.sockets += 1;
        let file = self.sockets;
        let path = path.to_owned();
        let outcome = self.tell(Deed::OpenFile { file, path, write })?;
        Ok((file, outcome))
    }

    /// Tells it one deed and waits for what becomes of it.
    pub(super) fn tell(&mut self, deed: Deed) -> io::Result<Outcome> {
        let mut line = serde_json::to_vec(&deed)?;
        line.push(b'\n');
        self.teller.get_mut().write_all(&line)?;
        let mut answer = String::new();
        if self.teller.read_line(&mut answer)? == 0 {
            return Err(io::Error::other("the process that was to try it has ended"));
        }
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Does what it is told until nobody is there any more to tell it.
pub fn serve() -> io::Result<()> {
    let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut kept = HashMap::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let outcome = match perform(&mut kept, serde_json::from_str(&line?)?) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Refused(error.raw_os_error().unwrap_or(Errno::EIO as i32)),
        };
        let mut answer = serde_json::to_vec(&outcome)?;
        answer.push(b'\n');
        (&stream).write_all(&answer)?;
    }
    Ok(())
}

fn perform(kept: &mut HashMap<u32, OwnedFd>, deed: Deed) -> io::Result<Outcome> {
    let find = |socket| kept.get(&socket).ok_or(Errno::EBADF);
    match deed {
        Deed::Open { socket, kind, v6 } => {
            kept.insert(socket, open(kind, v6)?);
        }
        Deed::Connect { socket, to } => {
            connect(find(socket)?.as_raw_fd(), &SockaddrStorage::from(to))?;
        }
        Deed::Peer { socket } => {
            let peer: SockaddrStorage = getpeername(find(socket)?.as_raw_fd())?;
            return match peer.as_unix_addr().map(UnixAddr::path) {
                Some(path) => Ok(Outcome::PeerUnix(path.unwrap_or(Path::new("")).to_owned())),
                None => Ok(Outcome::Peer(address(peer)?)),
            };
        }
        Deed::ConnectUnix { socket, path } => {
            connect(find(socket)?.as_raw_fd(), &UnixAddr::new(&path)?)?;
        }
        Deed::Receive { socket } => {
            let (_, source) = recvfrom::<SockaddrStorage>(find(socket)?.as_raw_fd(), &mut [0; 16])?;
            return Ok(Outcome::Peer(address(source.ok_or(Errno::EDESTADDRREQ)?)?));
        }
        Deed::Send { socket } => {
            send(find(socket)?.as_raw_fd(), b"x", MsgFlags::MSG_NOSIGNAL)?;
        }
        Deed::SendTo { socket, to } => {
            sendto(
                find(socket)?.as_raw_fd(),
                b"x",
                &SockaddrStorage::from(to),
                MsgFlags::MSG_NOSIGNAL,
            )?;
        }
        Deed::AwaitEnd { socket } => {
            // A reset is an end as well.
            match recv(find(socket)?.as_raw_fd(), &mut [0; 1], MsgFlags::empty()) {
                Ok(0) | Err(Errno::ECONNRESET) => {}
                Ok(_) => return Err(Errno::EBADMSG.into()),
                Err(errno) => return Err(errno.into()),
            }
        }
        Deed::Bind { socket, to } => {
            bind(find(socket)?.as_raw_fd(), &SockaddrStorage::from(to))?;
        }
        Deed::Take { socket } => {
            if recv(find(socket)?.as_raw_fd(), &mut [0; 1], MsgFlags::empty())? == 0 {
                return Err(Errno::ECONNRESET.into());
            }
        }
        Deed::TakeByOption { socket } => sockets::ask_for_received(find(socket)?)?,
        Deed::OpenFile { file, path, write } => {
            let opened = OpenOptions::new().read(!write).write(write).open(path)?;
            kept.insert(file, opened.into());
        }
        Deed::Write { file, text } => {
            nix::unistd::write(find(file)?, text.as_bytes())?;
        }
        Deed::MakeDir { path } => fs::create_dir(path)?,
        Deed::MaySignal { process } => kill(Pid::from_raw(process), None)?,
        Deed::Programs { path } => drop(attached_at(&File::open(path)?)?),
    }
    Ok(Outcome::Done)
}

fn address(from: SockaddrStorage) -> nix::Result<SocketAddr> {
    let v4 = from
        .as_sockaddr_in()
        .map(|from: &SockaddrIn| SocketAddr::V4(SocketAddrV4::from(*from)));
    let v6 = from
        .as_sockaddr_in6()
        .map(|from: &SockaddrIn6| SocketAddr::V6(SocketAddrV6::from(*from)));
    v4.or(v6).ok_or(Errno::EAFNOSUPPORT)
}

fn open(kind: SocketKind, v6: bool) -> nix::Result<OwnedFd> {
    let family = match (kind, v6) {
        (SocketKind::Unix, _) => libc::AF_UNIX,
        (SocketKind::Packet, _) => libc::AF_PACKET,
        (SocketKind::Vsock, _) => libc::AF_VSOCK,
        (_, false) => libc::AF_INET,
        (_, true) => libc::AF_INET6,
    };
    let (kind, protocol) = match kind {
        SocketKind::Unix | SocketKind::Vsock => (libc::SOCK_STREAM, 0),
        SocketKind::Packet => (libc::SOCK_RAW, i32::from(ETH_P_ALL.to_be())),
        SocketKind::Tcp => (libc::SOCK_STREAM, libc::IPPROTO_TCP),
        SocketKind::Udp => (libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        SocketKind::Mptcp => (libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        SocketKind::Raw => (libc::SOCK_RAW, libc::IPPROTO_UDP),
    };
    let socket = sockets::open(family, kind, protocol)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let patience = TimeVal::milliseconds(PATIENCE_MS);
    setsockopt(&socket, SendTimeout, &patience)?;
    setsockopt(&socket, ReceiveTimeout, &patience)?;
    Ok(socket)
}
