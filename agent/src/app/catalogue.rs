//! Every service of every policy, with what its sessions need ready: secrets, masks, TLS.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::config::{EndpointHost, PolicyDoc, Protocol};
use crate::credential::{CredentialError, Credentials};
use crate::engine::{Service, Term};
use crate::mask::Masks;
use crate::model::{OriginalDst, Place, PolicyId, ServiceName};
use crate::policy::{self, PolicySet, Resolved, WorkloadPolicy};
use crate::tls::{TlsError, Upstream};

use super::state::Kept;

/// All services, by policy and name.
pub(super) struct Catalogue {
    pub(super) set: PolicySet,
    services: HashMap<(PolicyId, ServiceName), Arc<Service>>,
}

type Entry = ((PolicyId, ServiceName), Arc<Service>);

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
    /// Makes every service of every policy ready.
    ///
    /// A service that `before` has with the same meaning goes on: its sessions are not touched by a reload.
    pub(super) async fn new(
        set: PolicySet,
        kept: &Kept,
        before: Option<&Catalogue>,
    ) -> Result<Self, ServiceError> {
        let mut catalogue = Self {
            set,
            services: HashMap::new(),
        };
        for policy in catalogue.set.policies() {
            let ready = prepare(policy, kept, before).await?;
            catalogue.services.extend(ready);
        }
        Ok(catalogue)
    }

    /// As [`Self::new`], for a reload: a policy that cannot be used, or for which `unmet` has a reason, is left as it was in
    /// `before`, and the reason handed back.
    pub(super) async fn usable(
        set: &PolicySet,
        kept: &Kept,
        before: &Catalogue,
        unmet: impl Fn(&PolicyDoc) -> Option<String>,
    ) -> (Self, Vec<String>) {
        let mut faults = Vec::new();
        let mut docs = Vec::new();
        let mut services = HashMap::new();
        for policy in set.policies() {
            let ready = match unmet(&policy.doc) {
                Some(reason) => Err(reason),
                None => prepare(policy, kept, Some(before))
                    .await
                    .map_err(|error| format!("{}: {error}", policy.doc.path.display())),
            };
            match ready {
                Ok(ready) => {
                    docs.push(Arc::clone(&policy.doc));
                    services.extend(ready);
                }
                Err(reason) => {
                    faults.push(reason);
                    docs.extend(before.set.get(policy.id).map(|before| Arc::clone(&before.doc)));
                    services.extend(
                        before
                            .services
                            .iter()
                            .filter(|((id, _), _)| *id == policy.id)
                            .map(|(key, service)| (key.clone(), Arc::clone(service))),
                    );
                }
            }
        }
        let set = PolicySet::compile(docs);
        (Self { set, services }, faults)
    }

    /// Ends the terms of services that `next` does not have with the same meaning, and gives their names with those of
    /// their workloads.
    pub(super) fn end_what_is_not_in(&self, next: &Catalogue) -> Vec<String> {
        let mut ended = Vec::new();
        for (key, service) in &self.services {
            let goes_on = next
                .services
                .get(key)
                .is_some_and(|next| next.term.is(&service.term));
            if !goes_on {
                service.term.end();
                ended.push(format!("{}/{}", service.workload, service.name));
            }
        }
        ended.sort();
        ended
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
        Some((Arc::clone(ready), endpoint(policy, found, dst, resolved)))
    }

    /// The service that a flow goes to, whatever it came over. A unix socket has no endpoint of its own: it is this host.
    pub(super) fn service_at(
        &self,
        policy: PolicyId,
        place: &Place,
        resolved: &Resolved,
    ) -> Option<(Arc<Service>, EndpointHost)> {
        match place {
            Place::Network(address) => self.service(policy, OriginalDst(*address), resolved),
            Place::Unix(path) => {
                let found = self.set.service_of_socket(policy, path)?;
                let ready = self.services.get(&(policy, found.doc.name.clone()))?;
                let here = EndpointHost::Net(IpAddr::from(Ipv4Addr::LOCALHOST).into());
                Some((Arc::clone(ready), here))
            }
        }
    }

    /// Whether a session of `service` under `policy` would be the same as one under the policies here: what else stands in
    /// the file, and how it is written, does not matter.
    fn means_the_same(&self, policy: &WorkloadPolicy, service: &policy::Service) -> bool {
        let Some(here) = self.set.get(policy.id) else {
            return false;
        };
        here.doc.workload.name == policy.doc.workload.name
            && here.doc.workload.mode == policy.doc.workload.mode
            && here.doc.identity == policy.doc.identity
            && here.doc.workload.environment == policy.doc.workload.environment
            && here.services.iter().any(|here| here.doc == service.doc)
    }

    /// Whether any service speaks a protocol that is not understood.
    pub(super) fn opaque(&self) -> impl Iterator<Item = &Service> {
        self.services
            .values()
            .map(|service| &**service)
            .filter(|service| service.protocol == Protocol::Opaque)
    }
}

/// Makes the services of one policy ready, and sees whether every secret can be read now: told here, not in the night
/// when a job needs it.
async fn prepare(
    policy: &WorkloadPolicy,
    kept: &Kept,
    before: Option<&Catalogue>,
) -> Result<Vec<Entry>, ServiceError> {
    let mut ready = Vec::new();
    for service in &policy.services {
        let doc = &service.doc;
        let name = doc.name.clone();
        let failed = |source| ServiceError::Credential {
            service: name.clone(),
            source,
        };
        let credentials = doc
            .credential
            .as_ref()
            .map(|credential| Credentials::open(credential, &doc.tls, &kept.tokens))
            .transpose()
            .map_err(failed)?;
        if let Some(credentials) = &credentials {
            credentials.check().await.map_err(failed)?;
        }
        let upstream = Upstream::from_spec(&doc.tls).map_err(|source| ServiceError::Tls {
            service: name.clone(),
            source,
        })?;
        let key = (policy.id, name.clone());
        let term = before
            .filter(|before| before.means_the_same(policy, service))
            .and_then(|before| before.services.get(&key))
            .map_or_else(Term::new, |before| before.term.clone());
        let service = Service {
            policy: policy.id,
            workload: policy.doc.workload.name.clone(),
            name,
            protocol: doc.protocol,
            mode: policy.doc.workload.mode,
            policy_hash: policy.doc.hash.clone(),
            rules: Arc::clone(service),
            masks: Arc::new(Masks::compile(&doc.masks, kept.mask_key).passing(&doc.unmasked)),
            credentials: credentials.map(Arc::new),
            findings: policy.doc.findings.clone(),
            limits: doc.limits,
            upstream: Arc::new(upstream),
            term,
        };
        ready.push((key, Arc::new(service)));
    }
    Ok(ready)
}

/// The endpoint by which a destination was found: a name that resolves to it before a network that has it, since a name
/// is what certificates are issued for.
fn endpoint(
    policy: PolicyId,
    service: &crate::policy::Service,
    dst: OriginalDst,
    resolved: &Resolved,
) -> EndpointHost {
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
                .addresses(policy, name)
                .any(|known| known.to_canonical() == address),
            EndpointHost::Net(_) => false,
        })
        .or_else(|| on_port().next())
        .map_or_else(
            || EndpointHost::Net(address.into()),
            |endpoint| endpoint.host.clone(),
        )
}
