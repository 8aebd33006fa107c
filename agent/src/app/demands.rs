//! What policies demand of the host (`require` in `[workload]`), and what is weaker than on a better one.

use crate::config::{Demand, PolicyDoc};
use crate::kernel::{Kernel, Tier};
use crate::policy::PolicySet;

/// Why the host is not good enough for a policy; `None`: it is.
pub(super) fn unmet(kernel: &Kernel, doc: &PolicyDoc) -> Option<String> {
    doc.workload.require.iter().find_map(|demand| {
        let (tier, name) = match demand {
            Demand::Lsm => (Tier::Lsm, "every program on security hooks (require = [\"lsm\"])"),
        };
        let lack = kernel.lacks_tier(tier)?;
        Some(format!(
            "{}: workload {} demands {name}, and this host has not {}: {}. The workload is not managed on such a host; \
             remove the demand to accept what is weaker (docs/threat-model.md)",
            doc.path.display(),
            doc.workload.name,
            lack.program,
            lack.reason
        ))
    })
}

/// The same for every policy of a set.
pub(super) fn all_unmet(kernel: &Kernel, set: &PolicySet) -> Vec<String> {
    set.policies()
        .iter()
        .filter_map(|policy| unmet(kernel, &policy.doc))
        .collect()
}

/// What is weaker here, a sentence each.
pub(super) fn warnings(kernel: &Kernel) -> Vec<String> {
    kernel.weaker().iter().map(ToString::to_string).collect()
}
