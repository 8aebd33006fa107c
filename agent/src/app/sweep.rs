//! Servers of other hosts' agents: what these left there is found and dropped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{CredentialKind, EndpointHost, SweepDoc};
use crate::control::{Response, Sweep, SweepReport, SweptRole, SweptState};
use crate::credential::on_server::{FoundRole, Sweeper, host_id};
use crate::model::Place;
use crate::policy::Resolved;

use super::accept::Reception;
use super::leases::refused;

/// Looks on the server of a service for what agents have made, and drops what one host has left.
pub(super) async fn sweep(reception: &Reception, sweep: Sweep) -> Response {
    let (name, sweepers) = match find(reception, &sweep) {
        Ok(found) => found,
        Err(message) => return refused(message),
    };
    let held = || reception.host.leases.names();
    match sweep_any(name, sweepers, &sweep, held).await {
        Ok(report) => Response::Swept { report },
        Err(message) => refused(message),
    }
}

/// The same without an agent, for a service that a file names; `held`: what this host's agent has, if one runs. Names of
/// servers are resolved as this host resolves them.
///
/// # Errors
/// A sentence: nothing is to be swept there, or no server answers.
pub async fn sweep_from_here(
    service: &SweepDoc,
    sweep: &Sweep,
    held: &[String],
) -> Result<SweepReport, String> {
    let mut places = Vec::new();
    for endpoint in &service.addresses {
        let addresses = match &endpoint.host {
            EndpointHost::Name(name) => tokio::net::lookup_host((name.as_str(), endpoint.port))
                .await
                .map_err(|error| format!("the name {name} cannot be resolved ({})", error.kind()))?
                .collect(),
            EndpointHost::Net(_) => single(&endpoint.host)
                .map(|address| vec![SocketAddr::from((address, endpoint.port))])
                .unwrap_or_default(),
        };
        places.extend(
            addresses
                .into_iter()
                .map(|address| (endpoint.host.clone(), address)),
        );
    }
    let sweepers = sweepers(service, places);
    sweep_any(service.name.to_string(), sweepers, sweep, || held.to_vec()).await
}

/// Sweeps the first server that answers.
async fn sweep_any(
    name: String,
    sweepers: Vec<(Place, Sweeper)>,
    sweep: &Sweep,
    held: impl Fn() -> Vec<String>,
) -> Result<SweepReport, String> {
    let mut last = "it makes nothing on a server, or no address of it is known".to_owned();
    for (server, sweeper) in sweepers {
        match sweeper.find().await {
            Ok(found) => {
                let held = held();
                let mut roles = Vec::new();
                for found in found {
                    roles.push(sweep_one(&sweeper, sweep, &held, found).await);
                }
                return Ok(SweepReport {
                    service: name,
                    server: server.to_string(),
                    this_host: host_id().to_owned(),
                    roles,
                });
            }
            Err(error) => last = format!("{server}: {error}"),
        }
    }
    Err(format!("no server of {name} can be swept: {last}"))
}

/// A sweeper for each address and each socket of a service.
fn sweepers(service: &SweepDoc, places: Vec<(EndpointHost, SocketAddr)>) -> Vec<(Place, Sweeper)> {
    let here = EndpointHost::Net(IpAddr::from(Ipv4Addr::LOCALHOST).into());
    let network = places
        .into_iter()
        .map(|(host, address)| (host, Place::Network(address)));
    let unix = service
        .unix
        .iter()
        .map(|path| (here.clone(), Place::Unix(path.clone())));
    network
        .chain(unix)
        .filter_map(|(host, place)| {
            let sweeper = Sweeper::new(
                &service.kind,
                service.name.clone(),
                &service.tls,
                host,
                place.clone(),
            );
            Some((place, sweeper?))
        })
        .collect()
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
            let Some(kind @ (CredentialKind::PostgresRole(_) | CredentialKind::MysqlUser(_))) = kind else {
                continue;
            };
            if doc.name != sweep.service {
                continue;
            }
            let service = SweepDoc {
                name: doc.name.clone(),
                addresses: doc.addresses.clone(),
                unix: doc.unix.clone(),
                tls: doc.tls.clone(),
                kind: kind.clone(),
            };
            let places = service.addresses.iter().flat_map(|endpoint| {
                let addresses = addresses(&endpoint.host, policy.id, &resolved);
                let places = addresses
                    .into_iter()
                    .map(|address| (address, endpoint.port).into());
                places.map(|address| (endpoint.host.clone(), address))
            });
            let sweepers = sweepers(&service, places.collect());
            found.push((format!("{workload}/{}", doc.name), sweepers));
        }
    }
    match found.len() {
        0 => Err(format!(
            "no policy of this host has a service {} with source = \"postgres-role\" or \"mysql-user\"",
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
fn addresses(host: &EndpointHost, policy: crate::model::PolicyId, resolved: &Resolved) -> Vec<IpAddr> {
    match host {
        EndpointHost::Name(name) => resolved.addresses(policy, name).collect(),
        EndpointHost::Net(_) => single(host).into_iter().collect(),
    }
}

fn single(host: &EndpointHost) -> Option<IpAddr> {
    match host {
        EndpointHost::Net(net) if net.prefix_len() == net.max_prefix_len() => Some(net.addr()),
        EndpointHost::Net(_) | EndpointHost::Name(_) => None,
    }
}
