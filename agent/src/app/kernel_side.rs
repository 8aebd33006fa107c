//! What the policies mean for the kernel side: cgroups, egress, protected destinations, kept current.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::config::SelectorKind;
use crate::dns::{Learned, Terms};
use crate::flow::Expander;
use crate::kernel::{
    CgroupPattern, Decide, EventKind, EventStream, Kernel, KernelError, PatternError, Patterns, Protected,
    Rules, local,
};
use crate::policy::{PolicySet, Resolved, WorkloadPolicy};

use super::egress::Egress;
use super::resolve::Addresses;

/// What the policies select, for the keeper of cgroups. `decide` knows which containers are whose.
pub(super) fn patterns(set: &PolicySet, decide: Arc<dyn Decide>) -> Result<Patterns, PatternError> {
    let mut patterns = Patterns::default();
    patterns.ask_at(decide);
    for policy in set.policies() {
        let workload = &policy.doc.workload;
        if let Some(container) = &workload.container {
            if workload.selectors.is_empty() {
                for place in container.usual_places() {
                    let text = format!("where containers are by custom: {place}");
                    patterns.ask(CgroupPattern::at(&place, &text)?, policy.id);
                }
            }
            for selector in &workload.selectors {
                patterns.ask(CgroupPattern::new(&selector.text)?, policy.id);
            }
            continue;
        }
        for selector in &workload.selectors {
            let by: Arc<str> = selector.to_string().into();
            if selector.kind == SelectorKind::Cgroup {
                patterns.add_by(CgroupPattern::new(&selector.text)?, policy.id, Arc::clone(&by));
            }
            for place in selector.places() {
                patterns.add_by(CgroupPattern::at(&place, &by)?, policy.id, Arc::clone(&by));
            }
        }
    }
    Ok(patterns)
}

/// Names as they are resolved now and as workloads were told them, and the host's own addresses as they are now.
pub(super) fn resolved(names: Addresses, learned: &Learned) -> io::Result<Resolved> {
    Ok(Resolved {
        names,
        told: learned.addresses(),
        unproven: learned.unproven(),
        local: local::networks()?,
    })
}

/// What a policy does with destinations that it does not protect.
pub(super) fn rules(policy: &WorkloadPolicy) -> Rules {
    Rules {
        egress: policy.doc.workload.egress,
        dns: Terms::of(policy).is_some(),
    }
}

/// Tells the kernel side what each policy protects. Works by difference.
pub(super) fn protect(kernel: &Kernel, set: &PolicySet, resolved: &Resolved) -> Result<(), KernelError> {
    let all = set.protected(resolved);
    for policy in set.policies() {
        let wanted: BTreeSet<Protected> = all
            .iter()
            .filter(|entry| entry.policy == policy.id)
            .map(|entry| Protected {
                network: entry.net,
                port: entry.port,
            })
            .collect();
        kernel.set_protected(policy.id, &wanted)?;
    }
    Ok(())
}

/// After how long the host's addresses are read again when the kernel does not say that they changed.
pub(super) const AGAIN_IN: Duration = Duration::from_secs(1);

/// How often it is looked whether the programs are still attached.
const LOOK: Duration = Duration::from_secs(5);

/// After how many looks a fault that stays is said again.
const AGAIN: u32 = 12;

/// Looks, for as long as the agent runs, whether its programs are still attached. Whoever may detach them may do so at
/// any time; from then on managed cgroups are open, and nothing but this tells.
pub(super) async fn watch_links(kernel: Arc<Kernel>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut faults: u32 = 0;
    loop {
        tick.tick().await;
        match kernel.check_links() {
            Ok(()) => {
                if faults > 0 {
                    tracing::info!("the programs of the kernel side are attached again");
                }
                faults = 0;
            }
            Err(error) => {
                if faults.is_multiple_of(AGAIN) {
                    tracing::error!(%error, "MANAGED CGROUPS MAY BE OPEN");
                }
                faults = faults.wrapping_add(1);
            }
        }
    }
}

/// Reads the kernel side's events: they are advisory, the record comes from the proxy's own accept.
pub(super) async fn heed(mut events: EventStream, expander: Expander, egress: Arc<Egress>) {
    loop {
        let event = match events.next().await {
            Ok(event) => event,
            Err(error) => {
                tracing::error!(%error, "events of the kernel side cannot be read any more; enforcement is not affected");
                return;
            }
        };
        match event.kind {
            EventKind::NoListener | EventKind::ListenerAwaited => {
                if let Err(error) = expander.heed(&event) {
                    tracing::warn!(%error, "cannot listen in a workload's network namespace; its connections are refused");
                }
            }
            // What goes on and on is in the list, with a count.
            kind if !egress.note(&event) => tracing::debug!(?kind, address = %event.address, "kernel side"),
            kind => tracing::info!(
                ?kind,
                address = %event.address,
                process = event.tgid,
                command = event.comm,
                cgroup = %event.cgroup,
                "kernel side"
            ),
        }
    }
}
