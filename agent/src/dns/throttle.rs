//! Says things that a workload can have said as often as it likes, but not that often.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::PolicyId;

/// Counts by policy.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    said: Mutex<HashMap<Option<PolicyId>, Said>>,
}

#[derive(Debug)]
struct Said {
    since: Instant,
    times: u32,
}

/// Lines of a workload in [`WHILE`].
const MOST: u32 = 20;
const WHILE: Duration = Duration::from_secs(10);

impl Throttle {
    /// Says it, unless the workload has had enough said in the last while.
    pub(super) fn say(&self, policy: Option<PolicyId>, line: impl FnOnce()) {
        if self.may(policy, Instant::now()) {
            line();
        }
    }

    fn may(&self, policy: Option<PolicyId>, now: Instant) -> bool {
        let mut all = self.said.lock();
        all.retain(|_, said| now.duration_since(said.since) < WHILE);
        let said = all.entry(policy).or_insert(Said { since: now, times: 0 });
        said.times += 1;
        if said.times == MOST {
            tracing::warn!(
                policy = policy.map(|policy| policy.0),
                "this is said no more for {} s",
                WHILE.as_secs()
            );
        }
        said.times <= MOST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_that_is_loud_is_heard_again_after_a_while() {
        let throttle = Throttle::default();
        let now = Instant::now();
        let heard = (0..100).filter(|_| throttle.may(Some(PolicyId(1)), now)).count();
        assert_eq!(heard, 20);
        assert!(throttle.may(Some(PolicyId(2)), now));
        assert!(throttle.may(Some(PolicyId(1)), now + WHILE));
    }
}
