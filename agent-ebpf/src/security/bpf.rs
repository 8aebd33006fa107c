//! `bpf`, `locked_down`: what root of a workload could do to the kernel itself.

use agent_common::{EventKind, Standing, may_bpf, may_unlock};
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use super::{Kernel, PROCEED, read, refuse};
use crate::ask;

/// bpf(2).
#[lsm(hook = "bpf")]
pub(crate) fn tollgate_bpf(ctx: LsmContext) -> i32 {
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    let command: i32 = ctx.arg(0);
    let attributes: Kernel = ctx.arg(1);
    // The kernel's own copy, zeroed behind what the process gave.
    let words = read::<[u32; 3]>(attributes, 0);
    if may_bpf(standing, command as u32, words) {
        PROCEED
    } else {
        refuse(EventKind::BpfRefused, standing)
    }
}

/// Something that kernel lockdown would refuse.
#[lsm(hook = "locked_down")]
pub(crate) fn tollgate_locked_down(_ctx: LsmContext) -> i32 {
    let standing = ask::current_standing();
    if may_unlock(standing) {
        PROCEED
    } else {
        refuse(EventKind::UnlockRefused, standing)
    }
}
