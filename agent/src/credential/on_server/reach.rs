//! A server of a service, from where the agent is.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{EndpointHost, TlsSpec};
use crate::credential::CredentialError;
use crate::flow::Stream;
use crate::kernel::{dial, netns::Netns};
use crate::model::{Place, ServiceName};
use crate::protocol::Target;
use crate::tls::{TlsError, Upstream};

const DIAL_PATIENCE: Duration = Duration::from_secs(10);

/// Why a server could not be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum ReachError {
    /// The admin's own login cannot be read.
    #[error("the admin's login cannot be read: {0}")]
    Secret(#[source] Box<CredentialError>),
    /// The agent's TLS for the server.
    #[error("the server cannot be spoken to as the policy's tls asks for: {0}")]
    Tls(#[source] TlsError),
    /// No connection.
    #[error("the server cannot be reached ({})", .0.kind())]
    Unreachable(#[source] io::Error),
    /// It was made elsewhere than where the agent can go.
    #[error(
        "it was made in a network namespace that is gone, at an address that means another server here; \
         drop it there, or with `tollgate leases sweep` from a host that reaches its server"
    )]
    Elsewhere,
}

impl ReachError {
    /// Whether the server is to be told of as what failed, and not the agent or its configuration.
    pub(in crate::credential) fn is_targets(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Secret(_) | Self::Tls(_) | Self::Elsewhere => false,
        }
    }
}

/// A server, as the journal can say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::credential) struct Server {
    pub(in crate::credential) service: ServiceName,
    pub(in crate::credential) address: Place,
    /// The endpoint that matched.
    pub(in crate::credential) host: EndpointHost,
    pub(in crate::credential) tls: TlsSpec,
    /// Whether the address is one of the host's own network namespace.
    pub(in crate::credential) in_host: bool,
}

impl Server {
    pub(in crate::credential) fn of(target: &Target, tls: &TlsSpec, netns: &Netns) -> Self {
        Self {
            service: target.service.clone(),
            address: target.address.clone(),
            host: target.host.clone(),
            tls: tls.clone(),
            in_host: Netns::own().is_ok_and(|own| own.cookie() == netns.cookie()),
        }
    }

    /// How it is spoken to.
    pub(in crate::credential) fn target(&self) -> Result<Target, ReachError> {
        Ok(Target {
            service: self.service.clone(),
            host: self.host.clone(),
            address: self.address.clone(),
            tls: Arc::new(Upstream::from_spec(&self.tls).map_err(ReachError::Tls)?),
        })
    }

    /// Dialled from `netns`, or else from the host's, where the address means the same server there.
    pub(in crate::credential) async fn dial(&self, netns: Option<&Netns>) -> Result<Stream, ReachError> {
        let address = match &self.address {
            Place::Network(address) => *address,
            Place::Unix(path) => {
                let stream = dial::connect_unix(path, DIAL_PATIENCE).await;
                return stream.map(Stream::from).map_err(ReachError::Unreachable);
            }
        };
        let own;
        let netns = match netns {
            Some(netns) => netns,
            None if !self.in_host && is_local(address.ip()) => return Err(ReachError::Elsewhere),
            None => {
                own = Netns::own().map_err(ReachError::Unreachable)?;
                &own
            }
        };
        let stream = dial::connect(netns, address, DIAL_PATIENCE).await;
        stream.map(Stream::from).map_err(ReachError::Unreachable)
    }
}

fn is_local(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}
