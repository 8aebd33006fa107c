//! A visit to a kernel side that somebody else loaded: a policy number and cgroups of the visitor's own, put into the
//! pinned maps and taken out again. With it `tollgate doctor` tries the very programs that guard this host.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

use agent_common::{
    CgroupClass, EventKind, FlowRecord, PENDING_POLICY, PatternTurn, PolicyRules, ProtectedKey, ProxyPorts,
    Stat, TupleKey, UNIX_LISTENERS, UnixKey, UnixRule,
};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, SkStorage};

use super::error::with_sources;
use super::flows;
use super::generation::{self, Generation};
use super::maps::ignore_missing;
use super::protected::key;
use super::unix::rules;
use super::{FlowOrigin, KernelError, Protected, ProxyAddresses, Rules, Standing, UnixTreatment};
use crate::model::{CgroupId, NetnsCookie, PolicyId, SocketPath};

/// The pinned maps, and what the visitor put into them. Dropped, it takes all of that out again.
pub struct Visit {
    policy: PolicyId,
    pin_dir: PathBuf,
    cgroups: HashMap<MapData, u64, CgroupClass>,
    patterns_turn: Array<MapData, PatternTurn>,
    policies: HashMap<MapData, u32, PolicyRules>,
    protected: LpmTrie<MapData, ProtectedKey, u32>,
    proxy: Array<MapData, ProxyPorts>,
    agent: Array<MapData, u32>,
    tuples: HashMap<MapData, TupleKey, FlowRecord>,
    listeners: SkStorage<MapData, u32>,
    stats: PerCpuArray<MapData, u64>,
    classified: Vec<u64>,
    inserted: Vec<Key<ProtectedKey>>,
    unix_names: HashMap<MapData, UnixKey, UnixRule>,
    unix_inserted: Vec<UnixKey>,
}

impl Visit {
    /// Opens the maps of the newest programs pinned below `pin_dir`; `None`: nothing is pinned there. Fails if they are
    /// another version's, whose maps mean something else.
    pub fn open(pin_dir: &Path) -> Result<Option<Self>, KernelError> {
        generation::check_layout(pin_dir)?;
        let Some(generation) = Generation::all(pin_dir).pop() else {
            return Ok(None);
        };
        if !generation.is_of_this_version() {
            return Err(KernelError::PinDirectory {
                path: pin_dir.to_owned(),
                reason: "what is pinned there is of an older version of Tollgate: start this version's agent, which \
                         replaces it, or examine it with that version's `tollgate doctor`"
                    .to_owned(),
            });
        }
        let policies: HashMap<_, u32, PolicyRules> = open(&generation, "POLICIES")?;
        Ok(Some(Self {
            policy: free_number(&policies)?,
            pin_dir: pin_dir.to_owned(),
            policies,
            cgroups: open(&generation, "CGROUPS")?,
            patterns_turn: open(&generation, "PATTERNS_TURN")?,
            protected: open(&generation, "PROTECTED")?,
            proxy: open(&generation, "PROXY")?,
            agent: open(&generation, "AGENT")?,
            tuples: open(&generation, "TUPLES")?,
            listeners: open(&generation, "LISTENERS")?,
            stats: open(&generation, "STATS")?,
            classified: Vec::new(),
            inserted: Vec::new(),
            unix_names: open(&generation, "UNIX_NAMES")?,
            unix_inserted: Vec::new(),
        }))
    }

    /// The visitor's policy: a number that no policy of the host has.
    pub fn policy(&self) -> PolicyId {
        self.policy
    }

    /// Where the programs and maps are pinned.
    pub fn pin_dir(&self) -> &Path {
        &self.pin_dir
    }

    /// Says what the visitor's policy does with destinations that it does not protect.
    pub fn set_policy(&mut self, rules: Rules) -> Result<(), KernelError> {
        self.policies
            .insert(self.policy.0, rules.encoded(), 0)
            .map_err(KernelError::map("POLICIES", "an insert"))
    }

    /// Puts a cgroup of the visitor's own under the visitor's policy.
    pub fn manage(&mut self, cgroup: CgroupId) -> Result<(), KernelError> {
        self.classify(cgroup, CgroupClass::managed(self.policy.0))
    }

    /// Says of a cgroup of the visitor's own that it is under no policy, and that what is made below it may be
    /// (`watched`).
    pub fn leave_free(&mut self, cgroup: CgroupId, watched: bool) -> Result<(), KernelError> {
        self.classify(cgroup, CgroupClass::unmanaged(watched))
    }

    /// Marked, so that a running agent leaves it as it is.
    fn classify(&mut self, cgroup: CgroupId, class: CgroupClass) -> Result<(), KernelError> {
        self.classified.push(cgroup.0);
        self.cgroups
            .insert(cgroup.0, class.of_visitor(), 0)
            .map_err(KernelError::map("CGROUPS", "an insert"))
    }

    /// Takes back what was said of a cgroup of the visitor's own, by the visitor or by the kernel side.
    pub fn forget(&mut self, cgroup: CgroupId) -> Result<(), KernelError> {
        ignore_missing(self.cgroups.remove(&cgroup.0)).map_err(KernelError::map("CGROUPS", "a removal"))
    }

    /// Whether a pattern of some policy might match a cgroup directly below the root.
    pub fn patterns_watch_the_root(&self) -> Result<bool, KernelError> {
        let turn = self.patterns_turn.get(&0, 0);
        let turn = turn.map_err(KernelError::map("PATTERNS_TURN", "a look-up"))?;
        Ok(turn.watched != 0)
    }

    /// What the kernel side knows of a cgroup; `None`: nothing yet.
    pub fn standing_of(&self, cgroup: CgroupId) -> Result<Option<Standing>, KernelError> {
        match self.cgroups.get(&cgroup.0, 0) {
            Ok(class) if class.policy != 0 => Ok(Some(Standing::Managed(PolicyId(class.policy)))),
            Ok(class) => Ok(Some(Standing::Unmanaged {
                watched: class.is_watched(),
            })),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(KernelError::map("CGROUPS", "a look-up")(error)),
        }
    }

    /// Every managed cgroup that the kernel side knows, the visitor's own excepted.
    pub fn managed(&self) -> Vec<(CgroupId, PolicyId)> {
        self.cgroups
            .iter()
            .flatten()
            .filter(|(_, class)| class.policy != 0 && class.policy != self.policy.0)
            .map(|(cgroup, class)| (CgroupId(cgroup), PolicyId(class.policy)))
            .collect()
    }

    /// Protects a destination for the visitor's policy.
    pub fn protect(&mut self, destination: &Protected) -> Result<(), KernelError> {
        self.insert(key(self.policy.0, &destination.normal()))
    }

    /// Protects a destination for processes whose cgroup is not classified yet.
    pub fn protect_for_pending(&mut self, destination: &Protected) -> Result<(), KernelError> {
        let key = key(PENDING_POLICY, &destination.normal());
        if self.protected.get(&key, 0).is_ok() {
            // Some policy protects it anyway; it must stay when the visit is over.
            return Ok(());
        }
        self.insert(key)
    }

    fn insert(&mut self, key: Key<ProtectedKey>) -> Result<(), KernelError> {
        self.inserted.push(key);
        self.protected
            .insert(&key, 1, 0)
            .map_err(KernelError::map("PROTECTED", "an insert"))
    }

    /// Has connections to the unix socket at `path` go to `listener`, for the visitor's policy.
    pub fn redirect_unix(&mut self, path: &SocketPath, listener: &Path) -> Result<(), KernelError> {
        let wanted = BTreeMap::from([(path.clone(), UnixTreatment::Redirect(listener.to_owned()))]);
        let (rules, listeners) = rules(&wanted)?;
        let own = rules.into_iter().map(|entry| (self.policy.0, entry));
        let all = listeners.into_iter().map(|entry| (UNIX_LISTENERS, entry));
        for (policy, (name, rule)) in all.chain(own) {
            let key = UnixKey { policy, name };
            self.unix_inserted.push(key);
            self.unix_names
                .insert(key, rule, 0)
                .map_err(KernelError::map("UNIX_NAMES", "an insert"))?;
        }
        Ok(())
    }

    /// Takes out what the visitor protected.
    pub fn release(&mut self) -> Result<(), KernelError> {
        while let Some(key) = self.unix_inserted.pop() {
            ignore_missing(self.unix_names.remove(&key))
                .map_err(KernelError::map("UNIX_NAMES", "a removal"))?;
        }
        while let Some(key) = self.inserted.pop() {
            ignore_missing(self.protected.remove(&key))
                .map_err(KernelError::map("PROTECTED", "a removal"))?;
        }
        Ok(())
    }

    /// Where the agent listens, in whichever network namespace; zeros: nowhere.
    pub fn proxy(&self) -> Result<ProxyAddresses, KernelError> {
        let ports = self
            .proxy
            .get(&0, 0)
            .map_err(KernelError::map("PROXY", "a look-up"))?;
        Ok(ProxyAddresses {
            v4: u16::try_from(ports.v4).unwrap_or(0),
            v6: u16::try_from(ports.v6).unwrap_or(0),
            dns: u16::try_from(ports.dns).unwrap_or(0),
        })
    }

    /// The process of the agent that loaded the programs, which may have ended since.
    pub fn agent(&self) -> Result<u32, KernelError> {
        self.agent
            .get(&0, 0)
            .map_err(KernelError::map("AGENT", "a look-up"))
    }

    /// Marks a listening socket as the proxy's.
    pub fn mark_listener(&mut self, socket: impl AsFd) -> Result<(), KernelError> {
        let socket = socket.as_fd().as_raw_fd();
        self.listeners
            .insert(&socket, 1, 0)
            .map_err(KernelError::map("LISTENERS", "an insert"))
    }

    /// Takes what is known of an accepted connection, as [`super::Kernel::take_flow`] does.
    pub fn take_flow(
        &mut self,
        peer: SocketAddr,
        local: SocketAddr,
        netns: NetnsCookie,
    ) -> Result<Option<FlowOrigin>, KernelError> {
        flows::take(&mut self.tuples, peer, local, netns)
    }

    /// How often `kind` has happened on this host.
    pub fn count(&self, kind: EventKind) -> Result<u64, KernelError> {
        let values = self
            .stats
            .get(&Stat::of(kind).0, 0)
            .map_err(KernelError::map("STATS", "a look-up"))?;
        Ok(values.iter().sum())
    }

    fn leave(&mut self) -> Result<(), KernelError> {
        // Cgroups last: until then their processes are under a policy that protects nothing, and not under another.
        self.release()?;
        ignore_missing(self.policies.remove(&self.policy.0))
            .map_err(KernelError::map("POLICIES", "a removal"))?;
        while let Some(cgroup) = self.classified.pop() {
            ignore_missing(self.cgroups.remove(&cgroup)).map_err(KernelError::map("CGROUPS", "a removal"))?;
        }
        Ok(())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(error) = self.leave() {
            tracing::error!(%error, policy = %self.policy, "what was put into the kernel side for a test is still there");
        }
    }
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit")
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

fn open<M: TryFrom<Map, Error = MapError>>(
    generation: &Generation,
    name: &'static str,
) -> Result<M, KernelError> {
    MapData::from_pin(generation.map(name))
        .and_then(Map::from_map_data)
        .and_then(M::try_from)
        .map_err(|error| KernelError::Map {
            map: name,
            operation: "an opening of its pin",
            reason: with_sources(&error),
        })
}

/// Policies of the host are numbered from 1, visitors from the other end.
fn free_number(policies: &HashMap<MapData, u32, PolicyRules>) -> Result<PolicyId, KernelError> {
    let mut number = UNIX_LISTENERS - 1;
    loop {
        match policies.get(&number, 0) {
            Ok(_) => number -= 1,
            Err(MapError::KeyNotFound) => return Ok(PolicyId(number)),
            Err(error) => return Err(KernelError::map("POLICIES", "a look-up")(error)),
        }
    }
}
