//! Listens in further network namespaces, when the kernel side misses a listener there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::FlowError;
use super::listener::Shared;
use super::query;
use super::socket::{bound_socket, is_without_ipv6};
use crate::kernel::inhabitant::Inhabitant;
use crate::kernel::netns::Netns;
use crate::kernel::{EventKind, KernelEvent};

/// Adds listeners in other network namespaces.
#[derive(Clone, Debug)]
pub struct Expander(pub(super) Arc<Shared>);

impl Expander {
    /// Listens where the kernel side missed a listener; other events are not for this. To be called for each event, and at
    /// once: a workload may be waiting for it.
    pub fn heed(&self, event: &KernelEvent) -> Result<(), FlowError> {
        let (EventKind::NoListener | EventKind::ListenerAwaited, Some(cookie), Some(pid)) =
            (event.kind, event.netns, event.tgid)
        else {
            return Ok(());
        };
        if self.0.stays_in(cookie) {
            return Ok(());
        }
        // Before anything that takes time: the connect may come any moment.
        if let Err(error) = self.0.kernel.hasten_resends() {
            tracing::warn!(%error, "the first connect in a new network namespace may take a second");
        }
        let tid = event.tid.unwrap_or(pid);
        let failed = |source| FlowError::Namespace {
            netns: cookie,
            pid,
            source,
        };
        let inhabitant = Inhabitant::of_thread(pid, tid).map_err(failed)?;
        let netns = Netns::of_thread(pid, tid).map_err(failed)?;
        if netns.cookie() != cookie {
            return Err(failed(io::Error::other(
                "the process has changed its namespace, or ended",
            )));
        }
        self.listen_in(Arc::new(netns), Some(inhabitant))
    }

    /// Listens in a network namespace, whose loopback is switched on if it is not, for as long as anybody is in it;
    /// `inhabitant` is. Listening already is fine.
    pub fn listen_in(&self, netns: Arc<Netns>, inhabitant: Option<Inhabitant>) -> Result<(), FlowError> {
        let cookie = netns.cookie();
        let arriving = self.0.arriving.lock();
        if self.0.stays_in(cookie) {
            return Ok(());
        }
        let (streams, datagrams) =
            netns
                .run(|| self.sockets_in(&netns))
                .map_err(|source| FlowError::Enter {
                    netns: cookie,
                    source,
                })??;
        self.0.serve(netns, streams, datagrams)?;
        drop(arriving);
        match inhabitant {
            Some(inhabitant) => self.0.settle(cookie, inhabitant),
            None => self.0.vacated.notify_one(),
        }
        Ok(())
    }

    /// Sockets at the agent's ports, for connections and for DNS.
    fn sockets_in(&self, netns: &Netns) -> Result<(Vec<OwnedFd>, Vec<OwnedFd>), FlowError> {
        if let Err(error) = netns.raise_loopback() {
            // It may be up. If it is not, binding fails, and says so.
            tracing::debug!(%error, netns = %netns.cookie(), "the loopback interface could not be switched on");
        }
        let [v4, v6] = [self.0.addresses.v4_address(), self.0.addresses.v6_address()];
        let v4 = patiently(|| bound_socket(&self.0.kernel, netns, v4))?;
        let v6 = match patiently(|| bound_socket(&self.0.kernel, netns, v6)) {
            _ if self.0.addresses.v6 == 0 => None,
            Err(FlowError::Listen { source, .. }) if is_without_ipv6(&source) => None,
            bound => Some(bound?),
        };
        // Without these the namespace's DNS is refused, which is no reason to refuse its connections as well.
        let datagrams = patiently(|| query::bound_sockets(&self.0.kernel, netns, self.0.addresses))
            .unwrap_or_else(|error| {
                tracing::error!(%error, "DNS of a workload in another network namespace is refused");
                Vec::new()
            });
        Ok((std::iter::once(v4).chain(v6).collect(), datagrams))
    }
}

/// How long sockets that were just given up with the namespace may take to be closed.
const CLOSING: Duration = Duration::from_millis(20);

/// Binds as soon as nobody has the address any more: the agent itself may have had it until a moment ago.
fn patiently<T>(bind: impl Fn() -> Result<T, FlowError>) -> Result<T, FlowError> {
    let until = Instant::now() + CLOSING;
    loop {
        match bind() {
            Err(FlowError::Listen { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && Instant::now() < until =>
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            bound => return bound,
        }
    }
}
