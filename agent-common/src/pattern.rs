//! What the policies' patterns say of a new cgroup, as an automaton over the bytes of its path.
//!
//! The agent compiles every policy's patterns into one [`PatternTable`]; the kernel side walks it when a cgroup is
//! made, before anybody can enter it. The walk stops at the first ancestor that decides: one that is managed has its
//! descendants under its own policy, and below one that no pattern leads through nothing is ever asked.

use crate::CgroupClass;

/// States of a table; a power of two, so that a masked number is an index.
pub const MAX_STATES: usize = 4096;

/// Transitions of a table, all states together; a power of two.
pub const MAX_TRANSITIONS: usize = 1 << 17;

/// Bytes of a cgroup's path that the kernel gives (`TRACE_CGROUP_PATH_LEN`, kernel/cgroup/cgroup-internal.h), with
/// the NUL at its end; a power of two, as above.
pub const PATH_BYTES: usize = 1024;

/// What is known of a cgroup whose path ends in a state of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// Policy of the cgroup; 0: none.
    pub policy: u32,
    /// How it stands, as the number of a constant of this type.
    pub standing: u32,
}

impl Outcome {
    /// No pattern matches it, nor can match anything below it. All zeros: what a table does not say is this.
    pub const UNMANAGED: Self = Self {
        policy: 0,
        standing: 0,
    };
    /// No pattern matches it, but one might match a cgroup below.
    pub const WATCHED: Self = Self {
        policy: 0,
        standing: 1,
    };
    /// The table has no room for all that the patterns say of it: the agent has to look.
    pub const UNDECIDED: Self = Self {
        policy: 0,
        standing: 2,
    };

    /// Under `policy`.
    pub const fn managed(policy: u32) -> Self {
        Self { policy, standing: 3 }
    }

    /// What is said of the cgroup; `None`: nothing, so that it is pending until the agent has looked.
    #[inline(always)]
    pub const fn class(self) -> Option<CgroupClass> {
        match self.standing {
            0 => Some(CgroupClass::unmanaged(false)),
            1 => Some(CgroupClass::unmanaged(true)),
            3 if self.policy != 0 => Some(CgroupClass::managed(self.policy)),
            _ => None,
        }
    }
}

/// The automaton. It begins in state 0, which stands for the root; all zeros, it knows nothing.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct PatternTable {
    /// Byte to its class; bytes of one class lead to the same states everywhere.
    pub classes: [u8; 256],
    /// Classes that there are, which is how many transitions each state has.
    pub stride: u32,
    /// Keeps what follows aligned alike on both sides.
    pub reserved: u32,
    /// State to what is known of a cgroup whose path ends there.
    pub outcomes: [Outcome; MAX_STATES],
    /// `state * stride + class` to the next state.
    pub transitions: [u16; MAX_TRANSITIONS],
}

impl PatternTable {
    /// One that knows nothing.
    #[expect(
        clippy::large_stack_arrays,
        reason = "a constant; whoever fills it puts it on the heap"
    )]
    pub const BLANK: Self = Self {
        classes: [0; 256],
        stride: 0,
        reserved: 0,
        outcomes: [Outcome::UNMANAGED; MAX_STATES],
        transitions: [0; MAX_TRANSITIONS],
    };

    /// What is known of a cgroup whose path ends in `state`.
    #[inline(always)]
    pub fn outcome(&self, state: u32) -> Outcome {
        // Masked, so that the compiler leaves out the check, and the verifier sees the limit.
        let outcome = self.outcomes.get(state as usize & (MAX_STATES - 1));
        outcome.copied().unwrap_or(Outcome::UNDECIDED)
    }

    /// The state after `state` and `byte`.
    ///
    /// `None`: at this `/`, what came before it has decided already, and nothing is to be said of the cgroup.
    #[inline(always)]
    pub fn next(&self, state: u32, byte: u8) -> Option<u32> {
        if byte == b'/' && self.outcome(state).standing != Outcome::WATCHED.standing {
            return None;
        }
        let class = *self.classes.get(usize::from(byte))? as usize;
        let at = (state as usize)
            .wrapping_mul(self.stride as usize)
            .wrapping_add(class);
        // Masked, as above.
        self.transitions
            .get(at & (MAX_TRANSITIONS - 1))
            .map(|next| u32::from(*next))
    }
}

/// The one value of `PATTERNS_TURN`: which table counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PatternTurn {
    /// How often a table has been set; its lowest bit is the table that counts.
    pub turn: u32,
    /// 1: some cgroup might match a pattern.
    pub watched: u32,
}

const _: () = assert!(size_of::<PatternTurn>() == 8);
const _: () = assert!(size_of::<Outcome>() == 8);
const _: () = assert!(size_of::<PatternTable>() == 256 + 8 + 8 * MAX_STATES + 2 * MAX_TRANSITIONS);
const _: () = assert!(MAX_STATES.is_power_of_two() && MAX_TRANSITIONS.is_power_of_two());
const _: () = assert!(MAX_STATES <= 1 << 16 && PATH_BYTES.is_power_of_two());

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya asks for the promise that a map value is plain data"
)]
mod user {
    use super::{PatternTable, PatternTurn};

    // SAFETY: `repr(C)`, integers alone, no padding (size asserted above): every bit pattern is a value.
    unsafe impl aya::Pod for PatternTable {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PatternTurn {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two classes, `/` and the rest: `/` leads to state 1, which the rest keeps.
    fn table(outcomes: &[Outcome]) -> PatternTable {
        let mut table = PatternTable {
            classes: [1; 256],
            stride: 2,
            ..PatternTable::BLANK
        };
        table.classes[usize::from(b'/')] = 0;
        table.transitions[..4].copy_from_slice(&[1, 0, 1, 1]);
        table.outcomes[..outcomes.len()].copy_from_slice(outcomes);
        table
    }

    fn walk(table: &PatternTable, path: &str) -> Option<CgroupClass> {
        let mut state = 0;
        for byte in path.bytes() {
            state = table.next(state, byte)?;
        }
        table.outcome(state).class()
    }

    #[test]
    fn the_walk_ends_where_an_ancestor_has_decided() {
        for (outcomes, path, expected) in [
            (&[Outcome::UNMANAGED, Outcome::managed(7)][..], "/a", None),
            (
                &[Outcome::WATCHED, Outcome::managed(7)][..],
                "/a",
                Some(CgroupClass::managed(7)),
            ),
            (&[Outcome::WATCHED, Outcome::managed(7)][..], "/a/b", None),
            (
                &[Outcome::WATCHED, Outcome::WATCHED][..],
                "/a/b",
                Some(CgroupClass::unmanaged(true)),
            ),
            (
                &[Outcome::WATCHED, Outcome::UNMANAGED][..],
                "/a",
                Some(CgroupClass::unmanaged(false)),
            ),
            (&[Outcome::WATCHED, Outcome::UNMANAGED][..], "/a/b", None),
            (&[Outcome::WATCHED, Outcome::UNDECIDED][..], "/a", None),
            (&[Outcome::WATCHED, Outcome::UNDECIDED][..], "/a/b", None),
        ] {
            assert_eq!(walk(&table(outcomes), path), expected, "{outcomes:?} {path}");
        }
    }

    #[test]
    fn what_a_table_cannot_mean_is_nothing() {
        for outcome in [
            Outcome::managed(0),
            Outcome {
                policy: 7,
                standing: 4,
            },
        ] {
            assert_eq!(outcome.class(), None);
        }
        let wild = table(&[]);
        assert!(wild.next(u32::MAX, 0xff).is_some());
        assert_eq!(wild.outcome(u32::MAX), Outcome::UNMANAGED);
    }
}
