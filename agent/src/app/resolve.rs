//! Names of policies to addresses, followed as they change.
//!
//! Asks as the host itself does (`getaddrinfo`: hosts file, resolver, search list), which is what the workloads of this
//! host are told as well. Does not see what a workload with a resolver of its own is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::policies::Policies;
use super::protection::Protection;

/// Addresses of each name.
pub(super) type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for every name once.
///
/// A name that cannot be resolved keeps the addresses of `before`: a resolver that is down for a moment must not
/// unprotect a destination. An address that goes away stays protected until the name has another one.
pub(super) async fn resolve(names: &BTreeSet<String>, before: &Addresses) -> Addresses {
    let answers = names.iter().map(async |name| {
        let answer = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name.as_str(), 0))).await;
        let mut found: Vec<IpAddr> = match answer {
            Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        if found.is_empty() {
            let known = before.get(name).cloned().unwrap_or_default();
            tracing::warn!(
                name,
                kept = known.len(),
                "a policy's name does not resolve; its known addresses stay protected"
            );
            found = known;
        }
        found.sort_unstable();
        found.dedup();
        (name.clone(), found)
    });
    // All at once: one resolver that does not answer must not cost its patience for each name.
    futures_util::future::join_all(answers)
        .await
        .into_iter()
        .collect()
}

/// Whether the host itself is told that `name` has `address`, when it asks now.
pub(super) async fn has_address(name: &str, address: IpAddr) -> bool {
    let answer = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((name, 0))).await;
    match answer {
        Ok(Ok(mut found)) => found.any(|found| found.ip().to_canonical() == address),
        Ok(Err(_)) | Err(_) => false,
    }
}

/// Asks again every `interval` for as long as the agent runs, for the names of the policies that count then.
pub(super) async fn follow(protection: Arc<Protection>, policies: Arc<Policies>, interval: Duration) {
    let mut tick = tokio::time::interval(interval);
    tick.tick().await;
    loop {
        tick.tick().await;
        let names = policies
            .current()
            .set
            .names()
            .into_iter()
            .map(str::to_owned)
            .collect();
        protection.learn(resolve(&names, &protection.names()).await);
    }
}

#[cfg(test)]
mod tests {
    use super::{Addresses, resolve};

    #[tokio::test]
    async fn a_name_that_stops_resolving_stays_protected() {
        let name = "no-such-host.invalid".to_owned();
        let before = Addresses::from([(name.clone(), vec!["192.0.2.1".parse().unwrap()])]);
        let now = resolve(&[name.clone()].into(), &before).await;
        assert_eq!(now, before);
    }
}
