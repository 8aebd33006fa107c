//! The map of protected destinations, changed by difference while connections are judged by it.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::{PENDING_POLICY, PROTECTED_FIXED_BITS, Port, ProtectedKey};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use ipnet::{IpNet, Ipv4Net};

use super::KernelError;

/// A network and a TCP port in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Protected {
    /// The network; an address is a /32 or /128.
    pub network: IpNet,
    /// The port; 0: every port.
    pub port: u16,
}

impl Protected {
    /// The one form of entries that the map holds as the same key: no host bits, IPv4 never as mapped IPv6.
    fn normal(self) -> Self {
        let network = match self.network.trunc() {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
                Some(ip) => Ipv4Net::new(ip, v6.prefix_len() - 96).map_or(IpNet::V6(v6), IpNet::V4),
                None => IpNet::V6(v6),
            },
            network => network,
        };
        Self {
            network,
            port: self.port,
        }
    }
}

/// What is in the map, by policy, and the map.
pub(super) struct ProtectedMap {
    map: LpmTrie<MapData, ProtectedKey, u32>,
    policies: BTreeMap<u32, BTreeSet<Protected>>,
    pending: BTreeSet<Protected>,
}

impl ProtectedMap {
    pub(super) fn new(map: LpmTrie<MapData, ProtectedKey, u32>) -> Self {
        Self {
            map,
            policies: BTreeMap::new(),
            pending: BTreeSet::new(),
        }
    }

    /// Makes `wanted` the protected destinations of `policy`. What stays is not touched; what is new is there before
    /// what is old goes.
    pub(super) fn set(&mut self, policy: u32, wanted: &BTreeSet<Protected>) -> Result<(), KernelError> {
        let wanted: BTreeSet<Protected> = wanted.iter().map(|entry| entry.normal()).collect();
        let now = self.policies.get(&policy).cloned().unwrap_or_default();
        for entry in wanted.difference(&now) {
            self.insert(PENDING_POLICY, entry)?;
            self.insert(policy, entry)?;
        }
        for entry in now.difference(&wanted) {
            self.remove(policy, entry)?;
        }
        self.policies.insert(policy, wanted);
        let union: BTreeSet<Protected> = self.policies.values().flatten().copied().collect();
        for entry in self.pending.difference(&union) {
            // Borrowing `self.pending` and the map apart.
            remove(&mut self.map, PENDING_POLICY, entry)?;
        }
        self.pending = union;
        Ok(())
    }

    fn insert(&mut self, policy: u32, entry: &Protected) -> Result<(), KernelError> {
        self.map
            .insert(&key(policy, entry), 1, 0)
            .map_err(KernelError::map("PROTECTED", "an insert"))
    }

    fn remove(&mut self, policy: u32, entry: &Protected) -> Result<(), KernelError> {
        remove(&mut self.map, policy, entry)
    }
}

fn remove(
    map: &mut LpmTrie<MapData, ProtectedKey, u32>,
    policy: u32,
    entry: &Protected,
) -> Result<(), KernelError> {
    match map.remove(&key(policy, entry)) {
        // What an earlier attempt removed before it failed.
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        other => other.map_err(KernelError::map("PROTECTED", "a removal")),
    }
}

fn key(policy: u32, entry: &Protected) -> Key<ProtectedKey> {
    let network = entry.network;
    let bits = match network {
        IpNet::V4(network) => 96 + u32::from(network.prefix_len()),
        IpNet::V6(network) => u32::from(network.prefix_len()),
    };
    Key::new(
        PROTECTED_FIXED_BITS + bits,
        ProtectedKey {
            policy,
            port: Port(u32::from(entry.port)),
            ip: network.network().into(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_the_same_key_are_the_same_entry() {
        let normal = |text: &str| {
            Protected {
                network: text.parse().unwrap(),
                port: 1,
            }
            .normal()
            .network
            .to_string()
        };
        assert_eq!(normal("10.0.4.7/24"), "10.0.4.0/24");
        assert_eq!(normal("::ffff:10.0.4.7/120"), "10.0.4.0/24");
        assert_eq!(normal("2001:db8::1/64"), "2001:db8::/64");
        assert_eq!(normal("::/0"), "::/0");
    }
}
