//! Events and counters.

use agent_common::{Event, EventKind, Ip128, Port, Stat};
use aya_ebpf::helpers::generated::bpf_get_current_cgroup_id;
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};

use crate::maps::{EVENTS, STATS};

/// Counts.
#[inline(always)]
pub(crate) fn count(stat: Stat) {
    if let Some(counter) = STATS.get_ptr_mut(stat.0) {
        // SAFETY: the slot is this processor's own, and programs of this kind are not preempted by one another on
        // it but by softirq: a count lost there is acceptable, a torn one impossible.
        unsafe { *counter += 1 };
    }
}

/// Counts and reports something that the current process did.
#[inline(always)]
pub(crate) fn by_process(kind: EventKind, policy: u32, netns: u64, ip: Ip128, port: Port, protocol: u32) {
    count(Stat::of(kind));
    let pid_tgid = bpf_get_current_pid_tgid();
    let event = Event {
        kind: kind as u32,
        policy,
        // SAFETY: takes nothing, always has an answer.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        netns,
        tgid: (pid_tgid >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        ip,
        port,
        protocol,
        comm: bpf_get_current_comm().unwrap_or_default(),
    };
    submit(event);
}

/// Counts and reports a packet, which may leave in the context of anybody.
#[inline(always)]
pub(crate) fn packet(kind: EventKind, policy: u32, cgroup: u64, ip: Ip128, port: Port, protocol: u32) {
    count(Stat::of(kind));
    submit(Event {
        kind: kind as u32,
        policy,
        cgroup,
        netns: 0,
        tgid: 0,
        uid: 0,
        ip,
        port,
        protocol,
        comm: [0; 16],
    });
}

#[inline(always)]
fn submit(event: Event) {
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(event);
        entry.submit(0);
    }
}
