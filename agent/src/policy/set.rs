//! All policies of the host, compiled together: which service a destination is, what the
//! kernel side has to protect.
//!
//! Known limit: two services of a policy whose names resolve to the same address and port cannot be told apart; the
//! first of the file is taken.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use crate::config::{EndpointHost, PolicyDoc, PolicyErrors, ServiceDoc};
use crate::model::{OriginalDst, PolicyId, ServiceName, SocketPath, WorkloadName};

use super::ServicePolicy;

/// All policies of the host, compiled. Replaced as a whole on a reload.
#[derive(Clone, Debug, Default)]
pub struct PolicySet {
    policies: Vec<Arc<WorkloadPolicy>>,
}

/// The policy of one workload, compiled.
#[derive(Debug)]
pub struct WorkloadPolicy {
    /// Its number in the kernel's maps.
    pub id: PolicyId,
    /// The file, decoded.
    pub doc: Arc<PolicyDoc>,
    /// Its services, in the order of the file.
    pub services: Vec<Arc<Service>>,
}

/// One service of a workload, compiled.
#[derive(Debug)]
pub struct Service {
    /// The service, decoded.
    pub doc: ServiceDoc,
    /// Its rules, compiled.
    pub policy: ServicePolicy,
}

/// What names and the host's own addresses are at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Addresses of each name of [`PolicySet::names`]; a name that is missing has none yet.
    pub names: BTreeMap<String, Vec<IpAddr>>,
    /// Addresses of names as the workload of a policy was told them. They say nothing to another workload.
    pub told: BTreeMap<PolicyId, BTreeMap<String, Vec<IpAddr>>>,
    /// Those of them that no nameserver which the agent believes has said.
    pub unproven: BTreeMap<PolicyId, BTreeMap<String, BTreeSet<IpAddr>>>,
    /// Networks that the host delivers to itself: the addresses of its interfaces above all. Loopback is known without
    /// them.
    pub local: BTreeSet<IpNet>,
}

/// A destination that a workload reaches through the proxy alone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protected {
    /// Whose destination.
    pub policy: PolicyId,
    /// Addresses; never a v4-mapped IPv6 network.
    pub net: IpNet,
    /// TCP port.
    pub port: u16,
    /// The service it belongs to.
    pub service: ServiceName,
}

impl PolicySet {
    /// Compiles `docs`. Of two with the same name or number, which `config` refuses, the first is taken.
    pub fn compile(docs: impl IntoIterator<Item = Arc<PolicyDoc>>) -> Self {
        let mut set = Self::default();
        for doc in docs {
            let id = PolicyId::of(&doc.workload.name);
            if set.get(id).is_none() {
                set.policies.push(Arc::new(WorkloadPolicy::compile(id, doc)));
            }
        }
        set
    }

    /// The set after a reload: a file that has errors keeps its last good policy, and the errors are handed back.
    /// A file that is gone takes its policy with it; a directory that cannot be read takes none.
    pub fn reloaded(&self, loaded: Vec<Result<PolicyDoc, PolicyErrors>>) -> (Self, Vec<PolicyErrors>) {
        let mut docs: Vec<Arc<PolicyDoc>> = Vec::new();
        let mut kept: Vec<Arc<PolicyDoc>> = Vec::new();
        let mut errors = Vec::new();
        for result in loaded {
            match result {
                Ok(doc) => docs.push(Arc::new(doc)),
                Err(error) => {
                    kept.extend(self.docs_at(error.problems().path()));
                    errors.push(error);
                }
            }
        }
        docs.append(&mut kept);
        (Self::compile(docs), errors)
    }

    /// All policies, in the order of their files.
    pub fn policies(&self) -> &[Arc<WorkloadPolicy>] {
        &self.policies
    }

    /// The policy of a number.
    pub fn get(&self, id: PolicyId) -> Option<&Arc<WorkloadPolicy>> {
        self.policies.iter().find(|policy| policy.id == id)
    }

    /// The policy of a workload.
    pub fn by_name(&self, name: &WorkloadName) -> Option<&Arc<WorkloadPolicy>> {
        self.policies
            .iter()
            .find(|policy| policy.doc.workload.name == *name)
    }

    /// The service of `policy` that a destination belongs to: the narrowest of the networks and resolved names that it
    /// is in. A loopback address, or one of the host's own, is also found under any other address of the host.
    pub fn service(&self, policy: PolicyId, dst: OriginalDst, resolved: &Resolved) -> Option<&Arc<Service>> {
        let policy = self.get(policy)?;
        let (address, port) = (dst.0.ip().to_canonical(), dst.0.port());
        let narrowest = |address: &dyn Fn(&IpNet) -> bool| {
            let mut found: Option<(u8, &Arc<Service>)> = None;
            for service in &policy.services {
                for net in service.nets(policy.id, port, resolved) {
                    if address(&net) && found.is_none_or(|(narrow, _)| relative_prefix(&net) > narrow) {
                        found = Some((relative_prefix(&net), service));
                    }
                }
            }
            found.map(|(_, service)| service)
        };
        narrowest(&|net| net.contains(&address)).or_else(|| {
            if !resolved.is_local(address) {
                return None;
            }
            narrowest(&|net| resolved.has_local(net))
        })
    }

    /// The service of `policy` that a unix socket belongs to: the first of the file that has it.
    pub fn service_of_socket(&self, policy: PolicyId, path: &SocketPath) -> Option<&Arc<Service>> {
        let mut services = self.get(policy)?.services.iter();
        services.find(|service| service.doc.unix.contains(path))
    }

    /// Every name of an address in any policy, lower case: what the agent has to resolve.
    pub fn names(&self) -> BTreeSet<&str> {
        self.policies
            .iter()
            .flat_map(|policy| &policy.services)
            .flat_map(|service| &service.doc.addresses)
            .filter_map(|endpoint| match &endpoint.host {
                EndpointHost::Name(name) => Some(name.as_str()),
                EndpointHost::Net(_) => None,
            })
            .collect()
    }

    /// Every destination that the kernel side has to protect, sorted, each once. An address of the host itself stands
    /// for all of them: 127.0.0.0/8, 0.0.0.0/8, `::1`, `::` and those of its interfaces.
    pub fn protected(&self, resolved: &Resolved) -> Vec<Protected> {
        let mut protected = BTreeMap::new();
        for policy in &self.policies {
            let mut local_ports: Vec<(u16, ServiceName)> = Vec::new();
            for service in &policy.services {
                for endpoint in &service.doc.addresses {
                    for net in endpoint_nets(policy.id, &endpoint.host, resolved) {
                        if resolved.has_local(&net) {
                            local_ports.push((endpoint.port, service.doc.name.clone()));
                        }
                        protected
                            .entry((policy.id, net, endpoint.port))
                            .or_insert_with(|| service.doc.name.clone());
                    }
                }
            }
            for (port, service) in local_ports {
                for net in resolved.local_nets() {
                    protected
                        .entry((policy.id, net, port))
                        .or_insert_with(|| service.clone());
                }
            }
        }
        protected
            .into_iter()
            .map(|((policy, net, port), service)| Protected {
                policy,
                net,
                port,
                service,
            })
            .collect()
    }

    fn docs_at(&self, path: &Path) -> Vec<Arc<PolicyDoc>> {
        self.policies
            .iter()
            .map(|policy| &policy.doc)
            .filter(|doc| doc.path == path || doc.path.parent() == Some(path))
            .cloned()
            .collect()
    }
}

impl WorkloadPolicy {
    fn compile(id: PolicyId, doc: Arc<PolicyDoc>) -> Self {
        let services = doc
            .services
            .iter()
            .map(|service| {
                Arc::new(Service {
                    policy: ServicePolicy::compile(service).of_file(&doc.path),
                    doc: service.clone(),
                })
            })
            .collect();
        Self { id, doc, services }
    }
}

impl Service {
    /// Networks of the service on `port`.
    fn nets(&self, policy: PolicyId, port: u16, resolved: &Resolved) -> impl Iterator<Item = IpNet> {
        self.doc
            .addresses
            .iter()
            .filter(move |endpoint| endpoint.port == port)
            .flat_map(move |endpoint| endpoint_nets(policy, &endpoint.host, resolved))
    }
}

impl Resolved {
    /// Names that stand for `address`.
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        let address = address.to_canonical();
        let known = self.names.iter();
        known
            .filter(|(_, addresses)| addresses.iter().any(|known| known.to_canonical() == address))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The addresses of a name for a workload: those that the agent knows, and those that the workload was told.
    pub fn addresses(&self, policy: PolicyId, name: &str) -> impl Iterator<Item = IpAddr> {
        let told = self.told.get(&policy).and_then(|told| told.get(name));
        let known = self.names.get(name).into_iter().flatten();
        known.chain(told.into_iter().flatten()).copied()
    }

    /// Whether nobody but a nameserver that the agent does not believe says that a name has this address.
    pub fn is_unproven(&self, policy: PolicyId, name: &str, address: IpAddr) -> bool {
        let known = self.names.get(name).is_some_and(|known| known.contains(&address));
        let unproven = self.unproven.get(&policy).and_then(|names| names.get(name));
        !known && unproven.is_some_and(|addresses| addresses.contains(&address))
    }

    /// Whether a packet to `address` stays on the host.
    fn is_local(&self, address: IpAddr) -> bool {
        self.local_nets().any(|net| net.contains(&address))
    }

    fn has_local(&self, net: &IpNet) -> bool {
        self.local_nets()
            .any(|local| net.contains(&local.addr()) || local.contains(&net.addr()))
    }

    /// Linux takes 0.0.0.0 and `::` for loopback when it connects.
    fn local_nets(&self) -> impl Iterator<Item = IpNet> {
        let v4 = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(127, 0, 0, 0)]
            .into_iter()
            .filter_map(|address| Ipv4Net::new(address, 8).ok())
            .map(IpNet::V4);
        let v6 = [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST]
            .into_iter()
            .map(|address| IpNet::from(IpAddr::V6(address)));
        v4.chain(v6).chain(self.local.iter().copied())
    }
}

fn endpoint_nets(policy: PolicyId, host: &EndpointHost, resolved: &Resolved) -> Vec<IpNet> {
    match host {
        EndpointHost::Net(net) => vec![*net],
        EndpointHost::Name(name) => resolved
            .addresses(policy, name)
            .map(|address| IpNet::from(address.to_canonical()))
            .collect(),
    }
}

/// How narrow a network is, the same scale for both families: bits that are left open, counted from the end.
fn relative_prefix(net: &IpNet) -> u8 {
    u8::MAX - (net.max_prefix_len() - net.prefix_len())
}
