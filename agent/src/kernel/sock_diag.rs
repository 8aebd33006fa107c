//! Sockets of a network namespace, listed and destroyed (`linux/inet_diag.h`, `sock_diag(7)`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use agent_common::ip_protocol;
use nix::sys::socket::SockProtocol;

use super::netlink::{Netlink, attributes, word};
use crate::model::CgroupId;

/// A connected socket.
#[derive(Clone, Debug)]
pub(super) struct OpenSocket {
    /// `IPPROTO_TCP` or `IPPROTO_UDP`.
    pub(super) protocol: u8,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The socket's own cgroup, which is that of the process that made it.
    pub(super) cgroup: CgroupId,
    /// Who made it.
    pub(super) uid: u32,
    /// As `/proc/PID/fd` names it; 0 when no descriptor is open on it any more.
    pub(super) inode: u64,
    family: u8,
    /// `struct inet_diag_sockid` as the kernel gave it: addresses, interface and cookie.
    id: [u8; SOCKID],
}

/// The kernel's door to the sockets of the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct SockDiag(Netlink);

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_CGROUP_ID: u16 = 21;

const SOCKID: usize = 48;
/// `struct inet_diag_msg`: family, state and two bytes more, the id, expires, two queues, uid, inode.
const MESSAGE: usize = 4 + SOCKID + 5 * 4;
const UID: usize = MESSAGE - 8;
const INODE: usize = MESSAGE - 4;

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// States of TCP (`net/tcp_states.h`) in which a connection can still carry bytes, as a mask: all but
/// `TIME_WAIT`, `CLOSE`, `LISTEN` and `NEW_SYN_RECV`. A connected UDP socket is `ESTABLISHED`.
const OPEN_STATES: u32 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11;

impl SockDiag {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self(Netlink::open(SockProtocol::NetlinkSockDiag, 0)?))
    }

    /// Every connected TCP and UDP socket of the namespace, of both families. UDP is left out where the kernel cannot list
    /// it ([`SockDiag::lists`]).
    pub(super) fn sockets(&mut self) -> io::Result<Vec<OpenSocket>> {
        let mut found = Vec::new();
        for protocol in [ip_protocol::TCP, ip_protocol::UDP] {
            let protocol = u8::try_from(protocol).map_err(io::Error::other)?;
            for family in [AF_INET, AF_INET6] {
                let request = request(family, protocol, &[0; SOCKID]);
                let parse = |kind, message: &[u8]| parse(kind, message, protocol);
                match self.0.dump(SOCK_DIAG_BY_FAMILY, &request, parse) {
                    Ok(sockets) => found.extend(sockets),
                    // No such module, or a kernel without IPv6, which has no sockets of it.
                    Err(error)
                        if error.raw_os_error() == Some(libc::ENOENT)
                            && (family == AF_INET6 || u32::from(protocol) == ip_protocol::UDP) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(found)
    }

    /// Ends a connection: its owner gets ECONNABORTED, its peer a reset. False: it was gone already.
    pub(super) fn destroy(&mut self, socket: &OpenSocket) -> io::Result<bool> {
        let request = request(socket.family, socket.protocol, &socket.id);
        match self.0.command(SOCK_DESTROY, &request) {
            Ok(()) => Ok(true),
            // ESTALE: another socket has the name by now.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the kernel lists sockets of `protocol` (modules `tcp_diag` and `udp_diag`).
    pub(super) fn lists(&mut self, protocol: u32) -> io::Result<bool> {
        let protocol = u8::try_from(protocol).map_err(io::Error::other)?;
        let request = request(AF_INET, protocol, &[0; SOCKID]);
        match self.0.dump(SOCK_DIAG_BY_FAMILY, &request, |_, _| None::<()>) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            answer => answer.map(|_| true),
        }
    }

    /// Whether the kernel destroys sockets (`CONFIG_INET_DIAG_DESTROY`): asked with a socket that cannot be.
    pub(super) fn can_destroy(&mut self) -> io::Result<bool> {
        let protocol = u8::try_from(ip_protocol::TCP).map_err(io::Error::other)?;
        match self
            .0
            .command(SOCK_DESTROY, &request(AF_INET, protocol, &[0; SOCKID]))
        {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
            _ => Ok(true),
        }
    }
}

/// `struct inet_diag_req_v2`.
fn request(family: u8, protocol: u8, id: &[u8; SOCKID]) -> Vec<u8> {
    let mut request = vec![family, protocol, 0, 0];
    request.extend(OPEN_STATES.to_ne_bytes());
    request.extend(id);
    request
}

/// `None`: no socket, or one that is connected to nothing.
fn parse(kind: u16, message: &[u8], protocol: u8) -> Option<OpenSocket> {
    let (header, rest) = message.split_at_checked(MESSAGE)?;
    if kind != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let family = *header.first()?;
    let id: [u8; SOCKID] = *header.get(4..)?.first_chunk()?;
    // Ports and addresses are in network byte order.
    let port = |at: usize| Some(u16::from_be_bytes(*id.get(at..)?.first_chunk()?));
    let address = |at: usize| -> Option<IpAddr> {
        let bytes = id.get(at..)?;
        match family {
            AF_INET => Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into()),
            AF_INET6 => Some(Ipv6Addr::from(*bytes.first_chunk::<16>()?).to_canonical()),
            _ => None,
        }
    };
    let remote = SocketAddr::new(address(20)?, port(2)?);
    if remote.port() == 0 {
        return None;
    }
    let cgroup = attributes(rest).find(|(kind, _)| *kind == INET_DIAG_CGROUP_ID)?.1;
    Some(OpenSocket {
        protocol,
        local: SocketAddr::new(address(4)?, port(0)?),
        remote,
        cgroup: CgroupId(u64::from_ne_bytes(cgroup.try_into().ok()?)),
        uid: word(header, UID)?,
        inode: word(header, INODE)?.into(),
        family,
        id,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::testing::privileged;
    use super::*;

    fn inode(socket: impl AsFd) -> u64 {
        let copy = socket.as_fd().try_clone_to_owned().unwrap();
        std::fs::File::from(copy).metadata().unwrap().ino()
    }

    #[test]
    fn connected_sockets_are_listed_under_the_names_that_they_have() {
        for (server, reached) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "::1"),
            ("127.0.0.1:0", "::ffff:127.0.0.1"),
        ] {
            let server = TcpListener::bind(server).unwrap();
            let port = server.local_addr().unwrap().port();
            let client = TcpStream::connect((reached, port)).unwrap();
            let found = SockDiag::open().unwrap().sockets().unwrap();
            assert!(
                !found.iter().any(|socket| socket.inode == inode(&server)),
                "listed a listener"
            );
            let found = found
                .iter()
                .find(|socket| socket.inode == inode(&client))
                .expect(reached);
            let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            assert_eq!(found.local, plain(client.local_addr().unwrap()));
            assert_eq!(found.remote, plain(client.peer_addr().unwrap()));
            assert_eq!(u32::from(found.protocol), ip_protocol::TCP);
        }
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let found = SockDiag::open().unwrap().sockets().unwrap();
        assert!(
            !found.iter().any(|socket| socket.inode == inode(&server)),
            "listed what is not connected"
        );
        let found = found
            .iter()
            .find(|socket| socket.inode == inode(&client))
            .unwrap();
        assert_eq!(found.remote, server.local_addr().unwrap());
    }

    #[test]
    fn a_socket_that_is_gone_is_no_error_and_its_successor_is_not_hit() {
        if !privileged() {
            return;
        }
        let mut diag = SockDiag::open().unwrap();
        assert!(diag.can_destroy().unwrap());
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(server.local_addr().unwrap()).unwrap();
        let mut socket = diag
            .sockets()
            .unwrap()
            .into_iter()
            .find(|socket| socket.inode == inode(&client))
            .unwrap();
        let good = socket.id;
        // Another cookie: the name stands for another socket.
        socket.id[SOCKID - 1] ^= 1;
        assert!(!diag.destroy(&socket).unwrap());
        socket.id = good;
        assert!(diag.destroy(&socket).unwrap());
        assert!(!diag.destroy(&socket).unwrap());
    }

    #[test]
    fn an_answer_that_is_cut_off_is_no_socket() {
        let attribute = [
            &[12, 0][..],
            &INET_DIAG_CGROUP_ID.to_ne_bytes(),
            &7_u64.to_ne_bytes(),
        ]
        .concat();
        let mut header = [0; MESSAGE];
        header[0] = AF_INET;
        header[6..8].copy_from_slice(&5432_u16.to_be_bytes());
        let whole = [&header[..], &attribute].concat();
        assert_eq!(parse(SOCK_DIAG_BY_FAMILY, &whole, 6).unwrap().cgroup, CgroupId(7));
        for length in 0..whole.len() {
            assert!(
                parse(SOCK_DIAG_BY_FAMILY, &whole[..length], 6).is_none(),
                "{length}"
            );
        }
    }
}
