//! Socket options and handles that the safe crates do not have.
#![expect(
    unsafe_code,
    reason = "getsockopt, setsockopt and open_by_handle_at of Linux, which nix does not wrap"
)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::Duration;

use crate::model::NetnsCookie;

/// `SO_NETNS_COOKIE` (asm-generic/socket.h), Linux 5.14.
const SO_NETNS_COOKIE: c_int = 71;

/// `SIOCGSKNS` (linux/sockios.h), Linux 4.9.
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// The network namespace that `socket` belongs to.
pub(super) fn netns_of(socket: impl AsFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for the call; this request takes no argument.
    let fd = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCGSKNS as _) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The cookie of the network namespace that `socket` belongs to.
pub fn netns_cookie(socket: impl AsFd) -> io::Result<NetnsCookie> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the kernel writes at most `length` bytes, which `cookie` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast::<c_void>(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(NetnsCookie(cookie))
    } else {
        Err(io::Error::last_os_error())
    }
}

/// `socket(2)`, also for protocols that the safe crates have no name for. The descriptor is closed on exec.
pub fn open(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes three numbers, of which the kernel judges every value.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Finds dead peers of a TCP connection: probes after `idle`, every `interval`, gives up after `count`.
pub fn set_keepalive(socket: impl AsFd, idle: Duration, interval: Duration, count: u8) -> io::Result<()> {
    let seconds = |duration: Duration| c_int::try_from(duration.as_secs().max(1)).unwrap_or(c_int::MAX);
    set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, seconds(idle))?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, seconds(interval))?;
    set_option(
        &socket,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPCNT,
        c_int::from(count.max(1)),
    )
}

pub(super) fn set_option(socket: &impl AsFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the kernel reads `length` bytes, which `value` has.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast::<c_void>(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Asks for nothing of what a TCP connection has received, by the option that could also give it: `TCP_ZEROCOPY_RECEIVE`
/// (`linux/tcp.h`). Succeeds where it would be given.
pub fn ask_for_received(socket: impl AsFd) -> io::Result<()> {
    const TCP_ZEROCOPY_RECEIVE: c_int = 35;
    // `struct tcp_zerocopy_receive`: zeros name no memory, and no bytes.
    let mut asked = [0_u64; 8];
    let mut length = libc::socklen_t::try_from(size_of_val(&asked)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the call; the kernel writes at most `length` bytes, which `asked` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_ZEROCOPY_RECEIVE,
            (&raw mut asked).cast::<c_void>(),
            &raw mut length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Opens a cgroup directory by its id: kernfs makes file handles of type 0xfe that hold the id alone.
pub(super) fn open_by_kernfs_id(mount: &File, id: u64) -> io::Result<OwnedFd> {
    const FILEID_KERNFS: c_int = 0xfe;

    /// `struct file_handle` of `open_by_handle_at(2)`, with room for a kernfs id.
    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: c_int,
        id: [u8; 8],
    }

    let mut handle = Handle {
        bytes: 8,
        kind: FILEID_KERNFS,
        id: id.to_ne_bytes(),
    };
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the handle says how many bytes it has and has them; the descriptor is open for the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            mount.as_raw_fd(),
            &raw mut handle,
            flags,
        )
    };
    let fd = c_int::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_of_one_namespace_have_one_cookie() {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(netns_cookie(&one).unwrap(), netns_cookie(&other).unwrap());
        assert!(netns_cookie(&one).unwrap().0 != 0);
        assert!(netns_cookie(File::open("/dev/null").unwrap()).is_err());
    }
}
