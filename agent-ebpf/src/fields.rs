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
/// `struct cgroup`: how deep it lies; the root has 0.
#[unsafe(no_mangle)]
pub(crate) static CGROUP_LEVEL: u32 = 0;
/// `struct cgroup`: its ancestors, itself as the last.
#[unsafe(no_mangle)]
pub(crate) static CGROUP_ANCESTORS: u32 = 0;
/// `struct kernfs_node`: the directory that it lies in.
#[unsafe(no_mangle)]
pub(crate) static NODE_PARENT: u32 = 0;
/// `struct kernfs_node`: of a cgroup's directory, the cgroup.
#[unsafe(no_mangle)]
pub(crate) static NODE_PRIVATE: u32 = 0;
/// `struct css_set`: the cgroup of the cgroup2 hierarchy.
#[unsafe(no_mangle)]
pub(crate) static SET_CGROUP: u32 = 0;
/// `struct task_struct`: its cgroups, of all hierarchies.
#[unsafe(no_mangle)]
pub(crate) static TASK_SET: u32 = 0;
/// `struct task_struct`: its process, in the initial pid namespace.
#[unsafe(no_mangle)]
pub(crate) static TASK_TGID: u32 = 0;
/// `struct socket`: the `struct sock` behind it.
#[unsafe(no_mangle)]
pub(crate) static SOCKET_SOCK: u32 = 0;
/// `struct sock`: `SOCK_*`.
#[unsafe(no_mangle)]
pub(crate) static SOCK_TYPE: u32 = 0;
/// `struct sock`: `IPPROTO_*`.
#[unsafe(no_mangle)]
pub(crate) static SOCK_PROTOCOL: u32 = 0;
/// `struct sock_common`, with which a `struct sock` begins: `AF_*`.
#[unsafe(no_mangle)]
pub(crate) static SOCK_FAMILY: u32 = 0;
/// `struct sock_common`: the peer's port, in network byte order.
#[unsafe(no_mangle)]
pub(crate) static SOCK_PEER_PORT: u32 = 0;
/// `struct sock_common`: the peer's IPv4 address.
#[unsafe(no_mangle)]
pub(crate) static SOCK_PEER_V4: u32 = 0;
/// `struct sock_common`: the peer's IPv6 address.
#[unsafe(no_mangle)]
pub(crate) static SOCK_PEER_V6: u32 = 0;
/// `struct file`: its inode.
#[unsafe(no_mangle)]
pub(crate) static FILE_INODE: u32 = 0;
/// `struct file`: of a socket's file, the socket.
#[unsafe(no_mangle)]
pub(crate) static FILE_PRIVATE: u32 = 0;
/// `struct inode`: kind and permissions.
#[unsafe(no_mangle)]
pub(crate) static INODE_MODE: u32 = 0;
/// `struct inode`: its file system.
#[unsafe(no_mangle)]
pub(crate) static INODE_SUPER: u32 = 0;
/// `struct inode`: of a file of the cgroup2 hierarchy, its node.
#[unsafe(no_mangle)]
pub(crate) static INODE_PRIVATE: u32 = 0;
/// `struct super_block`: number of the file system's kind.
#[unsafe(no_mangle)]
pub(crate) static SUPER_MAGIC: u32 = 0;
/// `struct unix_sock`: the name that it is bound to.
#[unsafe(no_mangle)]
pub(crate) static UNIX_ADDRESS: u32 = 0;
/// `struct unix_address`: family and path.
#[unsafe(no_mangle)]
pub(crate) static UNIX_NAME: u32 = 0;

/// The place that the agent has set.
#[inline(always)]
pub(crate) fn field(place: &u32) -> usize {
    // SAFETY: a reference. Volatile, since the compiler takes the zero for a constant.
    unsafe { addr_of!(*place).read_volatile() as usize }
}
