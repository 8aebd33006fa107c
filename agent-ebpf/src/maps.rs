//! The maps. Each is pinned by the agent, under its name here, and used by the agents after it: whoever changes what an
//! entry looks like or means raises `agent_common::LAYOUT`.

use agent_common::{
    AskedNameservers, CgroupClass, FlowRecord, HostFacts, Ip128, MAX_OBSERVED, Observed, ObservedKey,
    PATH_BYTES, PatternTable, PatternTurn, PolicyRules, Port, ProtectedKey, ProxyPorts, Stat, TupleKey,
    UnixFlowKey, UnixFlowRecord, UnixKey, UnixRule, Waited,
};
use aya_ebpf::btf_maps::SkStorage;
use aya_ebpf::macros::{btf_map, map};
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf};

/// Entries are allocated as they are needed: `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;

/// Value of `REPORTED`.
#[derive(PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Destination {
    pub(crate) ip: Ip128,
    pub(crate) port: Port,
}

/// What holds for the whole host.
#[map]
pub(crate) static HOST: Array<HostFacts> = Array::with_max_entries(1, 0);

/// Cgroup id to what the agent knows of it.
#[map]
pub(crate) static CGROUPS: HashMap<u64, CgroupClass> = HashMap::with_max_entries(65_536, NO_PREALLOC);

/// What the policies' patterns say of new cgroups: two tables, of which one counts while the agent writes the other.
#[map]
pub(crate) static PATTERNS: Array<PatternTable> = Array::with_max_entries(2, 0);

/// Which of them counts.
#[map]
pub(crate) static PATTERNS_TURN: Array<PatternTurn> = Array::with_max_entries(1, 0);

/// The path of the cgroup that is being made. Not pinned.
#[map]
pub(crate) static CGROUP_PATH: PerCpuArray<[u8; PATH_BYTES]> = PerCpuArray::with_max_entries(1, 0);

/// Policy number to its rules.
#[map]
pub(crate) static POLICIES: HashMap<u32, PolicyRules> = HashMap::with_max_entries(4_096, NO_PREALLOC);

/// What is protected: longest prefix of (policy, port, address).
#[map]
pub(crate) static PROTECTED: LpmTrie<ProtectedKey, u32> = LpmTrie::with_max_entries(262_144, NO_PREALLOC);

/// The proxy's ports.
#[map]
pub(crate) static PROXY: Array<ProxyPorts> = Array::with_max_entries(1, 0);

/// The one thread (`tgid << 32 | pid`) that may bind the proxy's ports at this moment; 0: nobody.
#[map]
pub(crate) static BINDER: Array<u64> = Array::with_max_entries(1, 0);

/// The agent's process (thread group in the initial pid namespace); 0: there is none.
#[map]
pub(crate) static AGENT: Array<u32> = Array::with_max_entries(1, 0);

/// Redirected connections whose SYN is out and that the agent has not accepted yet. Preallocated, so that an
/// insert fails only when it is full; not LRU, which would forget one connection for another.
#[map]
pub(crate) static TUPLES: HashMap<TupleKey, FlowRecord> = HashMap::with_max_entries(65_536, 0);

/// On a workload's socket: what it asked for. Freed with the socket.
#[btf_map]
pub(crate) static ORIGINAL: SkStorage<FlowRecord> = SkStorage::new();

/// On a workload's datagram socket: the nameservers that it asked by way of the agent. Freed with the socket.
#[btf_map]
pub(crate) static ASKED: SkStorage<AskedNameservers> = SkStorage::new();

/// Queries on their way to the agent. LRU, because nothing hangs on an entry that is forgotten: its query is dropped by
/// the agent, and asked again by the workload.
#[map]
pub(crate) static QUERIES: LruHashMap<TupleKey, FlowRecord> = LruHashMap::with_max_entries(16_384, 0);

/// On a workload's datagram socket: the destination that was reported last, so that each is reported once in a row.
#[btf_map]
pub(crate) static REPORTED: SkStorage<Destination> = SkStorage::new();

/// On a workload's socket: it was made in a network namespace where the agent did not listen, by a process of a managed
/// cgroup, so that its packets are that cgroup's. Freed with the socket.
#[btf_map]
pub(crate) static BORN: SkStorage<u32> = SkStorage::new();

/// On the agent's sockets that workloads are sent to: 1. One without it is somebody else's, whatever its port.
#[btf_map]
pub(crate) static LISTENERS: SkStorage<u32> = SkStorage::new();

/// What policies say of paths of unix sockets, and which path each listener of the agent's stands for.
#[map]
pub(crate) static UNIX_NAMES: HashMap<UnixKey, UnixRule> = HashMap::with_max_entries(16_384, NO_PREALLOC);

/// Connections to unix sockets that were redirected lately. Preallocated like `TUPLES`.
#[map]
pub(crate) static UNIX_FLOWS: HashMap<UnixFlowKey, UnixFlowRecord> = HashMap::with_max_entries(65_536, 0);

/// What workloads reach or try to around the services of their policies. Not LRU: what is forgotten then is not known to
/// be forgotten. The agent makes room.
#[map]
pub(crate) static OBSERVED: HashMap<ObservedKey, Observed> =
    HashMap::with_max_entries(MAX_OBSERVED, NO_PREALLOC);

/// When the agent last gave a sign of life, ns of `CLOCK_MONOTONIC`; 0: it is not there, or nobody is to wait for it.
#[map]
pub(crate) static ALIVE: Array<u64> = Array::with_max_entries(1, 0);

/// Managed cgroup to how long its connects have waited for the agent. One that is forgotten for another begins anew.
#[map]
pub(crate) static WAITED: LruHashMap<u64, Waited> = LruHashMap::with_max_entries(4_096, 0);

/// Network namespace, by its cookie, to when the agent was last told that a workload is there, ns of `CLOCK_MONOTONIC`; 0:
/// it listens there. One that is forgotten for another is told of again.
#[map]
pub(crate) static NAMESPACES: LruHashMap<u64, u64> = LruHashMap::with_max_entries(4_096, 0);

/// Events, for people; may be lost.
#[map]
pub(crate) static EVENTS: RingBuf = RingBuf::with_byte_size(256 * 1024, 0);

/// Counters.
#[map]
pub(crate) static STATS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Stat::COUNT, 0);
