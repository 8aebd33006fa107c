//! From an accepted flow to a session: which service, who asks.

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::IdentitySpec;
use crate::engine::{self, Host};
use crate::flow::Flow;
use crate::identity::{FlowFacts, Identity, IdentityError, TokenVerifier, identify};
use crate::kernel::Kernel;
use crate::policy::{Denied, Resolved};

use super::policies::Policies;

/// What every flow is looked at with.
pub(super) struct Reception {
    pub(super) kernel: Arc<Kernel>,
    pub(super) policies: Arc<Policies>,
    pub(super) resolved: watch::Receiver<Resolved>,
    pub(super) verifier: TokenVerifier,
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
        let Some((service, endpoint)) = found else {
            // A name that resolved differently a moment ago. Closed: nothing is known of where it wanted to go.
            tracing::warn!(%policy, original = %flow.original, "a flow to a destination that no service has any more was closed");
            return;
        };
        let Some(cgroup_path) = self.kernel.cgroup2().path_of(flow.origin.cgroup) else {
            tracing::warn!(%policy, cgroup = %flow.origin.cgroup, "a flow from a cgroup that is gone was closed");
            return;
        };
        let facts = FlowFacts {
            cgroup: flow.origin.cgroup,
            cgroup_path,
            pid: flow.origin.tgid,
            uid: flow.origin.uid,
            connected_at_boottime_ns: u64::try_from(flow.origin.since_boot.as_nanos()).unwrap_or(u64::MAX),
        };
        let spec = catalogue
            .set
            .get(policy)
            .and_then(|policy| policy.doc.identity.clone());
        let identity = match self.identify(&facts, spec.as_ref()).await {
            Ok(identity) => identity,
            Err(error) => {
                tracing::error!(%error, "a flow could not be identified and was closed");
                return;
            }
        };
        let flow = engine::Flow {
            stream: flow.stream,
            client: flow.client,
            original: flow.original,
            netns: flow.netns,
            endpoint,
        };
        Box::pin(engine::run(&self.host, &service, flow, identity)).await;
    }

    /// Who asks. The inner error is an identity that the policy does not accept: that is told to the client.
    async fn identify(
        &self,
        facts: &FlowFacts,
        spec: Option<&IdentitySpec>,
    ) -> Result<Result<Identity, (Identity, Denied)>, IdentityError> {
        match identify(facts, spec, &self.verifier).await {
            Ok(identity) => Ok(Ok(identity)),
            Err(error) => {
                let denied = Denied {
                    rules: Vec::new(),
                    message: format!("tollgate: this job is not identified: {error}"),
                    hint: "the policy asks for an OIDC token under [identity.oidc]; see docs/policy-reference.md".to_owned(),
                };
                // Who it is besides its token still belongs in the record.
                let identity = identify(facts, None, &self.verifier).await?;
                Ok(Err((identity, denied)))
            }
        }
    }
}
