//! `cgroup_mkdir`, `cgroup_rmdir`: a new cgroup is classified before anybody can enter it, whether the agent runs or
//! not, and one that is gone is forgotten.

use agent_common::{CgroupClass, PATH_BYTES, PatternTable, PatternTurn};
use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::helpers::{bpf_probe_read_kernel, bpf_probe_read_kernel_str_bytes};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use core::ffi::c_void;

use crate::fields::{CGROUP_NODE, CGROUP_ROOT, HIERARCHY_ID, NODE_ID, field};
use crate::maps::{CGROUP_PATH, CGROUPS, PATTERNS, PATTERNS_TURN};

/// The hierarchy of cgroup2 is the kernel's first one; v1 hierarchies, whose cgroups come here too, have others.
const CGROUP2: i32 = 0;

/// A cgroup has been made. Directory and path are there, but nobody sees the directory before this returns.
#[btf_tracepoint(function = "cgroup_mkdir")]
pub(crate) fn tollgate_mkdir(ctx: BtfTracePointContext) -> i32 {
    let _nothing = made(&ctx);
    0
}

/// A cgroup has been removed: nobody is in it. Sockets may be left that were made in it, and they are pending from now
/// on, since its parent is watched.
#[btf_tracepoint(function = "cgroup_rmdir")]
pub(crate) fn tollgate_rmdir(ctx: BtfTracePointContext) -> i32 {
    if let Some(id) = cgroup2_id(ctx.arg(0)) {
        let _unknown = CGROUPS.remove(id);
    }
    0
}

/// `None`: nothing is said of the cgroup, so it is pending where its parent is watched.
#[inline(always)]
fn made(ctx: &BtfTracePointContext) -> Option<()> {
    let id = cgroup2_id(ctx.arg(0))?;
    let turn = patterns_turn()?;
    let table = PATTERNS.get(turn.turn & 1)?;
    let class = classify(table, ctx.arg(1))?;
    CGROUPS.insert(id, class, 0).ok()?;
    // The agent has other patterns by now, and may have looked through all cgroups already, where this one is not seen yet.
    if patterns_turn() != Some(turn) {
        let _gone = CGROUPS.remove(id);
    }
    Some(())
}

#[inline(always)]
fn classify(table: &PatternTable, path: *const u8) -> Option<CgroupClass> {
    let buffer = CGROUP_PATH.get_ptr_mut(0)?;
    // SAFETY: the buffer is this processor's own, and the tracepoint holds a lock with interrupts off.
    let buffer = unsafe { &mut *buffer };
    // SAFETY: the path is a string of the kernel's; the helper checks every byte of it.
    let length = unsafe { bpf_probe_read_kernel_str_bytes(path, buffer) }
        .ok()?
        .len();
    if length + 1 >= PATH_BYTES {
        // The kernel may have cut it.
        return None;
    }
    let mut walk = Walk {
        table,
        path: buffer,
        length,
        state: 0,
        decided: false,
    };
    let step: extern "C" fn(u32, *mut c_void) -> i64 = step;
    // SAFETY: the function is of the kind that the helper calls, and what it is given lives on this stack.
    unsafe { bpf_loop(PATH_BYTES as u32, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.decided {
        return None;
    }
    table.outcome(walk.state).class()
}

/// A walk through a table, and the path that it follows.
#[repr(C)]
struct Walk {
    table: *const PatternTable,
    path: *const [u8; PATH_BYTES],
    length: usize,
    state: u32,
    decided: bool,
}

/// One byte of the path; 1 ends the walk. A function of its own for `bpf_loop`: of a plain loop over the path, verifiers up to
/// 6.12 do not see that it ends within it.
#[inline(never)]
extern "C" fn step(at: u32, walk: *mut c_void) -> i64 {
    // SAFETY: the caller's own, for the time of the walk.
    let walk = unsafe { &mut *walk.cast::<Walk>() };
    let at = at as usize;
    if at >= walk.length {
        return 1;
    }
    // SAFETY: values of maps, which the caller has for the time of the walk.
    let (table, path) = unsafe { (&*walk.table, &*walk.path) };
    // Masked, so that the compiler leaves out the check, and the verifier sees the limit.
    let next = path
        .get(at & (PATH_BYTES - 1))
        .and_then(|byte| table.next(walk.state, *byte));
    match next {
        Some(state) => {
            walk.state = state;
            0
        }
        None => {
            walk.decided = true;
            1
        }
    }
}

/// The id of a cgroup of the cgroup2 hierarchy.
#[inline(always)]
fn cgroup2_id(cgroup: *const u8) -> Option<u64> {
    let root: *const u8 = read(cgroup, field(&CGROUP_ROOT))?;
    let hierarchy: i32 = read(root, field(&HIERARCHY_ID))?;
    if hierarchy != CGROUP2 {
        return None;
    }
    let node: *const u8 = read(cgroup, field(&CGROUP_NODE))?;
    read(node, field(&NODE_ID))
}

#[inline(always)]
fn read<T>(structure: *const u8, offset: usize) -> Option<T> {
    // SAFETY: the helper checks the address.
    unsafe { bpf_probe_read_kernel(structure.wrapping_add(offset).cast()) }.ok()
}

#[inline(always)]
fn patterns_turn() -> Option<PatternTurn> {
    let turn = PATTERNS_TURN.get_ptr(0)?;
    // SAFETY: an entry of the map's. Of one that is written meanwhile, one word may be old: then they are not the same as
    // before, or not afterwards.
    Some(unsafe { turn.read_volatile() })
}
