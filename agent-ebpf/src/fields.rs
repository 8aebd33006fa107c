//! Where members of the kernel's structures lie: bytes from the structure's beginning, set by the agent from the
//! running kernel's BTF before it loads. What a kernel does not have keeps its programs from being loaded.

use core::ptr::addr_of;

/// `struct cgroup`: its hierarchy's root.
#[unsafe(no_mangle)]
pub(crate) static CGROUP_ROOT: u32 = 0;
/// `struct cgroup`: its directory.
#[unsafe(no_mangle)]
pub(crate) static CGROUP_NODE: u32 = 0;
/// `struct cgroup_root`: number of the hierarchy.
#[unsafe(no_mangle)]
pub(crate) static HIERARCHY_ID: u32 = 0;
/// `struct kernfs_node`: its id, which is the cgroup's.
#[unsafe(no_mangle)]
pub(crate) static NODE_ID: u32 = 0;

/// The place that the agent has set.
#[inline(always)]
pub(crate) fn field(place: &u32) -> usize {
    // SAFETY: a reference. Volatile, since the compiler takes the zero for a constant.
    unsafe { addr_of!(*place).read_volatile() as usize }
}
