//! From an accepted flow to a session: which service, who asks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{EndpointHost, IdentitySpec, LabelRule, Proof, TlsMode};
use crate::dns::Dns;
use crate::engine::{self, Host};
use crate::flow::Flow;
use crate::identity::{
    FlowFacts, Identity, IdentityError, Lapse, Life, Revoked, SaysEngine, Tokens, identify, keep,
};
use crate::kernel::{Kernel, ManagedCgroups};
use crate::model::{CgroupId, CgroupPath, Place, PolicyId, WorkloadName};
use crate::policy::{Denied, Resolved};

use super::catalogue::Catalogue;
use super::findings;
use super::known_containers::KnownContainers;
use super::names::Known;
use super::policies::Policies;
use super::resolve;

/// Port of DNS (RFC 1035).
const DNS_PORT: u16 = 53;

/// What every flow is looked at with.
pub(super) struct Reception {
    pub(super) kernel: Arc<Kernel>,
    pub(super) policies: Arc<Policies>,
    pub(super) resolved: watch::Receiver<Resolved>,
    pub(super) dns: Arc<Dns<Known>>,
    pub(super) tokens: Tokens,
    pub(super) revoked: Revoked,
    pub(super) managed: watch::Receiver<ManagedCgroups>,
    pub(super) containers: Arc<KnownContainers>,
    pub(super) host: Host,
}

impl Reception {
    /// Runs one flow to its end.
    pub(super) async fn receive(&self, flow: Flow) {
        let policy = flow.origin.policy;
        let catalogue = self.policies.current();
        let found = {
            let resolved = self.resolved.borrow();
            catalogue.service_at(policy, &flow.original, &resolved)
        };
        if found.is_none()
            && let Place::Network(nameserver) = flow.original
            && nameserver.port() == DNS_PORT
        {
            return self.dns.converse(flow, nameserver).await;
        }
        let Some((service, endpoint)) = found else {
            // A name that resolved differently a moment ago. Closed: nothing is known of where it wanted to go.
            tracing::warn!(%policy, original = %flow.original, "a flow to a destination that no service has any more was closed");
            return;
        };
        let Some(cgroup_path) = self.kernel.cgroup2().path_of(flow.origin.cgroup) else {
            tracing::warn!(%policy, cgroup = %flow.origin.cgroup, "a flow from a cgroup that is gone was closed");
            return;
        };
        let environment = catalogue
            .set
            .get(policy)
            .map(|policy| policy.doc.workload.environment.clone())
            .unwrap_or_default();
        let (job, selected_by) = self.job(policy, flow.origin.cgroup, &cgroup_path);
        let facts = FlowFacts {
            cgroup: flow.origin.cgroup,
            says_engine: self.says_engine(&catalogue, policy, job.0, &cgroup_path).await,
            selected_by,
            variables: environment.iter().map(|rule| rule.name.clone()).collect(),
            cgroup_path,
            pid: flow.origin.tgid,
            uid: flow.origin.uid,
            connected_at_boottime_ns: u64::try_from(flow.origin.since_boot.as_nanos()).unwrap_or(u64::MAX),
        };
        let spec = catalogue
            .set
            .get(policy)
            .and_then(|policy| policy.doc.identity.clone());
        let (identity, refused) = match self.identify(&service.workload, &facts, spec.as_ref()).await {
            Ok(identified) => identified,
            Err(error) => {
                tracing::error!(%error, "a flow could not be identified and was closed");
                return;
            }
        };
        let refused = refused.or_else(|| unclaimed(&environment, &identity));
        let sightings = match catalogue.set.get(policy) {
            Some(policy) => findings::look_at(&policy.doc, &facts).await,
            None => Vec::new(),
        };
        let refused = match refused {
            Some(denied) => Some(denied),
            None => self.unproven(&service, &endpoint, &flow.original).await,
        };
        let flow = engine::Flow {
            stream: flow.stream,
            client: flow.client,
            original: flow.original,
            netns: flow.netns,
            endpoint,
            job,
            sightings,
        };
        let life = Life::new(identity);
        let session = Box::pin(engine::run(&self.host, &service, flow, life.clone(), refused));
        let Some(spec) = spec else {
            return session.await;
        };
        let keep = keep(
            &life,
            &service.workload,
            &facts,
            &spec,
            &self.tokens,
            &self.revoked,
        );
        tokio::select! {
            () = session => {}
            // It has done what it can; the session ends by what it did.
            () = async { keep.await; std::future::pending().await } => {}
        }
    }

    /// The outermost cgroup under the policy that the process is in: the job, whose steps may have cgroups of their own. And the
    /// selector that it was found by.
    fn job(
        &self,
        policy: PolicyId,
        id: CgroupId,
        path: &CgroupPath,
    ) -> ((CgroupId, CgroupPath), Option<Arc<str>>) {
        let managed = self.managed.borrow();
        let holds = |outer: &CgroupPath| {
            let rest = path.as_str().strip_prefix(outer.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        managed
            .iter()
            .filter(|(_, cgroup)| cgroup.policy == policy && holds(&cgroup.path))
            .min_by_key(|(_, cgroup)| cgroup.path.as_str().len())
            .map_or_else(
                || ((id, path.clone()), None),
                |(id, cgroup)| ((*id, cgroup.path.clone()), Some(Arc::clone(&cgroup.by))),
            )
    }

    /// What its engine says of the container that a process is in, as far as the record gets it.
    async fn says_engine(
        &self,
        catalogue: &Catalogue,
        policy: PolicyId,
        job: CgroupId,
        cgroup: &CgroupPath,
    ) -> Option<SaysEngine> {
        let container = self.containers.of_flow(job, cgroup).await?;
        let spec = catalogue
            .set
            .get(policy)
            .and_then(|policy| policy.doc.workload.container.as_ref());
        Some(SaysEngine::of(&container, |label| {
            spec.is_some_and(|spec| spec.labels.iter().any(|rule| rule.name == label))
        }))
    }

    /// Why a session must not log in: nobody whom the agent believes says that the name it goes by has this address, and
    /// no certificate would tell. A workload can have a nameserver of its own say anything.
    async fn unproven(
        &self,
        service: &engine::Service,
        endpoint: &EndpointHost,
        original: &Place,
    ) -> Option<Denied> {
        let (EndpointHost::Name(name), Place::Network(address)) = (endpoint, original) else {
            return None;
        };
        let address = address.ip().to_canonical();
        let verified = service.rules.doc.tls.upstream == TlsMode::VerifyFull;
        if verified
            || service.credentials.is_none()
            || !self.resolved.borrow().is_unproven(service.policy, name, address)
        {
            return None;
        }
        if resolve::has_address(name, address).await {
            return None;
        }
        tracing::warn!(%name, %address, workload = %service.workload, service = %service.name, "a nameserver that the agent does not believe gave a name this address");
        Some(Denied {
            rules: Vec::new(),
            message: format!(
                "tollgate: {address} is not known to be {name}, and this service's certificate is not verified"
            ),
            hint: format!(
                "a nameserver that this host is not configured with said so; name it under `resolvers` in [dns] of the policy, \
                 have the host resolve {name} to it, or set tls.upstream = \"verify-full\""
            ),
        })
    }

    /// Who asks, and why the policy does not accept that, which is told to the client.
    async fn identify(
        &self,
        workload: &WorkloadName,
        facts: &FlowFacts,
        spec: Option<&IdentitySpec>,
    ) -> Result<(Identity, Option<Denied>), IdentityError> {
        match identify(facts, spec, &self.tokens).await {
            Ok(identity) => {
                let against = self.revoked.against(workload, &identity);
                let denied = against.map(|by| engine::denial(&Lapse::Revoked { by: by.into() }));
                Ok((identity, denied))
            }
            Err(error) => {
                let asked_for = match spec.map(|spec| &spec.proof) {
                    Some(Proof::Saml(_)) => "a SAML assertion under [identity.saml]",
                    Some(Proof::Oidc) | None => "an OIDC token under [identity.oidc]",
                };
                let denied = Denied {
                    rules: Vec::new(),
                    message: format!("tollgate: this job is not identified: {error}"),
                    hint: format!("the policy asks for {asked_for}; see docs/policy-reference.md"),
                };
                // Who it is besides its token still belongs in the record.
                let identity = identify(facts, None, &self.tokens).await?;
                Ok((identity, Some(denied)))
            }
        }
    }
}

/// Why a job is not one of those that the policy is for, by what it says of itself.
fn unclaimed(environment: &[LabelRule], identity: &Identity) -> Option<Denied> {
    let other = environment.iter().find(|rule| {
        !identity
            .claim(&rule.name)
            .is_some_and(|value| rule.matches(value))
    })?;
    let has = match identity.claim(&other.name) {
        Some(value) => format!("has {value:?} in {}", other.name),
        None => format!("has no {} in its environment that could be read", other.name),
    };
    Some(Denied {
        rules: Vec::new(),
        message: format!(
            "tollgate: this job {has}, and the policy is for {}",
            other.values()
        ),
        hint: "the policy asks for it under `environment` in [workload]".to_owned(),
    })
}
