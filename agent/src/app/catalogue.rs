//! Every service of every policy, with what its sessions need ready: secrets, masks, TLS.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{CredentialSource, EndpointHost, Protocol, SourceSpec};
use crate::credential::{CredentialError, Credentials};
use crate::engine::Service;
use crate::mask::Masks;
use crate::model::{OriginalDst, PolicyId, ServiceName};
use crate::policy::{PolicySet, Resolved};
use crate::tls::{TlsError, Upstream};

/// All services, by policy and name.
pub(super) struct Catalogue {
    pub(super) set: PolicySet,
    services: HashMap<(PolicyId, ServiceName), Arc<Service>>,
}

/// Why a service cannot be made ready. The agent does not start with it: its sessions would all fail.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Its secret.
    #[error("service {service}: {source}")]
    Credential {
        /// The service.
        service: ServiceName,
        /// Why.
        source: CredentialError,
    },
    /// Its TLS.
    #[error("service {service}: {source}")]
    Tls {
        /// The service.
        service: ServiceName,
        /// Why.
        source: TlsError,
    },
}

impl Catalogue {
    pub(super) fn new(set: PolicySet, mask_key: [u8; 32]) -> Result<Self, ServiceError> {
        let mut services = HashMap::new();
        for policy in set.policies() {
            for service in &policy.services {
                let doc = &service.doc;
                let name = doc.name.clone();
                let credentials = doc
                    .credential
                    .as_ref()
                    .map(Credentials::open)
                    .transpose()
                    .map_err(|source| ServiceError::Credential {
                        service: name.clone(),
                        source,
                    })?;
                let upstream = Upstream::from_spec(&doc.tls).map_err(|source| ServiceError::Tls {
                    service: name.clone(),
                    source,
                })?;
                let ready = Service {
                    policy: policy.id,
                    workload: policy.doc.workload.name.clone(),
                    name: name.clone(),
                    protocol: doc.protocol,
                    mode: policy.doc.workload.mode,
                    policy_hash: policy.doc.hash.clone(),
                    rules: Arc::clone(service),
                    masks: Arc::new(Masks::compile(&doc.masks, mask_key)),
                    credentials: credentials.map(Arc::new),
                    source: source_name(doc.credential.as_ref()),
                    limits: doc.limits,
                    upstream: Arc::new(upstream),
                };
                services.insert((policy.id, name), Arc::new(ready));
            }
        }
        Ok(Self { set, services })
    }

    /// Whether every secret can be read now: told at the start, not in the night when a job needs it.
    pub(super) async fn check_secrets(&self) -> Result<(), ServiceError> {
        for service in self.services.values() {
            if let Some(credentials) = &service.credentials {
                let failed = |source| ServiceError::Credential {
                    service: service.name.clone(),
                    source,
                };
                credentials.check().await.map_err(failed)?;
            }
        }
        Ok(())
    }

    /// The service that a flow goes to, and the endpoint of it that matched.
    pub(super) fn service(
        &self,
        policy: PolicyId,
        dst: OriginalDst,
        resolved: &Resolved,
    ) -> Option<(Arc<Service>, EndpointHost)> {
        let found = self.set.service(policy, dst, resolved)?;
        let ready = self.services.get(&(policy, found.doc.name.clone()))?;
        Some((Arc::clone(ready), endpoint(found, dst, resolved)))
    }

    /// Whether any service speaks a protocol that is not understood.
    pub(super) fn opaque(&self) -> impl Iterator<Item = &Service> {
        self.services
            .values()
            .map(|service| &**service)
            .filter(|service| service.protocol == Protocol::Opaque)
    }
}

/// The endpoint by which a destination was found: a name that resolves to it before a network that has it, since a name
/// is what certificates are issued for.
fn endpoint(service: &crate::policy::Service, dst: OriginalDst, resolved: &Resolved) -> EndpointHost {
    let address: IpAddr = dst.0.ip().to_canonical();
    let on_port = || {
        service
            .doc
            .addresses
            .iter()
            .filter(|endpoint| endpoint.port == dst.0.port())
    };
    on_port()
        .find(|endpoint| match &endpoint.host {
            EndpointHost::Name(name) => resolved
                .names
                .get(name)
                .is_some_and(|known| known.contains(&address)),
            EndpointHost::Net(_) => false,
        })
        .or_else(|| on_port().next())
        .map_or_else(
            || EndpointHost::Net(address.into()),
            |endpoint| endpoint.host.clone(),
        )
}

fn source_name(credential: Option<&CredentialSource>) -> String {
    let name = match credential.map(|credential| &credential.password) {
        Some(SourceSpec::File(_)) => "file",
        Some(SourceSpec::Env(_)) => "env",
        Some(SourceSpec::Systemd(_)) => "systemd",
        Some(SourceSpec::Literal(_)) | None => "none",
    };
    name.to_owned()
}
