//! The maps of the loaded object, as the agent holds them.

use std::io;

use agent_common::{
    CgroupClass, EgressMode, FlowRecord, PENDING_POLICY, PolicyRules, ProxyPorts, TupleKey, UnixFlowKey,
    UnixFlowRecord,
};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, RingBuf, SkStorage};

use super::error::with_sources;
use super::generation::Generation;
use super::protected::ProtectedMap;
use super::unix::UnixNames;
use super::{EventStream, KernelError, programs};

/// The maps that the agent writes and reads, behind one lock.
pub(super) struct Maps {
    pub(super) cgroups: HashMap<MapData, u64, CgroupClass>,
    pub(super) policies: HashMap<MapData, u32, PolicyRules>,
    pub(super) protected: ProtectedMap,
    pub(super) proxy: Array<MapData, ProxyPorts>,
    pub(super) tuples: HashMap<MapData, TupleKey, FlowRecord>,
    pub(super) queries: HashMap<MapData, TupleKey, FlowRecord>,
    pub(super) listeners: SkStorage<MapData, u32>,
    pub(super) unix_names: UnixNames,
    pub(super) unix_flows: HashMap<MapData, UnixFlowKey, UnixFlowRecord>,
    pub(super) stats: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Says what becomes of processes that are not classified yet: their DNS is steered if that of any policy is, since
    /// they may turn out to be under it. The rest passes.
    pub(super) fn judge_the_pending(&mut self) -> Result<(), KernelError> {
        let mut steered = false;
        for entry in &self.policies {
            let (policy, rules) = entry.map_err(KernelError::map("POLICIES", "a listing"))?;
            steered |= policy != PENDING_POLICY && rules.steers_dns();
        }
        let rules = PolicyRules {
            egress: EgressMode::Allow as u32,
            dns: u32::from(steered),
        };
        self.policies
            .insert(PENDING_POLICY, rules, 0)
            .map_err(KernelError::map("POLICIES", "an insert"))
    }
}

/// What is taken out of the loaded object.
pub(super) struct Parts {
    pub(super) maps: Maps,
    pub(super) binders: Vec<Array<MapData, u64>>,
    pub(super) events: EventStream,
}

impl Parts {
    pub(super) fn take(ebpf: &mut Ebpf, previous: &[Generation]) -> Result<Self, KernelError> {
        let mut binders = vec![take(ebpf, "BINDER")?];
        for generation in previous {
            let path = generation.map("BINDER");
            let opened = MapData::from_pin(&path)
                .and_then(Map::from_map_data)
                .and_then(Array::try_from);
            match opened {
                Ok(binder) => binders.push(binder),
                // Pinned by an agent that died before it had pinned everything, so it guards nothing either.
                Err(error) => {
                    tracing::debug!(path = %path.display(), error = with_sources(&error), "no old binder");
                }
            }
        }
        Ok(Self {
            binders,
            events: EventStream::new(take::<RingBuf<MapData>>(ebpf, "EVENTS")?)?,
            maps: Maps {
                cgroups: take(ebpf, "CGROUPS")?,
                policies: take(ebpf, "POLICIES")?,
                protected: ProtectedMap::new(take(ebpf, "PROTECTED")?)?,
                proxy: take(ebpf, "PROXY")?,
                tuples: take(ebpf, "TUPLES")?,
                queries: take(ebpf, "QUERIES")?,
                listeners: take(ebpf, "LISTENERS")?,
                unix_names: UnixNames::new(take(ebpf, "UNIX_NAMES")?)?,
                unix_flows: take(ebpf, "UNIX_FLOWS")?,
                stats: take(ebpf, "STATS")?,
            },
        })
    }
}

/// Takes the map `name` out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<M, KernelError> {
    let map = ebpf.take_map(name).ok_or_else(|| programs::missing_map(name))?;
    M::try_from(map).map_err(KernelError::map(name, "an opening"))
}

/// An entry that is not there does not have to be removed.
pub(super) fn ignore_missing(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
