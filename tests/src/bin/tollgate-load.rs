//! Loads of `cargo xtask bench`: a server, and clients that measure themselves and print one JSON line.
//!
//! All traffic is on the loopback, one connection or one stream at a time, and every load ends by itself.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::sockopt::Linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, connect, setsockopt, socket,
};
use nix::unistd::Pid;
use serde_json::json;

/// What is done first without being measured: caches and the CPU's clock come up.
const WARM_UP: usize = 100;

/// The first bytes of a PostgreSQL client that asks for TLS (PostgreSQL documentation, "Message Formats", `SSLRequest`).
const GREETING: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // Where the scheduler puts client and server decides more than what is to be measured: each has a place.
    let last = std::thread::available_parallelism()?.get() - 1;
    stay_on(if arguments.first() == Some(&"serve") {
        last
    } else {
        0
    })?;
    match *arguments.as_slice() {
        ["serve"] => serve(),
        ["connect", address, count] => connects(address.parse()?, count.parse()?, false),
        ["greet", address, count] => connects(address.parse()?, count.parse()?, true),
        ["sockets", count] => sockets(count.parse()?),
        ["datagrams", address, milliseconds] => datagrams(address.parse()?, millis(milliseconds)?),
        ["stream", address, milliseconds] => stream(address.parse()?, millis(milliseconds)?),
        _ => bail!(
            "usage: tollgate-load serve | connect ADDRESS COUNT | greet ADDRESS COUNT | sockets COUNT | \
             datagrams ADDRESS MILLISECONDS | stream ADDRESS MILLISECONDS"
        ),
    }
}

fn stay_on(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &set).with_context(|| format!("stay on processor {processor}"))
}

fn millis(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

/// Answers until its standard input ends; prints its ports first.
///
/// `accept` takes connections, `greet` answers one byte to a greeting, `sink` and `datagrams` swallow what comes.
fn serve() -> Result<()> {
    let listen = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let (accept, greet, sink) = (listen()?, listen()?, listen()?);
    let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ports = json!({
        "accept": accept.local_addr()?.port(),
        "greet": greet.local_addr()?.port(),
        "sink": sink.local_addr()?.port(),
        "datagrams": datagrams.local_addr()?.port(),
    });
    std::thread::spawn(move || for_each(&accept, |_| ()));
    std::thread::spawn(move || {
        for_each(&greet, |mut stream| {
            let mut greeting = GREETING;
            if stream.read_exact(&mut greeting).is_ok() {
                stream.write_all(b"N").ok();
            }
        });
    });
    std::thread::spawn(move || {
        for_each(&sink, |mut stream| {
            let mut buffer = vec![0; 256 * 1024];
            while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
        });
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while datagrams.recv(&mut buffer).is_ok() {}
    });
    print(&ports)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn for_each(listener: &TcpListener, work: impl Fn(TcpStream)) {
    for stream in listener.incoming().flatten() {
        work(stream);
    }
}

/// How long `connect()` takes; with `greet`, until the first byte of an answer.
fn connects(address: SocketAddr, count: usize, greet: bool) -> Result<()> {
    let to = SockaddrStorage::from(address);
    let mut times = Vec::with_capacity(count);
    for number in 0..WARM_UP + count {
        let socket = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Tcp,
        )?;
        // Closed with a reset: no port waits for a minute until it can be used again.
        let reset = nix::libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&socket, Linger, &reset)?;
        let since = Instant::now();
        connect(socket.as_raw_fd(), &to).with_context(|| format!("connect to {address}"))?;
        let mut stream = TcpStream::from(socket);
        if greet {
            stream.write_all(&GREETING)?;
            stream.read_exact(&mut [0]).context("the answer to a greeting")?;
        }
        if number >= WARM_UP {
            times.push(since.elapsed());
        }
    }
    print_times(times)
}

/// How long `socket()` takes.
fn sockets(count: usize) -> Result<()> {
    let mut times = Vec::with_capacity(count);
    for number in 0..WARM_UP + count {
        let since = Instant::now();
        let made = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Tcp,
        );
        let took = since.elapsed();
        drop(made?);
        if number >= WARM_UP {
            times.push(took);
        }
    }
    print_times(times)
}

/// How many small datagrams a second leave an unconnected socket.
fn datagrams(address: SocketAddr, time: Duration) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sent = 0_u32;
    let since = Instant::now();
    while since.elapsed() < time {
        for _ in 0..64 {
            socket.send_to(&[0; 64], address)?;
            sent += 1;
        }
    }
    print(&json!({ "rate": f64::from(sent) / since.elapsed().as_secs_f64() }))
}

/// How many bytes a second one connection carries.
fn stream(address: SocketAddr, time: Duration) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let buffer = vec![0; 64 * 1024];
    let mut written = 0_u32;
    let since = Instant::now();
    while since.elapsed() < time {
        stream.write_all(&buffer)?;
        written += 1;
    }
    let bytes = f64::from(written) * 65_536.0;
    print(&json!({ "rate": bytes / since.elapsed().as_secs_f64() }))
}

fn print_times(mut times: Vec<Duration>) -> Result<()> {
    times.sort_unstable();
    ensure!(!times.is_empty(), "nothing was measured");
    let at = |percent: usize| {
        let last = times.len() - 1;
        times[(last * percent).div_ceil(100)].as_secs_f64() * 1e6
    };
    print(&json!({ "p50": at(50), "p99": at(99) }))
}

#[expect(clippy::print_stdout, reason = "what was measured is the output of a load")]
fn print(value: &serde_json::Value) -> Result<()> {
    println!("{value}");
    Ok(std::io::stdout().flush()?)
}
