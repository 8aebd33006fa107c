//! A server of a service.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::EndpointHost;
use crate::model::{Place, ServiceName};
use crate::tls::Upstream;

/// A server of a service, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Target {
    /// The service that it belongs to.
    pub service: ServiceName,
    /// The endpoint of the service that matched: its name is what the certificate has to be for.
    pub host: EndpointHost,
    /// Where it is.
    pub address: Place,
    /// TLS, as the service asks for.
    pub tls: Arc<Upstream>,
}

impl Target {
    /// Its address; that of the loopback for a unix socket, which has none.
    pub fn ip(&self) -> IpAddr {
        match &self.address {
            Place::Network(address) => address.ip(),
            Place::Unix(_) => Ipv4Addr::LOCALHOST.into(),
        }
    }
}
