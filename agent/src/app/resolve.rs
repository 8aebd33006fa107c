//! Names of policies to addresses, followed as they change.
//!
//! Asks as the host itself does (`getaddrinfo`: hosts file, resolver, search list), which is what the workloads of this
//! host are told as well. Does not see what a workload with a resolver of its own is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

/// Addresses of each name.
pub(super) type Addresses = BTreeMap<String, Vec<IpAddr>>;

/// How long one answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks for every name once.
///
/// A name that cannot be resolved keeps the addresses of `before`: a resolver that is down for a moment must not
/// unprotect a destination. An address that goes away stays protected until the name has another one.
pub(super) async fn resolve(names: &BTreeSet<String>, before: &Addresses) -> Addresses {
    let mut addresses = Addresses::new();
    for name in names {
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
        addresses.insert(name.clone(), found);
    }
    addresses
}

/// Asks again every `interval` for as long as somebody listens.
pub(super) async fn follow(names: BTreeSet<String>, interval: Duration, changes: watch::Sender<Addresses>) {
    if names.is_empty() {
        return;
    }
    let mut tick = tokio::time::interval(interval);
    tick.tick().await;
    while !changes.is_closed() {
        tick.tick().await;
        let before = changes.borrow().clone();
        let now = resolve(&names, &before).await;
        changes.send_if_modified(|known| {
            let changed = *known != now;
            if changed {
                *known = now;
            }
            changed
        });
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
