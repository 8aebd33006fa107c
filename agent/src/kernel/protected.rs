//! The map of protected destinations, changed by difference while connections are judged by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv6Addr, SocketAddr};

use agent_common::{PENDING_POLICY, PROTECTED_FIXED_BITS, Port, ProtectedKey};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{MapData, MapError};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

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
    pub(super) fn normal(self) -> Self {
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
    /// Works on with what is in the map: an earlier agent may have filled it.
    pub(super) fn new(map: LpmTrie<MapData, ProtectedKey, u32>) -> Result<Self, KernelError> {
        let mut policies: BTreeMap<u32, BTreeSet<Protected>> = BTreeMap::new();
        for key in map.keys() {
            let key = key.map_err(KernelError::map("PROTECTED", "a listing"))?;
            let (policy, entry) = parse(&key);
            policies.entry(policy).or_default().insert(entry);
        }
        let pending = policies.remove(&PENDING_POLICY).unwrap_or_default();
        Ok(Self {
            map,
            policies,
            pending,
        })
    }

    /// Policies that protect something.
    pub(super) fn policies(&self) -> impl Iterator<Item = u32> {
        self.policies.keys().copied()
    }

    /// Makes `wanted` the protected destinations of `policy`. What stays is not touched; what is new is there before
    /// what is old goes.
    pub(super) fn set(&mut self, policy: u32, wanted: &BTreeSet<Protected>) -> Result<(), KernelError> {
        let wanted: BTreeSet<Protected> = wanted.iter().map(|entry| entry.normal()).collect();
        let now = self.policies.get(&policy).cloned().unwrap_or_default();
        for entry in wanted.difference(&now) {
            self.insert(PENDING_POLICY, entry)?;
            self.pending.insert(*entry);
            self.insert(policy, entry)?;
            self.policies.entry(policy).or_default().insert(*entry);
        }
        for entry in now.difference(&wanted) {
            remove(&mut self.map, policy, entry)?;
            if let Some(entries) = self.policies.get_mut(&policy) {
                entries.remove(entry);
            }
        }
        self.policies.retain(|_, entries| !entries.is_empty());
        let union: BTreeSet<Protected> = self.policies.values().flatten().copied().collect();
        for entry in self.pending.difference(&union) {
            // Borrowing `self.pending` and the map apart.
            remove(&mut self.map, PENDING_POLICY, entry)?;
        }
        self.pending = union;
        Ok(())
    }

    /// Whether `policy` protects `address`, by the same look-up that the kernel side does.
    pub(super) fn covers(&self, policy: u32, address: SocketAddr) -> Result<bool, KernelError> {
        for port in [address.port(), 0] {
            let entry = Protected {
                network: IpNet::from(address.ip().to_canonical()),
                port,
            };
            match self.map.get(&key(policy, &entry), 0) {
                Ok(_) => return Ok(true),
                Err(MapError::KeyNotFound) => {}
                Err(error) => return Err(KernelError::map("PROTECTED", "a look-up")(error)),
            }
        }
        Ok(false)
    }

    fn insert(&mut self, policy: u32, entry: &Protected) -> Result<(), KernelError> {
        self.map
            .insert(&key(policy, entry), 1, 0)
            .map_err(KernelError::map("PROTECTED", "an insert"))
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

pub(super) fn key(policy: u32, entry: &Protected) -> Key<ProtectedKey> {
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

/// The policy and the entry of a key of the map.
fn parse(key: &Key<ProtectedKey>) -> (u32, Protected) {
    let data = key.data();
    let bits = key.prefix_len().saturating_sub(PROTECTED_FIXED_BITS);
    let address = Ipv6Addr::from(data.ip.octets());
    let network = Ipv6Net::new(address, u8::try_from(bits).unwrap_or(128)).unwrap_or_else(|_| address.into());
    let entry = Protected {
        network: IpNet::V6(network),
        port: u16::try_from(data.port.0).unwrap_or(0),
    };
    (data.policy, entry.normal())
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

    #[test]
    fn a_key_of_the_map_is_the_entry_that_it_was_made_of() {
        for network in [
            "10.0.4.0/24",
            "192.0.2.7/32",
            "0.0.0.0/0",
            "2001:db8::/64",
            "::/0",
            "::1/128",
        ] {
            let entry = Protected {
                network: network.parse().unwrap(),
                port: 5432,
            };
            assert_eq!(parse(&key(7, &entry)), (7, entry));
        }
    }
}
