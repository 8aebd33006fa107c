//! Questions to the maps that several programs ask.

use agent_common::{
    HostFacts, Ip128, MAX_DEPTH, PENDING_POLICY, PROTECTED_FIXED_BITS, PolicyRules, Port, ProtectedKey,
    ProxyPorts, Standing, Step, step,
};
use aya_ebpf::helpers::generated::bpf_get_current_ancestor_cgroup_id;
use aya_ebpf::maps::lpm_trie::Key;

use crate::maps::{CGROUPS, HOST, POLICIES, PROTECTED, PROXY};

/// What holds for the whole host; as before the first agent, where there is nothing.
#[inline(always)]
pub(crate) fn host() -> HostFacts {
    HOST.get(0).copied().unwrap_or_default()
}

/// How the current process stands.
#[inline(always)]
pub(crate) fn current_standing() -> Standing {
    // SAFETY: the helper takes any level and answers 0 beyond the process's own.
    standing(|level| unsafe { bpf_get_current_ancestor_cgroup_id(level) })
}

/// The walk from the root down to the first cgroup that decides; `ancestor` answers 0 beyond the last.
#[inline(always)]
pub(crate) fn standing(ancestor: impl Fn(i32) -> u64) -> Standing {
    let mut watched = match host().root() {
        // Said anew: of the standing that it comes with the compiler copies what nobody has written, which the verifier
        // (6.12) does not let it.
        Step::Done(_) => return Standing::Free,
        Step::Down { watched } => watched,
    };
    for level in 1..=MAX_DEPTH {
        let cgroup = ancestor(level as i32);
        if cgroup == 0 {
            return Standing::Free;
        }
        // SAFETY: an entry that is replaced meanwhile gives the old or the new class; both were true at some time
        // during the call. The map is not preallocated, so a freed entry stays until the program has ended.
        let class = unsafe { CGROUPS.get(cgroup) }.copied();
        match step(watched, cgroup, class) {
            Step::Done(standing) => return standing,
            Step::Down { watched: below } => watched = below,
        }
    }
    // It lies deeper than anything that is managed.
    if watched {
        Standing::Pending
    } else {
        Standing::Free
    }
}

/// Whether a destination is protected for somebody who stands so.
#[inline(always)]
pub(crate) fn protected(standing: Standing, ip: Ip128, port: Port) -> bool {
    let policy = match standing {
        Standing::Free => return false,
        Standing::Pending => PENDING_POLICY,
        Standing::Managed { policy, .. } => policy,
    };
    let bits = PROTECTED_FIXED_BITS + 128;
    let exact = Key::new(bits, ProtectedKey { policy, port, ip });
    if PROTECTED.get(&exact).is_some() {
        return true;
    }
    let any_port = Key::new(
        bits,
        ProtectedKey {
            policy,
            port: Port(0),
            ip,
        },
    );
    PROTECTED.get(&any_port).is_some()
}

/// The rules of somebody who stands so: of the policy, or of the strictest for all who are pending.
#[inline(always)]
pub(crate) fn rules(standing: Standing) -> Option<PolicyRules> {
    let policy = match standing {
        Standing::Free => return None,
        Standing::Pending => PENDING_POLICY,
        Standing::Managed { policy, .. } => policy,
    };
    // SAFETY: as in `standing`.
    unsafe { POLICIES.get(policy) }.copied()
}

/// The proxy's ports; zeros before the agent has set them.
#[inline(always)]
pub(crate) fn proxy_ports() -> ProxyPorts {
    PROXY.get(0).copied().unwrap_or_default()
}
