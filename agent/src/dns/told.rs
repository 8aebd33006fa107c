//! Which names workloads were told an address for: what people want to read beside an address. Bounded; holds no clock.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use super::name::DnsName;
use crate::model::PolicyId;

/// Names by policy and address.
#[derive(Debug, Default)]
pub struct Names {
    policies: BTreeMap<PolicyId, OfPolicy>,
}

#[derive(Debug, Default)]
struct OfPolicy {
    names: BTreeMap<IpAddr, VecDeque<DnsName>>,
    /// Addresses in the order in which they were first told.
    order: VecDeque<IpAddr>,
}

/// Addresses of a policy that are remembered; the oldest gives way.
const MOST_ADDRESSES: usize = 8192;
/// Names of an address that are remembered, of which the last told stay.
const MOST_NAMES: usize = 4;

impl Names {
    /// Remembers that `policy` was told `address` for `name`.
    pub fn tell(&mut self, policy: PolicyId, address: IpAddr, name: &DnsName) {
        let of_policy = self.policies.entry(policy).or_default();
        if !of_policy.names.contains_key(&address) {
            of_policy.order.push_back(address);
            if of_policy.order.len() > MOST_ADDRESSES
                && let Some(oldest) = of_policy.order.pop_front()
            {
                of_policy.names.remove(&oldest);
            }
        }
        let names = of_policy.names.entry(address).or_default();
        names.retain(|known| known != name);
        names.push_back(name.clone());
        if names.len() > MOST_NAMES {
            names.pop_front();
        }
    }

    /// The names for which `policy` was told `address`, the last told first.
    pub fn of(&self, policy: PolicyId, address: IpAddr) -> Vec<DnsName> {
        let of_policy = self.policies.get(&policy);
        of_policy
            .and_then(|of_policy| of_policy.names.get(&address.to_canonical()))
            .map(|names| names.iter().rev().cloned().collect())
            .unwrap_or_default()
    }

    /// Forgets every policy that `kept` does not have.
    pub fn retain(&mut self, kept: impl Fn(PolicyId) -> bool) {
        self.policies.retain(|policy, _| kept(*policy));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: PolicyId = PolicyId(7);

    #[test]
    fn the_last_names_of_an_address_are_remembered_for_their_workload() {
        let mut names = Names::default();
        let address: IpAddr = "192.0.2.1".parse().unwrap();
        for name in ["a", "b", "c", "a", "d", "e"] {
            names.tell(POLICY, address, &DnsName::new(name));
        }
        let known: Vec<String> = names
            .of(POLICY, address)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(known, ["e", "d", "a", "c"]);
        assert_eq!(names.of(POLICY, "::ffff:192.0.2.1".parse().unwrap()).len(), 4);
        assert!(names.of(PolicyId(8), address).is_empty());
        names.retain(|policy| policy != POLICY);
        assert!(names.of(POLICY, address).is_empty());
    }

    #[test]
    fn the_oldest_address_gives_way() {
        let mut names = Names::default();
        let address = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        for number in 0..=MOST_ADDRESSES {
            names.tell(POLICY, address(number), &DnsName::new("a"));
        }
        assert!(names.of(POLICY, address(0)).is_empty());
        assert_eq!(names.of(POLICY, address(1)).len(), 1);
        assert_eq!(names.of(POLICY, address(MOST_ADDRESSES)).len(), 1);
    }
}
