//! Unix sockets of services: what the kernel side is told of their paths, and what it tells of who connected.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_common::{
    PENDING_POLICY, UNIX_LISTENERS, UNIX_PATH_MAX, UnixFlowKey, UnixFlowRecord, UnixKey, UnixPath, UnixRule,
    unix_path,
};
use aya::maps::{HashMap, MapData, MapError};

use super::maps::ignore_missing;
use super::programs::Hook;
use super::{Kernel, KernelError};
use crate::model::{CgroupId, PolicyId, SocketPath};

/// What becomes of a connection to a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixTreatment {
    /// It goes to the agent's listener at this path. The same last component in any other directory is refused.
    Redirect(PathBuf),
    /// It is refused as if nobody listened there, so that a library tries its next way.
    Absent,
}

/// How far connections to unix sockets of services are under control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixTier {
    /// They are redirected; a link of another name to the socket is refused too where `links` says so.
    Redirected {
        /// Whether a security hook sees which socket is really connected to.
        links: bool,
    },
    /// A security hook refuses them.
    Refused {
        /// Why they are not redirected.
        reason: String,
    },
    /// Nothing stops them.
    Open {
        /// Why.
        reason: String,
    },
}

/// What the kernel side knows of a redirected connection to a unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixOrigin {
    /// Policy under which it was redirected.
    pub policy: PolicyId,
    /// The managed cgroup: the process's own or an ancestor.
    pub managed_cgroup: CgroupId,
    /// The process's own cgroup.
    pub cgroup: CgroupId,
    /// Time of the connect, since boot (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
    /// Process that called connect, in the initial pid namespace.
    pub tgid: u32,
    /// Its user, in the initial user namespace.
    pub uid: u32,
    /// Name of its thread, other than printable ASCII escaped. For people only: a process chooses it freely.
    pub comm: String,
}

/// What is in `UNIX_NAMES`, by policy, and the map.
pub(super) struct UnixNames {
    map: HashMap<MapData, UnixKey, UnixRule>,
    policies: BTreeMap<u32, BTreeMap<UnixPath, UnixRule>>,
}

impl Kernel {
    /// Makes `wanted` the unix sockets that `policy` has redirected or refused. Works by difference; what stays is in force
    /// throughout.
    pub fn set_unix(
        &self,
        policy: PolicyId,
        wanted: &BTreeMap<SocketPath, UnixTreatment>,
    ) -> Result<(), KernelError> {
        super::host::check_number(policy)?;
        self.maps.lock().unix_names.set(policy.0, wanted)
    }

    /// What is known of the process `tgid` that an accepted connection to the listener of `path` came from; `None`: it was
    /// not redirected, and has to be closed. It stays known for a while, since a process may connect twice before the
    /// first is accepted.
    pub fn unix_flow(&self, path: &SocketPath, tgid: u32) -> Result<Option<UnixOrigin>, KernelError> {
        let key = UnixFlowKey {
            slot: path.slot(),
            tgid,
            reserved: 0,
        };
        match self.maps.lock().unix_flows.get(&key, 0) {
            Ok(record) => Ok(Some(origin(tgid, &record))),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map("UNIX_FLOWS", "a look-up")(error)),
        }
    }

    /// How far connections to unix sockets of services are under control on this host.
    pub fn unix_tier(&self) -> UnixTier {
        let lacking = |wanted: &dyn Fn(Hook) -> bool| self.lacks(wanted);
        let redirects = lacking(&|hook| hook == Hook::Unix(super::kfunc::UnixHook::CONNECT));
        let links = lacking(&|hook| hook == Hook::Lsm("unix_stream_connect"));
        match (redirects, links) {
            (None, links) => UnixTier::Redirected {
                links: links.is_none(),
            },
            (Some(reason), None) => UnixTier::Refused { reason },
            (Some(reason), Some(_)) => UnixTier::Open { reason },
        }
    }
}

impl UnixNames {
    /// Works on with what is in the map: an earlier agent may have filled it.
    pub(super) fn new(map: HashMap<MapData, UnixKey, UnixRule>) -> Result<Self, KernelError> {
        let mut policies: BTreeMap<u32, BTreeMap<UnixPath, UnixRule>> = BTreeMap::new();
        for entry in &map {
            let (key, rule) = entry.map_err(KernelError::map("UNIX_NAMES", "a listing"))?;
            policies.entry(key.policy).or_default().insert(key.name, rule);
        }
        Ok(Self { map, policies })
    }

    pub(super) fn set(
        &mut self,
        policy: u32,
        wanted: &BTreeMap<SocketPath, UnixTreatment>,
    ) -> Result<(), KernelError> {
        let (rules, listeners) = rules(wanted)?;
        let mut all_listeners = self.policies.get(&UNIX_LISTENERS).cloned().unwrap_or_default();
        all_listeners.extend(listeners);
        // What is new is there before what is old goes, for processes that are not classified yet as well.
        let mut policies = self.policies.clone();
        policies.insert(policy, rules.clone());
        policies.retain(|number, _| *number != PENDING_POLICY && *number != UNIX_LISTENERS);
        self.replace(PENDING_POLICY, pending(&policies))?;
        self.replace(policy, rules)?;
        let used = |name: &UnixPath| {
            policies
                .values()
                .flat_map(BTreeMap::values)
                .any(|rule| rule.listener == *name)
        };
        all_listeners.retain(|name, _| used(name));
        self.replace(UNIX_LISTENERS, all_listeners)
    }

    /// Makes `rules` those of the number `policy` in the map.
    fn replace(&mut self, policy: u32, rules: BTreeMap<UnixPath, UnixRule>) -> Result<(), KernelError> {
        let now = self.policies.entry(policy).or_default();
        for (name, rule) in &rules {
            if now.get(name) != Some(rule) {
                let key = UnixKey { policy, name: *name };
                self.map
                    .insert(key, rule, 0)
                    .map_err(KernelError::map("UNIX_NAMES", "an insert"))?;
                now.insert(*name, *rule);
            }
        }
        let gone: Vec<UnixPath> = now
            .keys()
            .filter(|name| !rules.contains_key(*name))
            .copied()
            .collect();
        for name in gone {
            ignore_missing(self.map.remove(&UnixKey { policy, name }))
                .map_err(KernelError::map("UNIX_NAMES", "a removal"))?;
            now.remove(&name);
        }
        Ok(())
    }
}

pub(super) type Rules = BTreeMap<UnixPath, UnixRule>;

/// The rules of a policy by name, and what each listener stands for.
pub(super) fn rules(wanted: &BTreeMap<SocketPath, UnixTreatment>) -> Result<(Rules, Rules), KernelError> {
    let (mut rules, mut listeners) = (Rules::new(), Rules::new());
    for (path, treatment) in wanted {
        let rule = match treatment {
            UnixTreatment::Absent => rule(agent_common::UnixAction::Absent, 0, &[0; UNIX_PATH_MAX]),
            UnixTreatment::Redirect(listener) => {
                let listener = listener_path(listener)?;
                rules.insert(
                    name(path.last_component())?,
                    rule(agent_common::UnixAction::Refuse, 0, &[0; UNIX_PATH_MAX]),
                );
                let asked = name(path.as_str())?;
                listeners.insert(
                    listener,
                    rule(agent_common::UnixAction::Redirect, path.slot(), &asked),
                );
                rule(agent_common::UnixAction::Redirect, path.slot(), &listener)
            }
        };
        for called in path.names() {
            rules.insert(name(&called)?, rule);
        }
    }
    Ok((rules, listeners))
}

/// What any policy protects is refused to processes that are not classified yet. What a policy only refuses is not.
fn pending(policies: &BTreeMap<u32, Rules>) -> Rules {
    policies
        .values()
        .flatten()
        .filter(|(_, rule)| rule.action() != agent_common::UnixAction::Absent)
        .map(|(name, _)| {
            let refuse = rule(agent_common::UnixAction::Refuse, 0, &[0; UNIX_PATH_MAX]);
            (*name, refuse)
        })
        .collect()
}

fn rule(action: agent_common::UnixAction, slot: u64, listener: &UnixPath) -> UnixRule {
    let length = listener.iter().take_while(|byte| **byte != 0).count();
    UnixRule {
        action: action as u32,
        length: u32::try_from(length).unwrap_or(0),
        slot,
        listener: *listener,
        reserved: 0,
    }
}

fn name(text: &str) -> Result<UnixPath, KernelError> {
    unix_path(text.as_bytes()).ok_or_else(|| KernelError::SocketPath { path: text.into() })
}

fn listener_path(path: &Path) -> Result<UnixPath, KernelError> {
    unix_path(path.as_os_str().as_bytes()).ok_or_else(|| KernelError::SocketPath {
        path: path.to_owned(),
    })
}

fn origin(tgid: u32, record: &UnixFlowRecord) -> UnixOrigin {
    let name = record.comm.split(|byte| *byte == 0).next().unwrap_or_default();
    UnixOrigin {
        policy: PolicyId(record.policy),
        managed_cgroup: CgroupId(record.managed_cgroup),
        cgroup: CgroupId(record.cgroup),
        since_boot: Duration::from_nanos(record.boottime),
        tgid,
        uid: record.uid,
        comm: name.escape_ascii().to_string(),
    }
}
