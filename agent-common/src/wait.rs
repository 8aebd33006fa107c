//! Waiting for the agent: the first connect in a network namespace where the agent does not listen yet.
//!
//! The kernel side tells the agent and looks, again and again, until the agent listens there, which takes about a
//! millisecond. It looks without sleeping, so how long is bounded: for each time, for each managed cgroup, and by whether
//! an agent is there at all.

/// How long one connect may wait, ns.
pub const LONGEST_WAIT: u64 = 5_000_000;

/// How long all connects of a managed cgroup together may wait in a [`WAIT_WINDOW`], ns. A job that makes one network
/// namespace after the other gets so much of a processor for it, and is refused beyond.
pub const WAIT_BUDGET: u64 = 100_000_000;

/// The time that [`WAIT_BUDGET`] is for, ns.
pub const WAIT_WINDOW: u64 = 1_000_000_000;

/// How old the agent's last sign of life may be, ns.
pub const SIGN_OF_LIFE: u64 = 3_000_000_000;

/// Value of `WAITED`: how long connects of a managed cgroup have waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Waited {
    /// When the window began, ns of `CLOCK_MONOTONIC`.
    pub since: u64,
    /// Ns waited in it.
    pub spent: u64,
}

/// Whether there is an agent at `now`, whose last sign of life was at `alive`, 0 if there was none. Times are ns of
/// `CLOCK_MONOTONIC`, here and below.
#[inline(always)]
pub const fn is_alive(now: u64, alive: u64) -> bool {
    alive != 0 && now.saturating_sub(alive) <= SIGN_OF_LIFE
}

/// How long a connect may look for the agent at `now`; 0: not at all.
#[inline(always)]
pub const fn may_wait(now: u64, waited: Option<Waited>) -> u64 {
    let left = match waited {
        Some(waited) if now.saturating_sub(waited.since) < WAIT_WINDOW => {
            WAIT_BUDGET.saturating_sub(waited.spent)
        }
        _ => WAIT_BUDGET,
    };
    if left < LONGEST_WAIT { left } else { LONGEST_WAIT }
}

/// What is noted after a wait from `began` to `ended`.
#[inline(always)]
pub const fn after_wait(began: u64, ended: u64, waited: Option<Waited>) -> Waited {
    let time = ended.saturating_sub(began);
    match waited {
        Some(waited) if began.saturating_sub(waited.since) < WAIT_WINDOW => Waited {
            since: waited.since,
            spent: waited.spent.saturating_add(time),
        },
        _ => Waited {
            since: began,
            spent: time,
        },
    }
}

/// How long nobody is told of the same network namespace again, ns.
pub const TOLD: u64 = 1_000_000_000;

/// Whether the agent is to be told at `now` that a workload is in a network namespace, of which it was told at `told`; 0: it
/// listens there, `None`: it was not told.
#[inline(always)]
pub const fn is_news(now: u64, told: Option<u64>) -> bool {
    match told {
        None => true,
        Some(0) => false,
        Some(told) => now.saturating_sub(told) >= TOLD,
    }
}

const _: () = assert!(size_of::<Waited>() == 16);

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    // SAFETY: `repr(C)`, words alone, no padding (asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for super::Waited {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 50 * WAIT_WINDOW;

    #[test]
    fn nobody_waits_for_an_agent_that_is_not_there() {
        for (alive, expected) in [
            (0, false),
            (NOW, true),
            (NOW - SIGN_OF_LIFE, true),
            (NOW - SIGN_OF_LIFE - 1, false),
            // Given by another processor, a moment ahead.
            (NOW + 1, true),
        ] {
            assert_eq!(is_alive(NOW, alive), expected, "{alive}");
        }
    }

    #[test]
    fn the_agent_is_told_of_a_namespace_until_it_listens_there_and_not_all_the_time() {
        for (told, expected) in [
            (None, true),
            (Some(0), false),
            (Some(NOW - 1), false),
            (Some(NOW - TOLD), true),
            (Some(NOW + 1), false),
        ] {
            assert_eq!(is_news(NOW, told), expected, "{told:?}");
        }
    }

    #[test]
    fn a_job_gets_so_much_time_and_no_more() {
        let mut waited = None;
        let mut now = NOW;
        let mut total = 0;
        while now < NOW + WAIT_WINDOW {
            let time = may_wait(now, waited);
            waited = Some(after_wait(now, now + time, waited));
            total += time;
            now += time + 1_000_000;
        }
        assert_eq!(total, WAIT_BUDGET);
        assert_eq!(may_wait(now, waited), LONGEST_WAIT, "the next window");
        let next = after_wait(now, now + 7, waited);
        assert_eq!(next, Waited { since: now, spent: 7 });
    }
}
