//! Listens in further network namespaces, when the kernel side misses a listener there.

use std::io;
use std::sync::Arc;

use super::FlowError;
use super::listener::Shared;
use super::query;
use super::socket::{bound_socket, is_without_ipv6};
use crate::kernel::netns::Netns;
use crate::kernel::{EventKind, KernelEvent};
use crate::model::NetnsCookie;

/// Adds listeners in other network namespaces.
#[derive(Clone, Debug)]
pub struct Expander(pub(super) Arc<Shared>);

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
