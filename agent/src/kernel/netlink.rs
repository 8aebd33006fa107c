//! Netlink, as far as it is needed: dumps, commands and notifications (RFC 3549, linux/netlink.h).
//!
//! Numbers are in the host's byte order, unless a protocol says otherwise. Nothing here knows a protocol.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg, sendto, socket,
};

use super::sockets::set_option;

/// A netlink socket of the network namespace in which it was made.
#[derive(Debug)]
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Dumps come in pieces of at most 32 KiB (`netlink_dump` in the kernel).
const BUFFER: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;

/// How often a dump that something changed under is asked for again.
const ATTEMPTS: usize = 16;

impl Netlink {
    /// A socket that gets notifications of `groups`, a mask; 0: none.
    pub(super) fn open(protocol: SockProtocol, groups: u32) -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            protocol,
        )?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has the kernel look at the filters of dump requests (`NETLINK_GET_STRICT_CHK`, Linux 4.20).
    pub(super) fn filter_dumps(&self) -> io::Result<()> {
        const NETLINK_GET_STRICT_CHK: libc::c_int = 12;
        set_option(&self.socket, libc::SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
    }

    /// Reads a table of the kernel: what `parse` makes of each message. Asked for again when the table changed
    /// meanwhile, so that nothing is missing.
    pub(super) fn dump<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        parse: impl Fn(u16, &[u8]) -> Option<T>,
    ) -> io::Result<Vec<T>> {
        for _ in 0..ATTEMPTS {
            let mut found = Vec::new();
            let whole = self.request(kind, NLM_F_DUMP, payload, |kind, payload| {
                found.extend(parse(kind, payload));
            })?;
            if whole {
                return Ok(found);
            }
        }
        Err(io::Error::other(
            "the kernel's table changes faster than it can be read",
        ))
    }

    /// Has the kernel do something.
    pub(super) fn command(&mut self, kind: u16, payload: &[u8]) -> io::Result<()> {
        self.request(kind, NLM_F_ACK, payload, |_, _| {}).map(drop)
    }

    /// Sends a request and reads until its answer is over. False: the table changed under the dump.
    fn request(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        mut each: impl FnMut(u16, &[u8]),
    ) -> io::Result<bool> {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + payload.len()).map_err(io::Error::other)?;
        let mut message = Vec::with_capacity(HEADER + payload.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        sendto(
            self.socket.as_raw_fd(),
            &message,
            &NetlinkAddr::new(0, 0),
            MsgFlags::empty(),
        )?;

        let mut whole = true;
        let mut buffer = vec![0; BUFFER];
        loop {
            let Some(length) = receive(&self.socket, &mut buffer, MsgFlags::empty())? else {
                continue;
            };
            for message in messages(buffer.get(..length).unwrap_or_default()) {
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE => return Ok(whole),
                    NLMSG_ERROR => {
                        return match word(message.payload, 0).map(u32::cast_signed) {
                            Some(0) => Ok(whole),
                            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                            None => Err(io::Error::from(io::ErrorKind::InvalidData)),
                        };
                    }
                    kind => each(kind, message.payload),
                }
            }
        }
    }

    /// Reads every notification that waits, without waiting for more. True: some of the messages was `wanted`, or some
    /// were lost.
    pub(super) fn drain(&self, wanted: impl Fn(u16, &[u8]) -> bool) -> io::Result<bool> {
        let mut buffer = vec![0; BUFFER];
        let mut changed = false;
        loop {
            match receive(&self.socket, &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(Some(length)) => {
                    changed |= messages(buffer.get(..length).unwrap_or_default())
                        .any(|message| wanted(message.kind, message.payload));
                }
                Ok(None) => {}
                Err(Errno::EAGAIN) => return Ok(changed),
                // The kernel had more to say than the socket could hold.
                Err(Errno::ENOBUFS) => changed = true,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::os::fd::AsRawFd for Netlink {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// `None`: what somebody else than the kernel sent.
fn receive(socket: &OwnedFd, buffer: &mut [u8], flags: MsgFlags) -> Result<Option<usize>, Errno> {
    let mut pieces = [io::IoSliceMut::new(buffer)];
    loop {
        match recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut pieces, None, flags) {
            Err(Errno::EINTR) => {}
            Ok(got) if got.address.is_none_or(|from| from.pid() == 0) => return Ok(Some(got.bytes)),
            Ok(_) => return Ok(None),
            Err(errno) => return Err(errno),
        }
    }
}

struct Raw<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The messages of one datagram; ends where one is cut off.
fn messages(datagram: &[u8]) -> impl Iterator<Item = Raw<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(word(rest, 0)?).ok()?;
        let message = Raw {
            kind: half(rest, 4)?,
            flags: half(rest, 6)?,
            sequence: word(rest, 8)?,
            payload: rest.get(HEADER..length)?,
        };
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Attributes (`struct rtattr`, `struct nlattr`) as kind and value.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Whether an attribute is nested, or in network byte order.
    const FLAGS: u16 = 0xc000;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(half(rest, 0)?);
        let kind = half(rest, 2)? & !FLAGS;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Two bytes at `offset`, in the host's order.
pub(super) fn half(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*bytes))
}

/// Four bytes at `offset`, in the host's order.
pub(super) fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_off_ends_the_reading() {
        let whole = [
            &20_u32.to_ne_bytes()[..],
            &[24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        ]
        .concat();
        let read = |bytes: &[u8]| {
            messages(bytes)
                .map(|message| message.payload.to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&whole), [[1, 2, 3, 4]]);
        assert_eq!(read(&[&whole[..], &whole[..]].concat()).len(), 2);
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_empty(), "{length}");
        }
        // A length shorter than the header must neither be read nor loop.
        assert!(read(&[0; 64]).is_empty());
        assert_eq!(
            attributes(&[8, 0, 1, 0x80, 9, 9, 9, 9, 5, 0, 2, 0, 7]).collect::<Vec<_>>(),
            [(1, &[9; 4][..]), (2, &[7][..])]
        );
        assert_eq!(attributes(&[0; 16]).count(), 0);
    }
}
