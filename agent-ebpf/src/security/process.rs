//! `ptrace_access_check`, `task_kill`: what a workload can do to processes that are not its own.

use agent_common::{EventKind, Standing, may_signal_agent, may_trace};
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use super::{Kernel, PROCEED, is_agent, refuse, standing_of_task};
use crate::ask;

/// ptrace(2), `pidfd_getfd`, `process_vm_readv`, and what of `/proc/PID` is guarded in the same way.
#[lsm(hook = "ptrace_access_check")]
pub(crate) fn tollgate_ptrace(ctx: LsmContext) -> i32 {
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    let target: Kernel = ctx.arg(0);
    let mode: u32 = ctx.arg(1);
    if may_trace(standing, standing_of_task(target), is_agent(target), mode) {
        PROCEED
    } else {
        refuse(EventKind::TraceRefused, standing)
    }
}

/// A signal from one process to another.
#[lsm(hook = "task_kill")]
pub(crate) fn tollgate_kill(ctx: LsmContext) -> i32 {
    let target: Kernel = ctx.arg(0);
    if !is_agent(target) {
        return PROCEED;
    }
    let standing = ask::current_standing();
    if matches!(standing, Standing::Free) {
        return PROCEED;
    }
    if may_signal_agent(standing, standing_of_task(target)) {
        PROCEED
    } else {
        refuse(EventKind::SignalRefused, standing)
    }
}
