//! A TCP relay in front of a server that does what a real server will not do when it is asked to: reset, close or fall
//! silent after a given number of bytes. A double, for faults alone; every byte that it passes on is the server's own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use nix::libc;
use nix::sys::socket::{setsockopt, shutdown, sockopt};

/// What happens to a connection once the server has sent enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is reset.
    Reset,
    /// It is closed.
    Close,
    /// Nothing comes any more, either way, and it stays open.
    Stall,
}

/// The relay. Connections that were made stay when it is dropped; no others are made.
#[derive(Debug)]
pub struct Faulty {
    address: SocketAddr,
    listener: TcpListener,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct State {
    server: SocketAddr,
    /// Bytes of the server that pass before the fault; `u64::MAX`: no fault.
    after: AtomicU64,
    fault: std::sync::Mutex<Fault>,
    /// Added to `after` with each connection.
    step: AtomicU64,
    stopped: AtomicBool,
}

impl Faulty {
    /// Listens at `at` (port 0: any) in front of the server at `server`. Without a fault at first.
    pub fn start(at: SocketAddr, server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at)?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            server,
            after: AtomicU64::new(u64::MAX),
            fault: std::sync::Mutex::new(Fault::Reset),
            step: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = listener.try_clone()?;
        let thread = std::thread::spawn({
            let state = Arc::clone(&state);
            move || accept(&accepting, &state)
        });
        Ok(Self {
            address,
            listener,
            state,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections from now on get `fault` after so many bytes of the server, each `step` bytes later than the one
    /// before.
    pub fn sweep(&self, fault: Fault, after: u64, step: u64) {
        *self
            .state
            .fault
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = fault;
        self.state.step.store(step, Ordering::SeqCst);
        self.state.after.store(after, Ordering::SeqCst);
    }

    /// Connections from now on get no fault.
    pub fn heal(&self) {
        self.sweep(Fault::Reset, u64::MAX, 0);
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        // Wakes the accept, also where the address has gone from the host meanwhile.
        shutdown(self.listener.as_raw_fd(), nix::sys::socket::Shutdown::Both).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, state: &Arc<State>) {
    for near in listener.incoming() {
        if state.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(near) = near else { continue };
        let step = state.step.load(Ordering::SeqCst);
        let after = match state.after.load(Ordering::SeqCst) {
            u64::MAX => u64::MAX,
            _ => state.after.fetch_add(step, Ordering::SeqCst),
        };
        let fault = *state
            .fault
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Ok(far) = TcpStream::connect(state.server) {
            relay(near, far, fault, after);
        }
    }
}

fn relay(near: TcpStream, far: TcpStream, fault: Fault, after: u64) {
    near.set_nodelay(true).ok();
    far.set_nodelay(true).ok();
    let stalled = Arc::new(AtomicBool::new(false));
    if let (Ok(mut from), Ok(mut to), stalled) = (near.try_clone(), far.try_clone(), Arc::clone(&stalled)) {
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if stalled.load(Ordering::SeqCst) || to.write_all(&buffer[..count]).is_err() {
                    return;
                }
            }
            to.shutdown(Shutdown::Write).ok();
        });
    }
    std::thread::spawn(move || down(near, far, fault, after, &stalled));
}

fn down(mut near: TcpStream, mut far: TcpStream, fault: Fault, after: u64, stalled: &AtomicBool) {
    let mut left = after;
    let mut buffer = [0; 16 * 1024];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match far.read(&mut buffer[..most]) {
            Ok(count @ 1..) => {
                if near.write_all(&buffer[..count]).is_err() {
                    return;
                }
                left -= count as u64;
            }
            _ => {
                near.shutdown(Shutdown::Write).ok();
                return;
            }
        }
    }
    match fault {
        Fault::Reset => {
            let now = libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            setsockopt(&near, sockopt::Linger, &now).ok();
            near.shutdown(Shutdown::Read).ok();
        }
        Fault::Close => {
            near.shutdown(Shutdown::Both).ok();
        }
        Fault::Stall => {
            stalled.store(true, Ordering::SeqCst);
            // Held open for longer than any test waits.
            std::thread::sleep(Duration::from_mins(2));
        }
    }
}
