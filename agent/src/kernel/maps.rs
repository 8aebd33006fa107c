//! The maps of the loaded object, as the agent holds them.

use std::io;

use agent_common::{
    CgroupClass, EgressMode, FlowRecord, HostFacts, Observed, ObservedKey, Outcome, PENDING_POLICY,
    PatternTable, PatternTurn, PolicyRules, ProxyPorts, TupleKey, UnixFlowKey, UnixFlowRecord,
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
    host: Array<MapData, HostFacts>,
    pub(super) cgroups: HashMap<MapData, u64, CgroupClass>,
    pub(super) patterns: PatternMaps,
    pub(super) policies: HashMap<MapData, u32, PolicyRules>,
    pub(super) protected: ProtectedMap,
    pub(super) proxy: Array<MapData, ProxyPorts>,
    agent: Array<MapData, u32>,
    pub(super) tuples: HashMap<MapData, TupleKey, FlowRecord>,
    pub(super) queries: HashMap<MapData, TupleKey, FlowRecord>,
    pub(super) listeners: SkStorage<MapData, u32>,
    pub(super) unix_names: UnixNames,
    pub(super) unix_flows: HashMap<MapData, UnixFlowKey, UnixFlowRecord>,
    pub(super) observed: HashMap<MapData, ObservedKey, Observed>,
    pub(super) alive: Array<MapData, u64>,
    pub(super) namespaces: HashMap<MapData, u64, u64>,
    pub(super) stats: PerCpuArray<MapData, u64>,
}

impl Maps {
    /// Says that this process is the agent.
    pub(super) fn set_agent(&mut self) -> Result<(), KernelError> {
        self.agent
            .set(0, std::process::id(), 0)
            .map_err(KernelError::map("AGENT", "an update"))
    }

    /// Changes what holds for the whole host.
    pub(super) fn set_host(
        &mut self,
        change: impl FnOnce(HostFacts) -> HostFacts,
    ) -> Result<(), KernelError> {
        let facts = self
            .host
            .get(&0, 0)
            .map_err(KernelError::map("HOST", "a look-up"))?;
        self.host
            .set(0, change(facts), 0)
            .map_err(KernelError::map("HOST", "an update"))
    }

    /// Says what becomes of processes that are not classified yet: what the strictest policy refuses is refused, and their
    /// DNS is steered if that of any policy is, since they may turn out to be under it.
    pub(super) fn judge_the_pending(&mut self) -> Result<(), KernelError> {
        let mut strictest = EgressMode::Allow;
        let mut steered = false;
        for entry in &self.policies {
            let (policy, rules) = entry.map_err(KernelError::map("POLICIES", "a listing"))?;
            if policy == PENDING_POLICY {
                continue;
            }
            steered |= rules.steers_dns();
            strictest = match (strictest, rules.egress()) {
                (EgressMode::Deny, _) | (_, EgressMode::Deny) => EgressMode::Deny,
                (EgressMode::Observe, _) | (_, EgressMode::Observe) => EgressMode::Observe,
                (EgressMode::Allow, EgressMode::Allow) => EgressMode::Allow,
            };
        }
        let rules = PolicyRules {
            egress: strictest as u32,
            dns: u32::from(steered),
        };
        self.policies
            .insert(PENDING_POLICY, rules, 0)
            .map_err(KernelError::map("POLICIES", "an insert"))?;
        self.set_host(|facts| facts.with_dns(steered))
    }
}

/// What the patterns say of new cgroups: of two tables one counts while the other is written.
pub(super) struct PatternMaps {
    tables: Array<MapData, PatternTable>,
    turn: Array<MapData, PatternTurn>,
}

impl PatternMaps {
    /// Makes `table` the one that counts.
    pub(super) fn set(&mut self, table: &PatternTable) -> Result<(), KernelError> {
        let turn = self
            .turn
            .get(&0, 0)
            .map_err(KernelError::map("PATTERNS_TURN", "a look-up"))?
            .turn
            .wrapping_add(1);
        self.tables
            .set(turn & 1, table, 0)
            .map_err(KernelError::map("PATTERNS", "an update"))?;
        let watched = u32::from(table.outcome(0) == Outcome::WATCHED);
        self.turn
            .set(0, PatternTurn { turn, watched }, 0)
            .map_err(KernelError::map("PATTERNS_TURN", "an update"))
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
                host: take(ebpf, "HOST")?,
                cgroups: take(ebpf, "CGROUPS")?,
                patterns: PatternMaps {
                    tables: take(ebpf, "PATTERNS")?,
                    turn: take(ebpf, "PATTERNS_TURN")?,
                },
                policies: take(ebpf, "POLICIES")?,
                protected: ProtectedMap::new(take(ebpf, "PROTECTED")?)?,
                proxy: take(ebpf, "PROXY")?,
                agent: take(ebpf, "AGENT")?,
                tuples: take(ebpf, "TUPLES")?,
                queries: take(ebpf, "QUERIES")?,
                listeners: take(ebpf, "LISTENERS")?,
                unix_names: UnixNames::new(take(ebpf, "UNIX_NAMES")?)?,
                unix_flows: take(ebpf, "UNIX_FLOWS")?,
                observed: take(ebpf, "OBSERVED")?,
                alive: take(ebpf, "ALIVE")?,
                namespaces: take(ebpf, "NAMESPACES")?,
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
