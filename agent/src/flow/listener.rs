//! The agent's listening sockets, in every network namespace from which it is asked to.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::query::{self, Query};
use crate::kernel::netns::Netns;
use crate::kernel::{EventKind, FlowOrigin, Kernel, KernelError, KernelEvent, ProxyAddresses};
use crate::model::{ClientAddr, NetnsCookie, OriginalDst};

/// One redirected connection.
#[derive(Debug)]
pub struct Flow {
    /// The connection to the workload.
    pub stream: TcpStream,
    /// The workload's end of it.
    pub client: ClientAddr,
    /// Where the workload wanted to go.
    pub original: OriginalDst,
    /// What the kernel side knows of it.
    pub origin: FlowOrigin,
    /// The workload's network namespace, from which the target has to be dialled.
    pub netns: Arc<Netns>,
}

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
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// The listening sockets. Dropped, they are closed, and managed cgroups are refused what is protected.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    flows: mpsc::Receiver<Flow>,
    queries: Option<mpsc::Receiver<Query>>,
    host: Arc<Netns>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kernel: Arc<Kernel>,
    addresses: ProxyAddresses,
    sender: mpsc::Sender<Flow>,
    pub(super) queries: mpsc::Sender<Query>,
    namespaces: Mutex<HashMap<NetnsCookie, Namespace>>,
    unexplained: AtomicU64,
}

#[derive(Debug)]
struct Namespace {
    netns: Arc<Netns>,
    tasks: Vec<JoinHandle<()>>,
}

/// Flows that may wait for the engine. When it is behind, the accept queue fills, and then connects wait.
const WAITING_FLOWS: usize = 256;

/// Queries that may wait. When they are taken too slowly, more are dropped, and asked again.
const WAITING_QUERIES: usize = 1024;

/// Length of the kernel's accept queue; net.core.somaxconn caps it.
const BACKLOG: i32 = 4096;

/// How often namespaces without processes and records without connections are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// After which an accept that did not come will not come.
const STALE_FLOW: Duration = Duration::from_mins(2);

impl Listener {
    /// Listens in the agent's own network namespace, on `wanted` (0: any free port), and tells the kernel side.
    pub fn bind(kernel: Arc<Kernel>, wanted: ProxyAddresses) -> Result<Self, FlowError> {
        let host = Arc::new(Netns::own().map_err(KernelError::system("opening the own network namespace"))?);
        let v4 = bound_socket(&kernel, &host, wanted.v4_address())?;
        // A host can be without IPv6; then what is protected is refused to IPv6 sockets.
        let v6 = match bound_socket(&kernel, &host, wanted.v6_address()) {
            Err(FlowError::Listen { source, .. }) if is_without_ipv6(&source) => None,
            bound => Some(bound?),
        };
        let addresses = ProxyAddresses {
            v4: port_of(&v4)?,
            v6: v6.as_ref().map_or(Ok(0), port_of)?,
            dns: wanted.dns,
        };
        let (addresses, datagrams) = match wanted.dns {
            0 => query::choose_ports(&kernel, &host, addresses)?,
            _ => (addresses, query::bound_sockets(&kernel, &host, addresses)?),
        };
        // From here on the ports are reserved everywhere; a connection is redirected only when its listener is marked.
        kernel.set_proxy(addresses)?;
        let (sender, flows) = mpsc::channel(WAITING_FLOWS);
        let (queries, waiting_queries) = mpsc::channel(WAITING_QUERIES);
        let shared = Arc::new(Shared {
            kernel,
            addresses,
            sender,
            queries,
            namespaces: Mutex::new(HashMap::new()),
            unexplained: AtomicU64::new(0),
        });
        shared.serve(Arc::clone(&host), std::iter::once(v4).chain(v6), datagrams)?;
        let housekeeper = tokio::spawn(housekeeping(Arc::downgrade(&shared)));
        if let Some(namespace) = shared.namespaces.lock().get_mut(&host.cookie()) {
            namespace.tasks.push(housekeeper);
        }
        Ok(Self {
            shared,
            flows,
            queries: Some(waiting_queries),
            host,
        })
    }

    /// The next flow. Safe to cancel; `None` never comes while the listener lives.
    pub async fn accept(&mut self) -> Option<Flow> {
        self.flows.recv().await
    }

    /// DNS queries as they come; `None` if they were taken already.
    pub fn take_queries(&mut self) -> Option<mpsc::Receiver<Query>> {
        self.queries.take()
    }

    /// Where the agent listens.
    pub fn addresses(&self) -> ProxyAddresses {
        self.shared.addresses
    }

    /// The agent's own network namespace.
    pub fn host_namespace(&self) -> &Arc<Netns> {
        &self.host
    }

    /// Accepted connections and datagrams that no record explained; they were closed and dropped.
    pub fn unexplained(&self) -> u64 {
        self.shared.unexplained.load(Ordering::Relaxed)
    }

    /// What makes it listen elsewhere; can be called while a flow is awaited.
    pub fn expander(&self) -> Expander {
        Expander(Arc::clone(&self.shared))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        for (_, namespace) in self.shared.namespaces.lock().drain() {
            namespace.stop();
        }
    }
}

/// Adds listeners in other network namespaces.
#[derive(Clone, Debug)]
pub struct Expander(Arc<Shared>);

impl Expander {
    /// Listens where the kernel side missed a listener; other events are not for this. To be called for each event.
    pub fn heed(&self, event: &KernelEvent) -> Result<(), FlowError> {
        match (event.kind, event.netns, event.tgid) {
            (EventKind::NoListener, Some(netns), Some(pid)) => self.listen_in(netns, pid),
            _ => Ok(()),
        }
    }

    /// Listens in the network namespace `cookie`, in which process `pid` is. Listening already is fine.
    pub fn listen_in(&self, cookie: NetnsCookie, pid: u32) -> Result<(), FlowError> {
        if self.0.namespaces.lock().contains_key(&cookie) {
            return Ok(());
        }
        let failed = |source| FlowError::Namespace {
            netns: cookie,
            pid,
            source,
        };
        let netns = Arc::new(Netns::of_process(pid).map_err(failed)?);
        if netns.cookie() != cookie {
            return Err(failed(io::Error::other(
                "the process has changed its namespace, or ended",
            )));
        }
        let [v4, v6] = [self.0.addresses.v4_address(), self.0.addresses.v6_address()];
        let v4 = bound_socket(&self.0.kernel, &netns, v4)?;
        let v6 = match bound_socket(&self.0.kernel, &netns, v6) {
            _ if self.0.addresses.v6 == 0 => None,
            Err(FlowError::Listen { source, .. }) if is_without_ipv6(&source) => None,
            bound => Some(bound?),
        };
        // Without these the namespace's DNS is refused, which is no reason to refuse its connections as well.
        let datagrams =
            query::bound_sockets(&self.0.kernel, &netns, self.0.addresses).unwrap_or_else(|error| {
                tracing::error!(%error, "DNS of a workload in another network namespace is refused");
                Vec::new()
            });
        self.0.serve(netns, std::iter::once(v4).chain(v6), datagrams)
    }
}

impl Shared {
    fn serve(
        self: &Arc<Self>,
        netns: Arc<Netns>,
        sockets: impl IntoIterator<Item = OwnedFd>,
        datagrams: Vec<OwnedFd>,
    ) -> Result<(), FlowError> {
        let mut tasks = query::serve(self, &netns, datagrams)?;
        for socket in sockets {
            let failed = |source| FlowError::Listen {
                address: self.addresses.v4_address(),
                netns: netns.cookie(),
                source,
            };
            self.kernel.mark_listener(&socket)?;
            let backlog = Backlog::new(BACKLOG).map_err(|errno| failed(errno.into()))?;
            listen(&socket, backlog).map_err(|errno| failed(errno.into()))?;
            let listener = TcpListener::from_std(StdListener::from(socket)).map_err(failed)?;
            tasks.push(tokio::spawn(accept_all(
                Arc::downgrade(self),
                listener,
                Arc::clone(&netns),
            )));
        }
        let earlier = self
            .namespaces
            .lock()
            .insert(netns.cookie(), Namespace { netns, tasks });
        if let Some(earlier) = earlier {
            earlier.stop();
        }
        Ok(())
    }

    pub(super) fn count_unexplained(&self) {
        self.unexplained.fetch_add(1, Ordering::Relaxed);
    }

    /// The flow of an accepted connection, or nothing if it was closed.
    fn explain(&self, stream: TcpStream, peer: SocketAddr, netns: &Arc<Netns>) -> Option<Flow> {
        let origin = stream
            .local_addr()
            .map_err(KernelError::system("getsockname"))
            .and_then(|local| self.kernel.take_flow(peer, local, netns.cookie()));
        match origin {
            Ok(Some(origin)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "TCP_NODELAY was refused");
                }
                Some(Flow {
                    stream,
                    client: ClientAddr(peer),
                    original: origin.original,
                    origin,
                    netns: Arc::clone(netns),
                })
            }
            unexplained => {
                self.count_unexplained();
                let error = unexplained.err();
                tracing::warn!(%peer, error = error.map(|error| error.to_string()), "closed a connection of unknown origin");
                if let Err(error) = stream.set_zero_linger() {
                    tracing::debug!(%error, "closing without a reset");
                }
                None
            }
        }
    }
}

impl Namespace {
    fn stop(self) {
        for task in self.tasks {
            task.abort();
        }
    }
}

async fn accept_all(shared: std::sync::Weak<Shared>, listener: TcpListener, netns: Arc<Netns>) {
    loop {
        let accepted = listener.accept().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(flow) = shared.explain(stream, peer, &netns)
                    && shared.sender.send(flow).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                // Descriptors or memory are short, or the peer is gone already; each is over in a while.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Closes listeners in namespaces that nobody is in any more, which would live on for them alone.
async fn housekeeping(shared: std::sync::Weak<Shared>) {
    let mut timer = tokio::time::interval(HOUSEKEEPING);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let namespaces: Vec<_> = shared
            .namespaces
            .lock()
            .values()
            .map(|found| Arc::clone(&found.netns))
            .collect();
        let swept = tokio::task::spawn_blocking(move || {
            for netns in namespaces.iter().filter(|netns| !netns.is_inhabited()) {
                if let Some(namespace) = shared.namespaces.lock().remove(&netns.cookie()) {
                    namespace.stop();
                }
            }
            shared.kernel.sweep_flows(STALE_FLOW)
        });
        match swept.await {
            Ok(Ok(0)) | Err(_) => {}
            Ok(Ok(count)) => tracing::debug!(count, "removed records of connections that never came"),
            Ok(Err(error)) => tracing::warn!(%error, "records of connections could not be swept"),
        }
    }
}

/// A socket of `netns` bound to `address`, as the thread that may.
fn bound_socket(kernel: &Kernel, netns: &Netns, address: SocketAddr) -> Result<OwnedFd, FlowError> {
    let failed = |source| FlowError::Listen {
        address,
        netns: netns.cookie(),
        source,
    };
    let socket = netns.stream_socket(address.is_ipv6()).map_err(failed)?;
    setsockopt(&socket, ReuseAddr, &true).map_err(|errno| failed(errno.into()))?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true).map_err(|errno| failed(errno.into()))?;
    }
    kernel
        .with_proxy_ports(|| {
            let name = SockaddrStorage::from(address);
            bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &name)
        })?
        .map_err(|errno| failed(errno.into()))?;
    Ok(socket)
}

fn advice(error: &io::Error) -> &'static str {
    if error.kind() == io::ErrorKind::AddrInUse {
        "; stop the program that listens there, or leave `port` out of [listen]: then a free one is taken"
    } else {
        ""
    }
}

pub(super) fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT)
    )
}

fn port_of(socket: &OwnedFd) -> Result<u16, FlowError> {
    let name: SockaddrStorage = nix::sys::socket::getsockname(std::os::fd::AsRawFd::as_raw_fd(socket))
        .map_err(|errno| KernelError::system("getsockname")(errno.into()))?;
    let port = name
        .as_sockaddr_in()
        .map(nix::sys::socket::SockaddrIn::port)
        .or_else(|| name.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::port));
    port.ok_or_else(|| {
        KernelError::system("getsockname")(io::Error::other("an address of another family")).into()
    })
}
