//! Addresses of protected names as workloads were told them. Bounded; holds no clock.
//!
//! An address stays protected for as long as the answer stands, and for an hour at least: programs keep addresses for
//! longer than they should.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::answer::{Alias, Told};
use super::name::DnsName;
use crate::model::PolicyId;

/// Addresses of protected names, by policy: what one workload was told says nothing to another.
#[derive(Debug, Default)]
pub struct Learned {
    policies: BTreeMap<PolicyId, Names>,
}

#[derive(Debug, Default)]
struct Names {
    addresses: BTreeMap<DnsName, BTreeMap<IpAddr, Known>>,
    aliases: BTreeMap<DnsName, (DnsName, Instant)>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    /// When the answer has ended.
    stands_until: Instant,
    /// When it is no longer protected.
    kept_until: Instant,
    /// Whether a nameserver that is believed has said so.
    proven: bool,
}

/// One address or alias, as it is kept for the next agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedName {
    policy: PolicyId,
    name: String,
    to: SavedTarget,
    /// Seconds since the epoch (UTC).
    stands_until: u64,
    kept_until: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum SavedTarget {
    Address { address: IpAddr, proven: bool },
    Alias(String),
}

/// A name has more addresses than are kept, and all of them still stand. What cannot be protected must not be told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} has more than {MOST_ADDRESSES} addresses at a time")]
pub struct TooMany {
    /// The name.
    pub name: DnsName,
}

/// Addresses of a name that are kept at a time.
pub const MOST_ADDRESSES: usize = 1024;

/// Aliases of a policy that are kept at a time; the one that ends first gives way.
const MOST_ALIASES: usize = 4096;

const SHORTEST: Duration = Duration::from_hours(1);
const LONGEST: Duration = Duration::from_hours(7 * 24);

impl Learned {
    /// Learns what a workload is about to be told. Whether anything is new.
    pub fn learn(
        &mut self,
        policy: PolicyId,
        told: &[Told],
        aliases: &[Alias],
        proven: bool,
        now: Instant,
    ) -> Result<bool, TooMany> {
        let names = self.policies.entry(policy).or_default();
        let mut changed = false;
        for told in told {
            changed |= names.learn(told, proven, now)?;
        }
        for alias in aliases {
            names.alias(alias, now);
        }
        Ok(changed)
    }

    /// Forgets what has been kept for long enough. Whether there was anything.
    pub fn expire(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for names in self.policies.values_mut() {
            names.aliases.retain(|_, (_, until)| *until > now);
            names.addresses.retain(|_, known| {
                let before = known.len();
                known.retain(|_, known| known.kept_until > now);
                changed |= known.len() != before;
                !known.is_empty()
            });
        }
        changed
    }

    /// Forgets every policy that `kept` does not have.
    pub fn retain(&mut self, kept: impl Fn(PolicyId) -> bool) {
        self.policies.retain(|policy, _| kept(*policy));
    }

    /// The protected name that led to `alias` before.
    pub fn name_of(&self, policy: PolicyId, alias: &DnsName) -> Option<DnsName> {
        let (name, _) = self.policies.get(&policy)?.aliases.get(alias)?;
        Some(name.clone())
    }

    /// Everything, for the next agent. `unix`: what time it is, since the epoch.
    pub fn saved(&self, now: Instant, unix: Duration) -> Vec<SavedName> {
        let at = |until: Instant| (unix + until.saturating_duration_since(now)).as_secs();
        let mut saved = Vec::new();
        for (policy, names) in &self.policies {
            for (name, addresses) in &names.addresses {
                saved.extend(addresses.iter().map(|(address, known)| SavedName {
                    policy: *policy,
                    name: name.as_str().to_owned(),
                    to: SavedTarget::Address {
                        address: *address,
                        proven: known.proven,
                    },
                    stands_until: at(known.stands_until),
                    kept_until: at(known.kept_until),
                }));
            }
            saved.extend(names.aliases.iter().map(|(alias, (name, until))| SavedName {
                policy: *policy,
                name: name.as_str().to_owned(),
                to: SavedTarget::Alias(alias.as_str().to_owned()),
                stands_until: at(*until),
                kept_until: at(*until),
            }));
        }
        saved
    }

    /// What an agent before this one knew, as far as it still stands.
    pub fn restored(saved: Vec<SavedName>, now: Instant, unix: Duration) -> Self {
        let mut learned = Self::default();
        for entry in saved {
            let left = |until: u64| Duration::from_secs(until).saturating_sub(unix).min(LONGEST);
            let kept = left(entry.kept_until);
            if kept.is_zero() {
                continue;
            }
            let names = learned.policies.entry(entry.policy).or_default();
            let name = DnsName::new(&entry.name);
            match entry.to {
                SavedTarget::Address { address, proven } => {
                    let of_name = names.addresses.entry(name).or_default();
                    if of_name.len() < MOST_ADDRESSES {
                        of_name.insert(
                            address,
                            Known {
                                stands_until: now + left(entry.stands_until),
                                kept_until: now + kept,
                                proven,
                            },
                        );
                    }
                }
                SavedTarget::Alias(alias) => {
                    if names.aliases.len() < MOST_ALIASES {
                        names.aliases.insert(DnsName::new(&alias), (name, now + kept));
                    }
                }
            }
        }
        learned
    }

    /// All addresses, by policy and name.
    pub fn addresses(&self) -> BTreeMap<PolicyId, BTreeMap<String, Vec<IpAddr>>> {
        self.collect(|_| true)
            .into_iter()
            .map(|(policy, names)| {
                let names = names
                    .into_iter()
                    .map(|(name, addresses)| (name, addresses.into_iter().collect()));
                (policy, names.collect())
            })
            .collect()
    }

    /// Those of them that no nameserver which is believed has said.
    pub fn unproven(&self) -> BTreeMap<PolicyId, BTreeMap<String, BTreeSet<IpAddr>>> {
        self.collect(|known| !known.proven)
    }

    fn collect(
        &self,
        wanted: impl Fn(&Known) -> bool,
    ) -> BTreeMap<PolicyId, BTreeMap<String, BTreeSet<IpAddr>>> {
        let mut all = BTreeMap::new();
        for (policy, names) in &self.policies {
            for (name, known) in &names.addresses {
                let addresses: BTreeSet<IpAddr> = known
                    .iter()
                    .filter(|(_, known)| wanted(known))
                    .map(|(address, _)| *address)
                    .collect();
                if !addresses.is_empty() {
                    let of_policy: &mut BTreeMap<_, _> = all.entry(*policy).or_default();
                    of_policy.insert(name.as_str().to_owned(), addresses);
                }
            }
        }
        all
    }
}

impl Names {
    fn learn(&mut self, told: &Told, proven: bool, now: Instant) -> Result<bool, TooMany> {
        let (stands_until, kept_until) = ends(told.ttl, now);
        let of_name = self.addresses.entry(told.name.clone()).or_default();
        if let Some(known) = of_name.get_mut(&told.address) {
            let changed = proven && !known.proven;
            known.stands_until = known.stands_until.max(stands_until);
            known.kept_until = known.kept_until.max(kept_until);
            known.proven |= proven;
            return Ok(changed);
        }
        if of_name.len() >= MOST_ADDRESSES {
            let ended = of_name
                .iter()
                .filter(|(_, known)| known.stands_until <= now)
                .min_by_key(|(_, known)| known.kept_until)
                .map(|(address, _)| *address);
            let Some(ended) = ended else {
                return Err(TooMany {
                    name: told.name.clone(),
                });
            };
            of_name.remove(&ended);
        }
        of_name.insert(
            told.address,
            Known {
                stands_until,
                kept_until,
                proven,
            },
        );
        Ok(true)
    }

    fn alias(&mut self, alias: &Alias, now: Instant) {
        let (_, until) = ends(alias.ttl, now);
        self.aliases
            .insert(alias.alias.clone(), (alias.name.clone(), until));
        if self.aliases.len() > MOST_ALIASES {
            let first = self
                .aliases
                .iter()
                .min_by_key(|(_, (_, until))| *until)
                .map(|(alias, _)| alias.clone());
            if let Some(first) = first {
                self.aliases.remove(&first);
            }
        }
    }
}

/// When an answer has ended, and until when it is kept.
fn ends(ttl: u32, now: Instant) -> (Instant, Instant) {
    let stands = Duration::from_secs(u64::from(ttl)).min(LONGEST);
    (now + stands, now + stands.max(SHORTEST))
}
