//! Events and counters.

use agent_common::{Event, EventKind, Ip128, Observed, ObservedKey, Port, Stat};
use aya_ebpf::bindings::BPF_RB_FORCE_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_current_cgroup_id, bpf_ktime_get_boot_ns};
use aya_ebpf::helpers::{bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid};

use crate::maps::{EVENTS, OBSERVED, STATS};

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
    submit(of_process(kind, policy, netns, ip, port, protocol), 0);
}

/// The same, and wakes the agent at once.
#[inline(always)]
pub(crate) fn urgent(kind: EventKind, policy: u32, netns: u64, ip: Ip128, port: Port, protocol: u32) {
    count(Stat::of(kind));
    submit(
        of_process(kind, policy, netns, ip, port, protocol),
        u64::from(BPF_RB_FORCE_WAKEUP),
    );
}

#[inline(always)]
fn of_process(kind: EventKind, policy: u32, netns: u64, ip: Ip128, port: Port, protocol: u32) -> Event {
    let pid_tgid = bpf_get_current_pid_tgid();
    Event {
        kind: kind as u32,
        policy,
        // SAFETY: takes nothing, always has an answer.
        cgroup: unsafe { bpf_get_current_cgroup_id() },
        netns,
        tgid: (pid_tgid >> 32) as u32,
        uid: bpf_get_current_uid_gid() as u32,
        tid: pid_tgid as u32,
        reserved: 0,
        ip,
        port,
        protocol,
        comm: bpf_get_current_comm().unwrap_or_default(),
    }
}

/// Counts and reports a packet, which may leave in the context of anybody.
#[inline(always)]
pub(crate) fn packet(kind: EventKind, policy: u32, cgroup: u64, ip: Ip128, port: Port, protocol: u32) {
    count(Stat::of(kind));
    let event = Event {
        kind: kind as u32,
        policy,
        cgroup,
        netns: 0,
        tgid: 0,
        uid: 0,
        tid: 0,
        reserved: 0,
        ip,
        port,
        protocol,
        comm: [0; 16],
    };
    submit(event, 0);
}

#[inline(always)]
fn submit(event: Event, flags: u64) {
    list(&event);
    if let Some(mut entry) = EVENTS.reserve::<Event>(0) {
        entry.write(event);
        entry.submit(flags);
    }
}

/// Enters an event in the list of destinations.
#[inline(always)]
fn list(event: &Event) {
    let Some(key) = ObservedKey::of(event) else {
        return;
    };
    // SAFETY: takes nothing.
    let now = unsafe { bpf_ktime_get_boot_ns() };
    let mut entry = OBSERVED.get_ptr_mut(key);
    if entry.is_none() {
        const NOEXIST: u64 = 1;
        // Fails where another processor was faster, whose entry is then counted on, and where the list is full.
        let _inserted = OBSERVED.insert(key, Observed::uncounted(event, now), NOEXIST);
        entry = OBSERVED.get_ptr_mut(key);
    }
    let Some(entry) = entry else {
        count(Stat::UNLISTED);
        return;
    };
    // SAFETY: memory of the map, also if the entry is removed meanwhile: then it may be another's by now, whose line is
    // wrong once. Two processors may write at a time: then a count is lost, or a listing shows one's process beside the
    // other's time. Words are never torn.
    unsafe {
        (*entry).count += 1;
        (*entry).last = now;
        (*entry).cgroup = event.cgroup;
        (*entry).tgid = event.tgid;
        (*entry).uid = event.uid;
        (*entry).comm = event.comm;
    }
}
