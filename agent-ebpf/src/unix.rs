//! `connect_unix`, `getpeername_unix`: connections to unix sockets of databases.
//!
//! These hooks came with Linux 6.7, and with them their context can only be read through functions of the kernel's own
//! (kfuncs). The loader library knows neither: to it the programs look like those of IPv4, and calls of kfuncs like
//! calls of helpers that do not exist. The agent loads the programs itself and puts the kernel's numbers into the calls.

use agent_common::{
    EventKind, Ip128, Port, Standing, Stat, UNIX_LISTENERS, UNIX_PATH_MAX, UnixAnswer, UnixFlowKey,
    UnixFlowRecord, UnixKey, UnixQuestion, UnixRule, kfunc, last_component, on_unix_connect,
};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_ktime_get_boot_ns,
    bpf_probe_read_kernel_str, bpf_set_retval,
};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;
use core::ptr::addr_of;

use crate::maps::{UNIX_FLOWS, UNIX_NAMES};
use crate::{ask, report};

const PROCEED: i32 = 1;
const REFUSE: i32 = 0;
const ECONNREFUSED: i32 = 111;

/// `connect()` of a unix socket.
#[cgroup_sock_addr(connect4)]
pub(crate) fn tollgate_unix(ctx: SockAddrContext) -> i32 {
    let standing = ask::current_standing();
    let policy = match standing {
        Standing::Free => return PROCEED,
        Standing::Pending => agent_common::PENDING_POLICY,
        Standing::Managed { policy, .. } => policy,
    };
    let address = Address::of(&ctx);
    let mut name = Name::new(policy);
    if !address.read(&mut name) {
        return refuse(&ctx, EventKind::StoreFailed, policy, 0);
    }
    let whole = rule(&name);
    let last = rule(&name.last());
    let answer = on_unix_connect(UnixQuestion {
        standing,
        whole: whole.map(UnixRule::action),
        last: last.map(UnixRule::action),
    });
    match (answer, whole, standing) {
        (UnixAnswer::Pass, _, _) => PROCEED,
        (UnixAnswer::Refuse(kind), _, _) => refuse(&ctx, kind, policy, 0),
        (UnixAnswer::Absent(kind), _, _) => refuse(&ctx, kind, policy, ECONNREFUSED),
        (UnixAnswer::Redirect, Some(rule), Standing::Managed { policy, cgroup }) => {
            if remember(&ctx, rule.slot, policy, cgroup) && address.write(rule) {
                report::count(Stat::REDIRECTED);
                PROCEED
            } else {
                refuse(&ctx, EventKind::StoreFailed, policy, ECONNREFUSED)
            }
        }
        // No rule says to redirect without being one, and nobody is redirected who is not managed.
        (UnixAnswer::Redirect, _, _) => refuse(&ctx, EventKind::StoreFailed, policy, 0),
    }
}

/// `getpeername()` of a unix socket: the agent's listener has the name of the path that it stands for.
#[cgroup_sock_addr(getpeername4)]
pub(crate) fn tollgate_unix_peer(ctx: SockAddrContext) -> i32 {
    let address = Address::of(&ctx);
    let mut name = Name::new(UNIX_LISTENERS);
    if address.read(&mut name)
        && let Some(rule) = rule(&name)
    {
        // Where it fails the application sees the listener's name, which opens nothing.
        let _written = address.write(rule);
    }
    PROCEED
}

/// The address of the call, as the kernel has it: `struct bpf_sock_addr_kern` (linux/filter.h). The agent checks the
/// places of the fields against the running kernel's BTF before it loads these programs.
struct Address(*const u64);

impl Address {
    #[inline(always)]
    fn of(ctx: &SockAddrContext) -> Self {
        let cast: unsafe extern "C" fn(*mut bpf_sock_addr) -> *const u64 =
            // SAFETY: never run as it stands: the agent puts the kernel's function into the call.
            unsafe { core::mem::transmute(kfunc::CAST_TO_KERN_CTX as usize) };
        // SAFETY: the context is this program's own.
        Self(unsafe { cast(ctx.sock_addr) })
    }

    /// Reads the path into `name`. False: it cannot be read, so nothing is known of it. An abstract or empty name leaves
    /// an empty path, which no rule has.
    #[inline(always)]
    fn read(&self, name: &mut Name) -> bool {
        // SAFETY: `uaddr` and `uaddrlen` of the structure; volatile, so that each stays a load of its own width.
        let address = unsafe { self.0.byte_add(kfunc::UADDR).cast::<*const u8>().read_volatile() };
        // SAFETY: as above.
        let length = unsafe { self.0.byte_add(kfunc::UADDRLEN).cast::<u32>().read_volatile() };
        // The family comes before the path. What is behind the length is an earlier call's.
        // The kernel lets no longer one through; the mask lets the verifier (6.18) keep the bound, which it loses over the
        // comparison alone, because the compiler adds to the number from before it.
        let length = length.wrapping_sub(2) & 0x7f;
        if length == 0 || length > UNIX_PATH_MAX as u32 {
            return false;
        }
        let room = (&raw mut name.key.name).cast();
        // SAFETY: `Name` has a byte for the zero that is put behind the longest path; the helper checks what it reads.
        unsafe { bpf_probe_read_kernel_str(room, length + 1, address.wrapping_add(2).cast()) > 0 }
    }

    /// Puts another path in its place.
    #[inline(always)]
    fn write(&self, rule: &UnixRule) -> bool {
        let set: unsafe extern "C" fn(*const u64, *const u8, u32) -> i32 =
            // SAFETY: as in `of`.
            unsafe { core::mem::transmute(kfunc::SET_SUN_PATH as usize) };
        let length = rule.length;
        if length == 0 || length > UNIX_PATH_MAX as u32 {
            return false;
        }
        // SAFETY: the listener's path has room for `length` bytes; the kernel copies them.
        unsafe { set(self.0, rule.listener.as_ptr(), length) == 0 }
    }
}

/// A name to be looked up, with room for the zero that helpers put behind the longest.
#[repr(C)]
pub(crate) struct Name {
    pub(crate) key: UnixKey,
    end: u32,
}

impl Name {
    #[inline(always)]
    pub(crate) const fn new(policy: u32) -> Self {
        Self {
            key: UnixKey {
                policy,
                name: [0; UNIX_PATH_MAX],
            },
            end: 0,
        }
    }

    /// The last component of the path.
    #[inline(always)]
    pub(crate) fn last(&self) -> Self {
        let mut last = Self::new(self.key.policy);
        let at = last_component(&self.key.name);
        let from = addr_of!(self.key.name).cast::<u8>().wrapping_add(at);
        let room = (&raw mut last.key.name).cast();
        // SAFETY: reads this stack up to the zero that is behind the path in any case, and writes as many bytes as it reads.
        unsafe { bpf_probe_read_kernel_str(room, UNIX_PATH_MAX as u32 + 1, from.cast()) };
        last
    }
}

#[inline(always)]
pub(crate) fn rule(name: &Name) -> Option<&'static UnixRule> {
    let key = &name.key;
    // SAFETY: the map is not preallocated, so an entry that is replaced or removed stays as it is until the program ends.
    unsafe { UNIX_NAMES.get(key) }
}

/// Leaves word for the agent of who connects. False: there is no room.
#[inline(always)]
fn remember(ctx: &SockAddrContext, slot: u64, policy: u32, managed_cgroup: u64) -> bool {
    let pid_tgid = bpf_get_current_pid_tgid();
    let key = UnixFlowKey {
        slot,
        tgid: (pid_tgid >> 32) as u32,
        reserved: 0,
    };
    let record = UnixFlowRecord {
        managed_cgroup,
        // SAFETY: takes nothing, always has an answer.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        // SAFETY: the context is this program's own.
        socket: unsafe { bpf_get_socket_cookie(ctx.as_ptr()) },
        // SAFETY: takes nothing.
        boottime: unsafe { bpf_ktime_get_boot_ns() },
        policy,
        pid: pid_tgid as u32,
        uid: bpf_get_current_uid_gid() as u32,
        reserved: 0,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    UNIX_FLOWS.insert(key, record, 0).is_ok()
}

/// Refuses with `errno`; 0: as not permitted.
#[inline(always)]
fn refuse(ctx: &SockAddrContext, kind: EventKind, policy: u32, errno: i32) -> i32 {
    // SAFETY: the context is this program's own.
    let netns = unsafe { bpf_get_netns_cookie(ctx.as_ptr()) };
    report::by_process(kind, policy, netns, Ip128([0; 4]), Port(0), 0);
    if errno != 0 {
        // SAFETY: allowed for connect programs; the value is a negated errno.
        unsafe { bpf_set_retval(-errno) };
    }
    REFUSE
}
