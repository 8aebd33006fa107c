//! Leases as the whole agent sees them: of jobs that are gone, and on request.

use std::sync::Arc;
use std::time::Duration;

use crate::control::Response;
use crate::credential::{LeaseEnd, LeaseId, Leases};

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

pub(super) fn refused(message: String) -> Response {
    Response::Refused { message }
}
