//! Programs on security hooks (`lsm=…,bpf`): what goes around addresses of sockets, and around cgroups.
//!
//! Hooks on files and sockets run for every process of the host, so the first thing that each does is to find out, with a
//! load or two, whether the call is of a kind that concerns it.

mod bpf;
mod file;
mod process;
mod socket;
mod unix;

use agent_common::{EventKind, Ip128, Port, Standing};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use core::ffi::c_void;
use core::mem::MaybeUninit;

use crate::fields::{
    CGROUP_ANCESTORS, CGROUP_LEVEL, CGROUP_NODE, NODE_ID, SET_CGROUP, TASK_SET, TASK_TGID, field,
};
use crate::maps::AGENT;
use crate::{ask, report};

const PROCEED: i32 = 0;
/// EPERM.
const REFUSE: i32 = -1;

/// A pointer into the kernel's memory.
type Kernel = *const c_void;

/// Loads a field of a structure that the verifier knows by its type: an argument of a hook, or what such a field points
/// to. As quick as a load in the kernel itself.
#[inline(always)]
fn load<T: Copy>(structure: Kernel, offset: usize) -> T {
    // SAFETY: the verifier checks that a field of this size begins there. A pointer that has become invalid reads as
    // zeros (exception tables).
    unsafe { structure.byte_add(offset).cast::<T>().read_volatile() }
}

/// Reads a field of a structure that the verifier does not know; zeros where it cannot be read.
///
/// Not an `Option`: of one that is `None` the compiler copies a value that nobody has written, which the verifier (6.12)
/// does not let it.
#[inline(always)]
fn read<T: Copy>(structure: Kernel, offset: usize) -> T {
    let mut value = MaybeUninit::<T>::zeroed();
    // SAFETY: the value has room for as many bytes; the helper checks what it reads, and writes zeros where it cannot.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            structure.wrapping_byte_add(offset),
        );
    }
    // SAFETY: it is used for integers and pointers, of which zeros are values too.
    unsafe { value.assume_init() }
}

/// How a cgroup of the kernel's stands: the same walk as for the current process.
#[inline(always)]
fn standing_of_cgroup(cgroup: Kernel) -> Standing {
    let depth = read::<i32>(cgroup, field(&CGROUP_LEVEL));
    ask::standing(|level| {
        if level > depth {
            return 0;
        }
        let place = field(&CGROUP_ANCESTORS) + 8 * level as usize;
        let ancestor = read::<Kernel>(cgroup, place);
        let node = read::<Kernel>(ancestor, field(&CGROUP_NODE));
        read::<u64>(node, field(&NODE_ID))
    })
}

/// How another process stands.
#[inline(always)]
fn standing_of_task(task: Kernel) -> Standing {
    let set = read::<Kernel>(task, field(&TASK_SET));
    standing_of_cgroup(read(set, field(&SET_CGROUP)))
}

/// Whether a task is a thread of the agent's.
#[inline(always)]
fn is_agent(task: Kernel) -> bool {
    let agent = AGENT.get(0).copied().unwrap_or(0);
    agent != 0 && load::<u32>(task, field(&TASK_TGID)) == agent
}

/// Refuses what the current process tried, and reports it.
#[inline(always)]
fn refuse(kind: EventKind, standing: Standing) -> i32 {
    refuse_address(kind, standing, Ip128([0; 4]), Port(0), 0)
}

/// The same, of a destination.
#[inline(always)]
fn refuse_address(kind: EventKind, standing: Standing, ip: Ip128, port: Port, protocol: u32) -> i32 {
    let policy = match standing {
        Standing::Managed { policy, .. } => policy,
        Standing::Free | Standing::Pending => 0,
    };
    report::by_process(kind, policy, 0, ip, port, protocol);
    REFUSE
}
