//! The agent's listening sockets, in every network namespace from which it is asked to.

use std::collections::HashMap;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::accepting::accept_all;
use super::handed_over::{self, Handed};
use super::query::{self, Query};
use super::socket::{bound_as_before, is_without_ipv6, port_of};
use super::tenants::{self, Tenant};
use super::unix::UnixSockets;
use super::{Expander, FlowError, Origin, Stream, UnixListeners, store};
use crate::kernel::netns::Netns;
use crate::kernel::{Kernel, KernelError, ProxyAddresses};
use crate::model::{Caller, NetnsCookie, Place};

/// One redirected connection.
#[derive(Debug)]
pub struct Flow {
    /// The connection to the workload.
    pub stream: Stream,
    /// The workload's end of it.
    pub client: Caller,
    /// Where the workload wanted to go.
    pub original: Place,
    /// What the kernel side knows of it.
    pub origin: Origin,
    /// The workload's network namespace, from which the target has to be dialled.
    pub netns: Arc<Netns>,
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
    pub(super) addresses: ProxyAddresses,
    sender: mpsc::Sender<Flow>,
    pub(super) queries: mpsc::Sender<Query>,
    pub(super) namespaces: Mutex<HashMap<NetnsCookie, Namespace>>,
    /// Held while sockets are made in a namespace that is new, so that nobody does it at the same time.
    pub(super) arriving: Mutex<()>,
    /// Told when somebody has ended of whom it is known that he was in a namespace.
    pub(super) vacated: Arc<Notify>,
    pub(super) unix: UnixSockets,
    /// True when no more is to be accepted.
    pub(super) closing: watch::Sender<bool>,
    unexplained: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) netns: Arc<Netns>,
    /// Somebody who is in it; `None` in the agent's own, and where it is not known yet.
    pub(super) tenant: Option<Tenant>,
    /// Nobody was in it at the last look, and nobody has asked for the agent since.
    pub(super) leaving: bool,
    /// The sockets once more, to be handed over.
    sockets: Vec<OwnedFd>,
    /// True when it has been left.
    left: watch::Sender<bool>,
    accepting: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// Flows that may wait for the engine. When it is behind, the accept queue fills, and then connects wait.
const WAITING_FLOWS: usize = 256;

/// Queries that may wait. When they are taken too slowly, more are dropped, and asked again.
const WAITING_QUERIES: usize = 1024;

/// Length of the kernel's accept queue; net.core.somaxconn caps it.
const BACKLOG: i32 = 4096;

/// How often records without connections are looked for.
const HOUSEKEEPING: Duration = Duration::from_secs(30);

/// How often the agent says that it lives; the kernel side waits for it if it did some seconds ago.
const SIGN_OF_LIFE: Duration = Duration::from_secs(1);

/// After which an accept that did not come will not come.
const STALE_FLOW: Duration = Duration::from_mins(2);

/// After how long without a new network namespace the host's connections are relieved of what hastens the first in each.
const QUIET: Duration = Duration::from_mins(10);

impl Listener {
    /// Listens in the agent's own network namespace, on `wanted` (0: any free port), and tells the kernel side.
    pub fn bind(kernel: Arc<Kernel>, wanted: ProxyAddresses) -> Result<Self, FlowError> {
        Self::go_on(kernel, wanted, Vec::new())
    }

    /// As [`Listener::bind`], with the sockets of an agent before this one, in whatever namespace they are: connections
    /// that wait in their queues become flows. Sockets that are not the agent's are closed.
    pub fn go_on(
        kernel: Arc<Kernel>,
        wanted: ProxyAddresses,
        sockets: Vec<OwnedFd>,
    ) -> Result<Self, FlowError> {
        let host = Arc::new(Netns::own().map_err(KernelError::system("opening the own network namespace"))?);
        let (unix, sockets) = UnixSockets::handed_over(sockets);
        let (earlier, mut handed) = handed_over::sort(&kernel, wanted, sockets);
        let (mut v4, mut v6, mut datagrams) = (None, None, Vec::new());
        if let Some(own) = handed.remove(&host.cookie()) {
            (v4, v6, datagrams) = (own.v4, own.v6, own.datagrams);
        }
        let v4 = match v4 {
            Some(socket) => socket,
            None => bound_as_before(&kernel, &host, wanted.v4_address(), earlier.v4)?,
        };
        // A host can be without IPv6; then what is protected is refused to IPv6 sockets.
        let v6 = match v6 {
            Some(socket) => Some(socket),
            None => match bound_as_before(&kernel, &host, wanted.v6_address(), earlier.v6) {
                Err(FlowError::Listen { source, .. }) if is_without_ipv6(&source) => None,
                bound => Some(bound?),
            },
        };
        let addresses = ProxyAddresses {
            v4: port_of(&v4)?,
            v6: v6.as_ref().map_or(Ok(0), port_of)?,
            dns: wanted.dns,
        };
        let (addresses, datagrams) = match wanted.dns {
            0 if query::is_complete(&datagrams, addresses, earlier) => (
                ProxyAddresses {
                    dns: earlier.dns,
                    ..addresses
                },
                datagrams,
            ),
            0 => {
                drop(datagrams);
                query::choose_ports(&kernel, &host, addresses)?
            }
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
            arriving: Mutex::new(()),
            vacated: Arc::new(Notify::new()),
            unix,
            closing: watch::Sender::new(false),
            unexplained: AtomicU64::new(0),
        });
        shared.kernel.listens_nowhere()?;
        shared.serve(Arc::clone(&host), std::iter::once(v4).chain(v6), datagrams)?;
        for handed in handed.into_values() {
            shared.go_on_in(handed);
        }
        let others = [
            tokio::spawn(housekeeping(Arc::downgrade(&shared))),
            tokio::spawn(signs_of_life(Arc::downgrade(&shared))),
            tokio::spawn(tenants::watch(
                Arc::downgrade(&shared),
                Arc::clone(&shared.vacated),
            )),
        ];
        if let Some(namespace) = shared.namespaces.lock().get_mut(&host.cookie()) {
            namespace.others.extend(others);
        }
        Ok(Self {
            shared,
            flows,
            queries: Some(waiting_queries),
            host,
        })
    }

    /// Accepts no more, and gives the sockets, on which connections go on waiting, for the agent that comes after this one
    /// (see [`Listener::go_on`]), with the flows that had been accepted and not handed out.
    pub async fn hand_over(mut self) -> (Vec<OwnedFd>, Vec<Flow>) {
        self.shared.closing.send_replace(true);
        let namespaces: Vec<_> = self.shared.namespaces.lock().drain().map(|(_, it)| it).collect();
        let (mut sockets, tasks) = self.shared.unix.take();
        let mut accepting = JoinSet::new();
        for task in tasks {
            accepting.spawn(task);
        }
        for namespace in namespaces {
            sockets.extend(namespace.sockets);
            for task in namespace.others {
                task.abort();
            }
            for task in namespace.accepting {
                accepting.spawn(task);
            }
        }
        let mut flows = Vec::new();
        // A task may be waiting until there is room for its last flow.
        loop {
            tokio::select! {
                Some(flow) = self.flows.recv() => flows.push(flow),
                ended = accepting.join_next() => if ended.is_none() { break },
            }
        }
        while let Ok(flow) = self.flows.try_recv() {
            flows.push(flow);
        }
        (sockets, flows)
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

    /// What listens on unix sockets in `directory`, which is made. Their flows are accepted here as well.
    pub fn unix(&self, directory: PathBuf) -> Result<UnixListeners, FlowError> {
        UnixListeners::new(Arc::clone(&self.shared), Arc::clone(&self.host), directory)
    }

    /// What makes it listen elsewhere; can be called while a flow is awaited.
    pub fn expander(&self) -> Expander {
        Expander(Arc::clone(&self.shared))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Held until the leave is taken, so that no sign of life comes after it.
        let mut listening = self.shared.namespaces.lock();
        // None: handed over. Whoever comes next gives signs of life, and until then connects may wait for it.
        let leaves = !listening.is_empty();
        for (_, namespace) in listening.drain() {
            namespace.stop();
        }
        for task in self.shared.unix.take().1 {
            task.abort();
        }
        if leaves && let Err(error) = self.shared.kernel.take_leave() {
            tracing::warn!(%error, "for some seconds, connects in new network namespaces wait before they are refused");
        }
    }
}

impl Shared {
    /// Passes a flow on. False: nobody takes flows any more.
    pub(super) async fn hand_on(&self, flow: Flow) -> bool {
        self.sender.send(flow).await.is_ok()
    }

    /// Listens on the sockets, in place of those that there were in the namespace.
    pub(super) fn serve(
        self: &Arc<Self>,
        netns: Arc<Netns>,
        sockets: impl IntoIterator<Item = OwnedFd>,
        datagrams: Vec<OwnedFd>,
    ) -> Result<(), FlowError> {
        let kept = |socket: &OwnedFd| {
            socket
                .try_clone()
                .map_err(KernelError::system("duplicating a listener"))
        };
        let mut all: Vec<OwnedFd> = datagrams.iter().map(kept).collect::<Result<_, _>>()?;
        let others = query::serve(self, &netns, datagrams)?;
        store::keep_datagrams(&all, netns.cookie());
        let left = watch::Sender::new(false);
        let mut accepting = Vec::new();
        for socket in sockets {
            let failed = |source| FlowError::Listen {
                address: self.addresses.v4_address(),
                netns: netns.cookie(),
                source,
            };
            self.kernel.mark_listener(&socket)?;
            let backlog = Backlog::new(BACKLOG).map_err(|errno| failed(errno.into()))?;
            listen(&socket, backlog).map_err(|errno| failed(errno.into()))?;
            let copy = kept(&socket)?;
            store::keep(&copy, netns.cookie());
            all.push(copy);
            let listener = TcpListener::from_std(StdListener::from(socket)).map_err(failed)?;
            accepting.push(tokio::spawn(accept_all(
                Arc::downgrade(self),
                listener,
                Arc::clone(&netns),
                self.closing.subscribe(),
                left.subscribe(),
            )));
        }
        let namespace = Namespace {
            netns,
            tenant: None,
            leaving: false,
            sockets: all,
            left,
            accepting,
            others,
        };
        let cookie = namespace.netns.cookie();
        let earlier = self.namespaces.lock().insert(cookie, namespace);
        if let Some(earlier) = earlier {
            earlier.stop();
        }
        self.kernel.listens_in(cookie)?;
        Ok(())
    }

    /// Goes on listening in a namespace other than the agent's own. One that nobody is in any more is let go as others are.
    fn go_on_in(self: &Arc<Self>, handed: Handed) {
        let Handed {
            netns,
            v4,
            v6,
            datagrams,
        } = handed;
        let cookie = netns.cookie();
        let datagrams = if query::is_complete(&datagrams, self.addresses, self.addresses) {
            datagrams
        } else {
            drop(datagrams);
            query::bound_sockets(&self.kernel, &netns, self.addresses).unwrap_or_default()
        };
        if let Err(error) = self.serve(netns, v4.into_iter().chain(v6), datagrams) {
            // It is listened there again when somebody is refused for it.
            tracing::warn!(%error, netns = %cookie, "a listener that was handed over cannot be used");
        }
    }

    /// Whether it listens in a namespace; then it stays there.
    pub(super) fn stays_in(&self, netns: NetnsCookie) -> bool {
        let mut namespaces = self.namespaces.lock();
        let Some(namespace) = namespaces.get_mut(&netns) else {
            return false;
        };
        if std::mem::take(&mut namespace.leaving)
            && let Err(error) = self.kernel.listens_in(netns)
        {
            tracing::debug!(%error, %netns, "the kernel side goes on telling of a namespace");
        }
        true
    }

    /// Has the kernel side tell of whoever makes a socket in a namespace from now on, which nobody seems to be in.
    pub(super) fn begin_to_leave(&self, netns: NetnsCookie) {
        if let Some(namespace) = self.namespaces.lock().get_mut(&netns) {
            namespace.leaving = true;
            self.has_left(netns);
        }
    }

    /// Listens in a namespace no more, unless somebody has been told of there since [`Self::begin_to_leave`].
    pub(super) fn leave_unless_awaited(&self, netns: NetnsCookie) {
        let mut namespaces = self.namespaces.lock();
        if let Some(left) = namespaces
            .extract_if(|cookie, it| *cookie == netns && it.leaving)
            .next()
        {
            left.1.leave();
            drop(namespaces);
            store::forget(netns);
            tracing::debug!(%netns, "a network namespace that nobody is in any more was let go");
        }
    }

    fn has_left(&self, netns: NetnsCookie) {
        if let Err(error) = self.kernel.has_left(netns) {
            tracing::warn!(%error, %netns, "the kernel side still takes it that the agent listens there");
        }
    }

    pub(super) fn count_unexplained(&self) {
        self.unexplained.fetch_add(1, Ordering::Relaxed);
    }
}

impl Namespace {
    /// Accepts what waits, and no more.
    fn leave(self) {
        self.left.send_replace(true);
        for task in self.others {
            task.abort();
        }
    }

    fn stop(self) {
        for task in self.accepting.into_iter().chain(self.others) {
            task.abort();
        }
    }
}

/// Lets connects wait for the agent, for as long as it listens.
async fn signs_of_life(shared: std::sync::Weak<Shared>) {
    let mut timer = tokio::time::interval(SIGN_OF_LIFE);
    loop {
        timer.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let listening = shared.namespaces.lock();
        if !listening.is_empty()
            && let Err(error) = shared.kernel.give_sign_of_life()
        {
            tracing::warn!(%error, "in a new network namespace the first connect is refused");
        }
    }
}

/// Removes what is left of connections that were redirected and never came.
async fn housekeeping(shared: std::sync::Weak<Shared>) {
    let mut timer = tokio::time::interval(HOUSEKEEPING);
    timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        timer.tick().await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let swept = tokio::task::spawn_blocking(move || {
            if let Err(error) = shared.kernel.relax_resends(QUIET) {
                tracing::warn!(%error, "connections of the host go on paying for those in new network namespaces");
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
