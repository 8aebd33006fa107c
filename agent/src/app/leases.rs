//! Leases as the whole agent sees them: of jobs that are gone, on request, and on servers of other hosts' agents.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{CredentialKind, EndpointHost};
use crate::control::{Response, Sweep, SweepReport, SweptRole, SweptState};
use crate::credential::postgres_role::{FoundRole, Sweeper, host_id};
use crate::credential::{LeaseEnd, LeaseId, Leases};
use crate::model::Place;
use crate::policy::Resolved;

use super::accept::Reception;
use super::start::{StartError, host};
use super::state::StateDir;

/// How long whoever asks for a lease to be void waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Opens the journal. From here on what an agent before this one left is revoked: nobody else uses the journal by now.
pub(super) fn open(state: &StateDir) -> Result<Leases, StartError> {
    let dir = state.leases();
    Leases::open(&dir).map_err(host(format!("the journal of leases in {}", dir.display())))
}

/// Voids what was made for jobs whose cgroup is gone, as cgroups go.
pub(super) async fn follow(reception: Arc<Reception>) {
    let (mut managed, kernel) = (reception.managed.clone(), &reception.kernel);
    while managed.changed().await.is_ok() {
        reception.host.leases.revoke_where("its cgroup is gone", |owner| {
            // One that was managed a moment ago and is not any more may be there still: a reload ends its sessions.
            !managed.borrow().contains_key(&owner.cgroup) && kernel.cgroup2().path_of(owner.cgroup).is_none()
        });
    }
}

/// Voids one lease, and says whether it is void.
pub(super) async fn revoke(leases: &Leases, id: LeaseId) -> Response {
    if !leases.revoke_one(&id, "an operator revoked it") {
        return refused(format!("there is no lease {id}; see `tollgate leases list`"));
    }
    tracing::info!(lease = %id, "revoked by an operator");
    match leases.ended(&id, PATIENCE).await {
        LeaseEnd::Pending(why) => refused(format!(
            "no session has it any more, but it is not void yet: {why}; the agent goes on trying"
        )),
        LeaseEnd::Nothing | LeaseEnd::Revoked | LeaseEnd::Shared => Response::LeaseRevoked,
    }
}

/// Looks on the server of a service for what agents have made, and drops what one host has left.
pub(super) async fn sweep(reception: &Reception, sweep: Sweep) -> Response {
    let (name, sweepers) = match find(reception, &sweep) {
        Ok(found) => found,
        Err(message) => return refused(message),
    };
    let mut last = "the names of its addresses are not resolved".to_owned();
    for (server, sweeper) in sweepers {
        match sweeper.find().await {
            Ok(found) => {
                let held = reception.host.leases.names();
                let mut roles = Vec::new();
                for found in found {
                    roles.push(sweep_one(&sweeper, &sweep, &held, found).await);
                }
                return Response::Swept {
                    report: SweepReport {
                        service: name,
                        server: server.to_string(),
                        this_host: host_id().to_owned(),
                        roles,
                    },
                };
            }
            Err(error) => last = format!("{server}: {error}"),
        }
    }
    refused(format!("no server of {name} can be swept: {last}"))
}

async fn sweep_one(sweeper: &Sweeper, sweep: &Sweep, held: &[String], found: FoundRole) -> SweptRole {
    let (mut state, mut error) = (SweptState::Left, None);
    if held.contains(&found.role) {
        state = SweptState::Held;
    } else if sweep.host.as_deref() == Some(&found.host) {
        if !sweep.in_use && !found.expired && found.sessions > 0 {
            state = SweptState::InUse;
        } else if let Err(why) = sweeper.drop_role(&found).await {
            state = SweptState::Failed;
            error = Some(why.to_string());
        } else {
            tracing::info!(
                role = found.role,
                host = found.host,
                "a credential that another host left was dropped"
            );
            state = SweptState::Dropped;
        }
    }
    SweptRole { found, state, error }
}

/// The service that is meant, and a sweeper for each of its addresses.
fn find(reception: &Reception, sweep: &Sweep) -> Result<(String, Vec<(Place, Sweeper)>), String> {
    let catalogue = reception.policies.current();
    let resolved = reception.resolved.borrow().clone();
    let mut found = Vec::new();
    for policy in catalogue.set.policies() {
        let workload = &policy.doc.workload.name;
        if sweep.workload.as_ref().is_some_and(|wanted| wanted != workload) {
            continue;
        }
        for service in &policy.services {
            let doc = &service.doc;
            let kind = doc.credential.as_ref().map(|credential| &credential.kind);
            let Some(CredentialKind::PostgresRole(spec)) = kind else {
                continue;
            };
            if doc.name != sweep.service {
                continue;
            }
            let mut sweepers = Vec::new();
            for endpoint in &doc.addresses {
                for address in addresses(&endpoint.host, policy.id, &resolved) {
                    let place = Place::Network((address, endpoint.port).into());
                    let host = endpoint.host.clone();
                    let sweeper = Sweeper::new(spec, doc.name.clone(), &doc.tls, host, place.clone());
                    sweepers.push((place, sweeper));
                }
            }
            for path in &doc.unix {
                let place = Place::Unix(path.clone());
                let host = EndpointHost::Net(std::net::IpAddr::from(std::net::Ipv4Addr::LOCALHOST).into());
                let sweeper = Sweeper::new(spec, doc.name.clone(), &doc.tls, host, place.clone());
                sweepers.push((place, sweeper));
            }
            found.push((format!("{workload}/{}", doc.name), sweepers));
        }
    }
    match found.len() {
        0 => Err(format!(
            "no policy of this host has a service {} with source = \"postgres-role\"",
            sweep.service
        )),
        1 => found.pop().ok_or_else(String::new),
        _ => Err(format!(
            "several policies have a service {}: name one with --workload ({})",
            sweep.service,
            found
                .iter()
                .map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        )),
    }
}

/// Single addresses of an endpoint; a network is none.
fn addresses(
    host: &EndpointHost,
    policy: crate::model::PolicyId,
    resolved: &Resolved,
) -> Vec<std::net::IpAddr> {
    match host {
        EndpointHost::Name(name) => resolved.addresses(policy, name).collect(),
        EndpointHost::Net(net) if net.prefix_len() == net.max_prefix_len() => vec![net.addr()],
        EndpointHost::Net(_) => Vec::new(),
    }
}

fn refused(message: String) -> Response {
    Response::Refused { message }
}
