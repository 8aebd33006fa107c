//! What goes on beside a session that has a token: a newer token is picked up, and a revocation acts.

use std::time::{Duration, SystemTime};

use tokio::time::sleep;

use super::life::{Life, Standing};
use super::revoked::Revoked;
use super::{FlowFacts, Identity, Tokens, validated_token};
use crate::config::IdentitySpec;
use crate::model::WorkloadName;

/// Keeps `life` as it should be, until it is revoked. Meant to be dropped with its session.
///
/// The job's token is read again some time before it ends, and then every few seconds: a newer one of the same issuer and
/// subject takes its place. So a token that comes late still does, for the commands after it.
pub async fn keep(
    life: &Life,
    workload: &WorkloadName,
    facts: &FlowFacts,
    spec: &IdentitySpec,
    tokens: &Tokens,
    revoked: &Revoked,
) {
    let mut lists = revoked.watch();
    loop {
        let standing = life.standing();
        let against = lists.borrow_and_update().against(workload, &standing.identity);
        if let Some(why) = against {
            return life.revoke(&why);
        }
        let due = async {
            match standing.time_left(SystemTime::now()) {
                Some(left) => sleep(pause(left)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = lists.changed() => if changed.is_err() {
                // The agent stops, and its sessions with it.
                return;
            },
            () = due => {
                if let Some(newer) = newer(&standing, facts, spec, tokens).await {
                    life.renew(newer);
                }
            }
        }
    }
}

/// The identity with the job's present token, where that is a newer one.
async fn newer(
    standing: &Standing,
    facts: &FlowFacts,
    spec: &IdentitySpec,
    tokens: &Tokens,
) -> Option<Identity> {
    let now = &standing.identity;
    let before = now.token.as_ref()?;
    let token = match validated_token(facts, &now.cgroup, spec, tokens).await {
        Ok(token) => token,
        Err(error) => {
            tracing::debug!(pid = facts.pid, %error, "no newer token of a job could be had");
            return None;
        }
    };
    let same = token.subject == before.subject && token.issuer == before.issuer;
    (same && token.expires_at > before.expires_at).then(|| Identity {
        token: Some(token),
        ..Identity::clone(now)
    })
}

/// How long to wait with the next look at the token, when `left` of its time is left: a tenth of the time before its end,
/// within bounds, and then every few seconds.
fn pause(left: Duration) -> Duration {
    let early = (left / 10).clamp(EARLIEST.min(left), LATEST);
    left.saturating_sub(early).clamp(BETWEEN, LONGEST)
}

/// Shortest time before a token's end at which its successor is looked for.
const EARLIEST: Duration = Duration::from_secs(10);
/// Longest.
const LATEST: Duration = Duration::from_mins(1);
/// Time between two looks.
const BETWEEN: Duration = Duration::from_secs(2);
/// A wall clock may be set, and a token may be replaced before its time.
const LONGEST: Duration = Duration::from_mins(5);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::pause;

    #[test]
    fn a_newer_token_is_looked_for_before_the_end_and_then_often() {
        for (left, expected) in [
            (86_400, 300),
            (3600, 300),
            (350, 300),
            (300, 270),
            (60, 50),
            (15, 5),
            (11, 2),
            (5, 2),
            (0, 2),
        ] {
            assert_eq!(
                pause(Duration::from_secs(left)),
                Duration::from_secs(expected),
                "{left}"
            );
        }
    }
}
