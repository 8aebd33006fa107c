//! Waiting until the agent listens in a network namespace that is new to it.
//!
//! A connect looks for its listener for a few milliseconds, which is what the agent takes. If that was not enough, the
//! connection is made all the same and its packets are held back; TCP sends the first one again and again, in short
//! intervals, and it passes as soon as the listener is there.

use agent_common::{EventKind, FlowRecord, Ip128, Port, Standing, Waited, after_wait, is_alive, may_wait};
use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_loop, bpf_setsockopt};
use aya_ebpf::programs::{SockAddrContext, SockOpsContext};
use core::ffi::c_void;

use crate::connect::{Listener, listener, netns, owner, protocol};
use crate::maps::{ALIVE, BORN, WAITED};
use crate::report;

/// More than fit into the longest wait; what ends it is the time.
const LOOKS: u32 = 1 << 20;

/// After how many ticks of the kernel's clock (1 to 10 ms each) a first packet that was held back is sent again.
const TICKS: u32 = 2;

/// How often it is sent again before the connection fails: up to some seconds, since the intervals grow.
const RESENDS: u32 = 9;

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// The agent listens.
    Over,
    /// Not yet, but it has been told: the connection's packets can be held back until it does.
    GoesOn,
    /// Nobody is there to wait for, or the socket's packets cannot be held back.
    InVain,
}

/// What is looked for.
#[repr(C)]
struct Look {
    address: *mut c_void,
    until: u64,
    port: u32,
    v4: bool,
    found: bool,
}

/// Tells the agent of the socket's network namespace, and waits for its listener at `port`, to which `asked` is redirected.
#[inline(always)]
pub(crate) fn until_the_agent_listens<const DATAGRAM: bool>(
    ctx: &SockAddrContext,
    standing: Standing,
    asked: (Ip128, Port),
    v4: bool,
    port: Port,
) -> Wait {
    let (policy, cgroup) = owner(standing);
    let alive = ALIVE.get(0).copied().unwrap_or(0);
    // SAFETY: takes nothing.
    let began = unsafe { bpf_ktime_get_ns() };
    if cgroup == 0 || !is_alive(began, alive) {
        return Wait::InVain;
    }
    report::urgent(
        EventKind::ListenerAwaited,
        policy,
        netns(ctx),
        asked.0,
        asked.1,
        protocol(ctx.sock_addr),
    );
    // SAFETY: an entry that is replaced meanwhile gives the old or the new time; the budget is that exact.
    let waited: Option<Waited> = unsafe { WAITED.get(cgroup) }.copied();
    let time = may_wait(began, waited);
    if time > 0 {
        let mut look = Look {
            address: ctx.as_ptr(),
            until: began + time,
            port: port.0,
            v4,
            found: false,
        };
        let once: extern "C" fn(u32, *mut c_void) -> i64 = look_once::<DATAGRAM>;
        // SAFETY: the function is of the kind that the helper calls, and what it is given lives on this stack.
        unsafe { bpf_loop(LOOKS, once as *mut c_void, (&raw mut look).cast(), 0) };
        // SAFETY: takes nothing.
        let ended = unsafe { bpf_ktime_get_ns() };
        let _full = WAITED.insert(cgroup, after_wait(began, ended, waited), 0);
        if look.found {
            return Wait::Over;
        }
    }
    // SAFETY: the context is this program's own; no storage is made.
    let born = unsafe { BORN.get_ptr_mut(ctx) };
    if born.is_null() {
        Wait::InVain
    } else {
        Wait::GoesOn
    }
}

/// 1 ends the loop.
#[inline(never)]
extern "C" fn look_once<const DATAGRAM: bool>(_number: u32, look: *mut c_void) -> i64 {
    // SAFETY: the caller's own, for the time of the loop.
    let look = unsafe { &mut *look.cast::<Look>() };
    if listener::<DATAGRAM>(look.address, look.v4, Port(look.port)) == Listener::TheAgents {
        look.found = true;
        return 1;
    }
    // SAFETY: takes nothing.
    i64::from(unsafe { bpf_ktime_get_ns() } >= look.until)
}

/// Lets TCP send the first packet of an awaited connection again soon, and often.
#[inline(always)]
pub(crate) fn resend_soon(ctx: &SockOpsContext, record: &FlowRecord) {
    const IPPROTO_TCP: i32 = 6;
    const TCP_SYNCNT: i32 = 7;
    if record.awaited == 0 {
        return;
    }
    let mut resends = RESENDS;
    let value = (&raw mut resends).cast();
    // SAFETY: the context is this program's own, and the value is a word, as the option asks. Refused, the connection has as
    // many attempts as others.
    let _refused = unsafe { bpf_setsockopt(ctx.as_ptr(), IPPROTO_TCP, TCP_SYNCNT, value, 4) };
    ctx.set_reply(TICKS);
}

/// Whether a connection's first packet to the agent has to be held back, because it awaits the agent and that is not there
/// yet.
#[inline(always)]
pub(crate) fn holds_back(skb: *mut __sk_buff, record: &mut FlowRecord, v4: bool, port: Port) -> bool {
    if record.awaited == 0 {
        return false;
    }
    if listener::<false>(skb.cast(), v4, port) != Listener::TheAgents {
        return true;
    }
    record.awaited = 0;
    false
}
