//! Accepts connections, and makes [`Flow`]s of them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Flow;
use super::listener::Shared;
use crate::kernel::KernelError;
use crate::kernel::netns::Netns;
use crate::model::{Caller, ClientAddr, Place};

/// Until `closing`, after which what waits is another agent's, or until the namespace has been left.
pub(super) async fn accept_all(
    shared: Weak<Shared>,
    listener: TcpListener,
    netns: Arc<Netns>,
    mut closing: watch::Receiver<bool>,
    mut left: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            // First: what waits in the queue when the agent is replaced is its successor's.
            biased;
            _ = closing.wait_for(|closing| *closing) => return,
            Ok(_) = left.wait_for(|left| *left) => break,
            accepted = listener.accept() => accepted,
        };
        let Some(shared) = shared.upgrade() else {
            return;
        };
        match accepted {
            Ok((stream, peer)) => {
                if !shared.take(stream, peer, &netns).await {
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
    if let Err(error) = accept_the_last(shared, listener, netns).await {
        tracing::warn!(%error, "a connection that came while its network namespace was left was closed");
    }
}

/// Takes the connections that came while the namespace was being left.
async fn accept_the_last(shared: Weak<Shared>, listener: TcpListener, netns: Arc<Netns>) -> io::Result<()> {
    // Asked directly: the runtime may not have heard of the last ones yet.
    let listener = listener.into_std()?;
    while let (Ok((stream, peer)), Some(shared)) = (listener.accept(), shared.upgrade()) {
        stream.set_nonblocking(true)?;
        if !shared.take(TcpStream::from_std(stream)?, peer, &netns).await {
            break;
        }
    }
    Ok(())
}

impl Shared {
    /// Makes a flow of a connection and passes it on, or closes it. False: nobody takes flows any more.
    async fn take(&self, stream: TcpStream, peer: SocketAddr, netns: &Arc<Netns>) -> bool {
        match self.explain(stream, peer, netns) {
            Some(flow) => self.hand_on(flow).await,
            None => true,
        }
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
                    stream: stream.into(),
                    client: Caller::Network(ClientAddr(peer)),
                    original: Place::Network(origin.original.0),
                    origin: origin.into(),
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
