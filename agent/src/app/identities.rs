//! Identities that are active, and what is against them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use chrono::Utc;

use crate::config::TokenPattern;
use crate::control::{ActiveIdentity, IdentitySession, Response};
use crate::engine;
use crate::identity::{Revocation, Which};
use crate::model::WorkloadName;
use crate::policy::PolicySet;

use super::accept::Reception;

/// What the policies deny, each for its workload.
pub(super) fn denied(set: &PolicySet) -> Vec<(WorkloadName, TokenPattern)> {
    let policies = set.policies().iter().map(|policy| &policy.doc);
    policies
        .flat_map(|doc| {
            let workload = &doc.workload.name;
            doc.denied
                .iter()
                .map(|pattern| (workload.clone(), pattern.clone()))
        })
        .collect()
}

/// Those that have sessions, by issuer and subject.
pub(super) fn active(reception: &Reception) -> Vec<ActiveIdentity> {
    let now = SystemTime::now();
    let live: Vec<_> = reception
        .host
        .live
        .lock()
        .iter()
        .map(|(id, live)| (*id, Arc::clone(live)))
        .collect();
    let mut found: BTreeMap<_, ActiveIdentity> = BTreeMap::new();
    for (id, live) in live {
        let standing = live.life.standing();
        let Some(token) = &standing.identity.token else {
            continue;
        };
        let key = (
            token.issuer.clone(),
            token.subject.clone(),
            live.workload.clone(),
            token.expires_at,
        );
        let lapse = live.life.lapse(now);
        let identity = found.entry(key).or_insert_with(|| ActiveIdentity {
            issuer: token.issuer.clone(),
            subject: token.subject.clone(),
            key: token.key.clone(),
            claims: token.claims.clone(),
            until: standing.identity.expires_at().map(Into::into),
            lapsed: lapse.map(|lapse| engine::denial(&lapse).message.replacen("tollgate: ", "", 1)),
            workload: live.workload.clone(),
            sessions: Vec::new(),
        });
        identity.sessions.push(IdentitySession {
            id,
            service: live.service.clone(),
            started_at: live.started,
        });
    }
    found.into_values().collect()
}

/// Revokes. Blocks for the disk.
pub(super) fn revoke(
    reception: &Reception,
    which: Which,
    issuer: Option<String>,
    by: String,
    reason: String,
) -> Response {
    let revocation = Revocation {
        id: format!("{:08x}", rand::random::<u32>()),
        which,
        issuer,
        by,
        reason,
        at: Utc::now(),
    };
    match reception.revoked.revoke(revocation.clone()) {
        Ok(()) => {
            tracing::warn!(id = revocation.id, by = revocation.by, which = ?revocation.which, "identities were revoked");
            Response::Revoked { revocation }
        }
        Err(error) => Response::Refused {
            message: error.to_string(),
        },
    }
}

/// Lifts what was revoked. Blocks for the disk.
pub(super) fn lift(reception: &Reception, id: &str, by: &str) -> Response {
    match reception.revoked.lift(id) {
        Ok(()) => {
            tracing::warn!(id, by, "a revocation was lifted");
            Response::Lifted
        }
        Err(error) => Response::Refused {
            message: error.to_string(),
        },
    }
}
