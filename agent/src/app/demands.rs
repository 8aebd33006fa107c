//! What policies demand of the host (`require` in `[workload]`), and what is weaker than on a better one.

use crate::config::{Demand, PolicyDoc, Problem, Problems, locate};
use crate::kernel::{Kernel, Lacking, Tier};
use crate::policy::PolicySet;

/// Why the host is not good enough for a policy, with its file and line; `None`: it is. `lacking`: programs that the
/// kernel refuses.
pub(super) fn unmet(lacking: &[Lacking], doc: &PolicyDoc) -> Option<String> {
    doc.workload.require.iter().find_map(|demand| {
        let (tier, what, how) = match demand {
            Demand::Lsm => (
                Tier::Lsm,
                "every program on security hooks (require = [\"lsm\"])",
                "boot a kernel that takes them, with bpf in the list after lsm= on its command line",
            ),
        };
        let lack = tier.lack(lacking)?;
        let message = format!(
            "the workload \"{}\" demands {what}, and this host's kernel refuses {}: {}",
            doc.workload.name, lack.program, lack.reason
        );
        let help = format!(
            "{how}, or remove the demand to accept what is weaker then (docs/threat-model.md); as it is, the policy does not \
             begin to count"
        );
        let text = doc.text.as_str();
        let at = locate(text, "/workload/require").unwrap_or_default();
        let problem = Problem::error(at, message).with_help(help);
        Some(Problems::new(&doc.path, text, vec![problem]).to_string())
    })
}

/// The same for every policy of a set.
pub(super) fn all_unmet(lacking: &[Lacking], set: &PolicySet) -> Vec<String> {
    set.policies()
        .iter()
        .filter_map(|policy| unmet(lacking, &policy.doc))
        .collect()
}

/// What is weaker here, a sentence each.
pub(super) fn warnings(kernel: &Kernel) -> Vec<String> {
    kernel.weaker().iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::parse_policy;

    fn lacking(program: &'static str, reason: &str) -> Vec<Lacking> {
        vec![Lacking {
            program,
            reason: reason.to_owned(),
        }]
    }

    #[test]
    fn a_demand_that_is_not_met_is_named_with_its_line_and_what_to_do() {
        let policy = |require: &str| {
            let text = format!("[workload]\nname = \"a\"\ncgroup = [\"/a\"]\n{require}\n");
            parse_policy(Path::new("/etc/p.d/a.toml"), &text).unwrap()
        };
        let hook = lacking("tollgate_bpf", "bpf is not among the active security modules");
        let other = lacking("tollgate_mkdir", "no such tracepoint");
        let demanding = policy("require = [\"lsm\"]");
        let said = unmet(&hook, &demanding).unwrap();
        for part in [
            "/etc/p.d/a.toml:4:11: the workload \"a\" demands",
            "tollgate_bpf: bpf is not among",
            "lsm= on its command line",
        ] {
            assert!(said.contains(part), "{said}");
        }
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(unmet(&other, &demanding), None);
        assert_eq!(unmet(&[], &demanding), None);
        assert_eq!(unmet(&hook, &policy("require = []")), None);
        assert_eq!(unmet(&hook, &policy("")), None);
    }
}
