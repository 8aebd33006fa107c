//! What tests of several stages need.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, TcpListener};

/// The first port that is tried: below it are those of well-known servers.
const FIRST: u16 = 10_000;

/// A TCP port of 127.0.0.1 that is free now, for a server that cannot pick one itself. It lies below the ports that the
/// kernel gives to whoever asks for any (`ip_local_port_range`), where there are such: no other test is given it before the
/// server listens, nor while the server is down for a while.
pub(crate) fn free_port() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    (0..100)
        .map(|_try| match given.saturating_sub(FIRST) {
            0 => 0,
            // The standard library's only source of chance.
            count => FIRST + u16::try_from(RandomState::new().hash_one(0) % u64::from(count)).unwrap(),
        })
        .find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .expect("a free port")
        .local_addr()
        .unwrap()
        .port()
}
