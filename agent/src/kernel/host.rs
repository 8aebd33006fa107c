//! The loaded kernel side: one value that owns the programs and their maps.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};

use agent_common::{EgressMode, PENDING_POLICY, PolicyRules, ProxyPorts};
use aya::maps::{Array, MapData};
use parking_lot::Mutex;

use super::cgroup2::Cgroup2;
use super::generation::{Found, Generation};
use super::link::PinnedLink;
use super::maps::{Maps, Parts, ignore_missing};
use super::programs::{Hook, Lacking, PROGRAMS};
use super::resend::Resend;
use super::{EventStream, KernelError, Protected, ProxyAddresses, bpffs, generation, programs, requirements};
use crate::config::Egress;
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// How to load.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// Directory for pins, of Tollgate alone: below a bpffs (`/sys/fs/bpf/tollgate`), else a bpffs is mounted on it.
    pub pin_dir: PathBuf,
}

impl KernelOptions {
    /// Pins at `/sys/fs/bpf/tollgate` where a bpffs is mounted there, else on a bpffs of its own at `bpf` in
    /// `run_dir`, for as long as anything is pinned.
    pub fn for_host(run_dir: &Path) -> Self {
        let usual = Path::new("/sys/fs/bpf");
        let pin_dir = if bpffs::is_bpffs(usual).unwrap_or(false) {
            usual.join("tollgate")
        } else {
            run_dir.join("bpf")
        };
        Self { pin_dir }
    }
}

/// What a policy does with destinations that it does not protect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What it does with them.
    pub egress: Egress,
    /// Whether TCP and UDP to port 53 goes to the agent, which asks the nameserver and hears its answer first.
    pub dns: bool,
}

impl From<Egress> for Rules {
    /// DNS is left alone.
    fn from(egress: Egress) -> Self {
        Self { egress, dns: false }
    }
}

impl Rules {
    pub(super) fn encoded(self) -> PolicyRules {
        let mode = match self.egress {
            Egress::Allow => EgressMode::Allow,
            Egress::Deny => EgressMode::Deny,
            Egress::Observe => EgressMode::Observe,
        };
        PolicyRules {
            egress: mode as u32,
            dns: u32::from(self.dns),
        }
    }
}

/// The loaded programs and their maps.
///
/// Dropped, it leaves everything pinned: managed cgroups stay closed. [`Kernel::uninstall`] opens them.
pub struct Kernel {
    options: KernelOptions,
    pub(super) generation: Generation,
    adopted: bool,
    previous: Mutex<Vec<Generation>>,
    pub(super) cgroup2: Cgroup2,
    /// The root of the hierarchy, which the programs are attached to.
    pub(super) root: CgroupId,
    pub(super) own: CgroupPath,
    pub(super) maps: Mutex<Maps>,
    lacking: Vec<Lacking>,
    pub(super) resend: Resend,
    /// `BINDER` of this generation and of those before it, which still guard the ports that they know.
    binders: Mutex<Vec<Array<MapData, u64>>>,
}

impl Kernel {
    /// Checks the host, loads, attaches and pins. Must be called inside a tokio runtime.
    ///
    /// Where an earlier agent left pins of the same layout, its maps go on being used, with everything in them, and its
    /// links run this agent's programs from here on, without a moment in between. Programs of an older layout stay
    /// attached beside this agent's, so that nothing opens up before it has said what is managed and protected; then
    /// call [`Kernel::take_over`]. If anything fails, what was not there before is removed.
    pub fn load(options: &KernelOptions) -> Result<(Self, EventStream), KernelError> {
        requirements::check()?;
        let cgroup2 = Cgroup2::discover()?;
        let own = cgroup2.own()?;
        let root = cgroup2
            .id_of(&CgroupPath("/".into()))
            .ok_or(KernelError::NoCgroup2)?;
        bpffs::prepare(&options.pin_dir)?;
        let found = Found::look(&options.pin_dir)?;
        let loaded = cgroup2.open_root().and_then(|root| {
            let mut loaded = programs::load(&found.current)?;
            programs::attach(&mut loaded, &root, &found.current)?;
            found.current.remove_strangers()?;
            let resend = Resend::new(&loaded, &found.current)?;
            let parts = Parts::take(&mut loaded.ebpf, &found.previous)?;
            Ok((loaded.lacking, resend, parts))
        });
        let (lacking, resend, parts) = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                if let Err(left) = give_up(options, &found.current, found.adopted, &found.previous) {
                    tracing::error!(%left, "what was pinned of a failed start could not be removed");
                }
                return Err(error);
            }
        };
        let kernel = Self {
            options: options.clone(),
            generation: found.current,
            adopted: found.adopted,
            previous: Mutex::new(found.previous),
            cgroup2,
            root,
            own,
            maps: Mutex::new(parts.maps),
            lacking,
            resend,
            binders: Mutex::new(parts.binders),
        };
        kernel.maps.lock().set_agent()?;
        // An agent that was killed while it bound would have left the ports to whoever gets its number.
        set_binder(&mut kernel.binders.lock(), 0)?;
        Ok((kernel, parts.events))
    }

    /// Whether the kernel would take this agent's programs, and whether it could work with what is pinned. Changes
    /// nothing. Gives the programs that the kernel refuses and that the agent can do without.
    pub fn check(options: &KernelOptions) -> Result<Vec<Lacking>, KernelError> {
        requirements::check()?;
        Cgroup2::discover()?.own()?;
        generation::check_layout(&options.pin_dir)?;
        programs::try_load()
    }

    /// Whether an earlier agent's maps are used, so that what it said still stands.
    pub fn is_adopted(&self) -> bool {
        self.adopted
    }

    /// Removes the programs of earlier agents that could not be adopted. To be called when cgroups, policies, protected
    /// destinations and listeners are set; until then managed cgroups are refused what they protected.
    pub fn take_over(&self) -> Result<(), KernelError> {
        let mut previous = self.previous.lock();
        while let Some(generation) = previous.pop() {
            generation.remove()?;
        }
        self.binders.lock().truncate(1);
        Ok(())
    }

    /// Removes the programs of this agent alone, because its start failed half-way. What was there before it stays, and
    /// what that closed stays closed; so nothing is removed if it was adopted.
    pub fn abandon(&self) -> Result<(), KernelError> {
        give_up(
            &self.options,
            &self.generation,
            self.adopted,
            &self.previous.lock(),
        )
    }

    /// Removes every program, map and pin below the pin directory, also an earlier agent's, and the bpffs if one was
    /// mounted for it. Managed cgroups are open afterwards.
    pub fn uninstall(options: &KernelOptions) -> Result<(), KernelError> {
        generation::remove_all(&options.pin_dir)
    }

    /// The hierarchy that the programs are attached to.
    pub fn cgroup2(&self) -> &Cgroup2 {
        &self.cgroup2
    }

    /// Says where the agent listens. From now on nobody but the agent can bind these ports, in any network
    /// namespace, whether the agent runs or not.
    pub fn set_proxy(&self, addresses: ProxyAddresses) -> Result<(), KernelError> {
        let ports = ProxyPorts {
            v4: u32::from(addresses.v4),
            v6: u32::from(addresses.v6),
            dns: u32::from(addresses.dns),
            reserved: 0,
        };
        self.maps
            .lock()
            .proxy
            .set(0, ports, 0)
            .map_err(KernelError::map("PROXY", "an update"))
    }

    /// Runs `work` as the one thread of the host that may bind the proxy's ports. Other threads wait for their turn;
    /// `work` must not call this again.
    pub fn with_proxy_ports<T>(&self, work: impl FnOnce() -> T) -> Result<T, KernelError> {
        let thread = u64::try_from(nix::unistd::gettid().as_raw()).unwrap_or(0);
        let mut binders = self.binders.lock();
        set_binder(&mut binders, u64::from(std::process::id()) << 32 | thread)?;
        let result = work();
        set_binder(&mut binders, 0)?;
        Ok(result)
    }

    /// Where the agent listens, or an earlier one did.
    pub fn proxy(&self) -> Result<ProxyAddresses, KernelError> {
        let maps = self.maps.lock();
        let ports = maps
            .proxy
            .get(&0, 0)
            .map_err(KernelError::map("PROXY", "a look-up"))?;
        let port = |port: u32| u16::try_from(port).unwrap_or(0);
        Ok(ProxyAddresses {
            v4: port(ports.v4),
            v6: port(ports.v6),
            dns: port(ports.dns),
        })
    }

    /// Marks a listening socket as the agent's. Connections are redirected to marked sockets alone.
    pub fn mark_listener(&self, socket: impl AsFd) -> Result<(), KernelError> {
        let socket = socket.as_fd().as_raw_fd();
        self.maps
            .lock()
            .listeners
            .insert(&socket, 1, 0)
            .map_err(KernelError::map("LISTENERS", "an insert"))
    }

    /// Whether a socket is marked as the agent's, by this one or by one whose pins were adopted.
    pub fn is_marked(&self, socket: impl AsFd) -> bool {
        let socket = socket.as_fd().as_raw_fd();
        self.maps.lock().listeners.get(&socket, 0).is_ok()
    }

    /// Says what `policy` does with destinations that it does not protect.
    ///
    /// [`Egress::Deny`] refuses every connect, TCP and UDP, and every datagram to what no service of the policy
    /// names, loopback included, with EPERM; so a policy that denies steers DNS, or resolves no names.
    pub fn set_policy(&self, policy: PolicyId, rules: impl Into<Rules>) -> Result<(), KernelError> {
        check_number(policy)?;
        let rules = rules.into();
        let mut maps = self.maps.lock();
        maps.policies
            .insert(policy.0, rules.encoded(), 0)
            .map_err(KernelError::map("POLICIES", "an insert"))?;
        maps.judge_the_pending()
    }

    /// Forgets `policy` and what it protects. Cgroups that are still under it are refused every connection.
    pub fn remove_policy(&self, policy: PolicyId) -> Result<(), KernelError> {
        let mut maps = self.maps.lock();
        maps.protected.set(policy.0, &BTreeSet::new())?;
        maps.unix_names.set(policy.0, &BTreeMap::new())?;
        ignore_missing(maps.policies.remove(&policy.0)).map_err(KernelError::map("POLICIES", "a removal"))?;
        maps.judge_the_pending()
    }

    /// Forgets every policy but `kept`, also those that an earlier agent set, and gives the ones that it has forgotten.
    /// To be called when no cgroup is under them any more.
    pub fn retain_policies(&self, kept: &BTreeSet<PolicyId>) -> Result<Vec<PolicyId>, KernelError> {
        let known: BTreeSet<PolicyId> = {
            let maps = self.maps.lock();
            let set: Result<Vec<u32>, _> = maps.policies.keys().collect();
            let set = set.map_err(KernelError::map("POLICIES", "a listing"))?;
            set.into_iter()
                .chain(maps.protected.policies())
                .filter(|policy| *policy != PENDING_POLICY)
                .map(PolicyId)
                .collect()
        };
        let gone: Vec<PolicyId> = known.difference(kept).copied().collect();
        for policy in &gone {
            self.remove_policy(*policy)?;
        }
        Ok(gone)
    }

    /// Makes `wanted` the protected destinations of `policy`. Works by difference, so it can be called whenever a
    /// name resolves differently; destinations that stay are protected throughout.
    pub fn set_protected(&self, policy: PolicyId, wanted: &BTreeSet<Protected>) -> Result<(), KernelError> {
        check_number(policy)?;
        self.maps.lock().protected.set(policy.0, wanted)
    }

    /// Whether `policy` protects `address`, by the same look-up that the kernel side does at a `connect()`.
    pub fn protects(&self, policy: PolicyId, address: SocketAddr) -> Result<bool, KernelError> {
        self.maps.lock().protected.covers(policy.0, address)
    }

    /// Whether the agent listens at `address`.
    pub(super) fn is_proxy(&self, address: SocketAddr) -> bool {
        let Ok(ports) = self.maps.lock().proxy.get(&0, 0) else {
            return false;
        };
        let port = if address.is_ipv4() { ports.v4 } else { ports.v6 };
        address.ip().is_loopback() && port == u32::from(address.port())
    }

    /// Fails if a program is not attached any more, or its link not pinned. Somebody who may do that may do it at any
    /// time, so this is asked again and again.
    pub fn check_links(&self) -> Result<(), KernelError> {
        for spec in PROGRAMS {
            if spec.hook == Hook::SockOps || self.lacking.iter().any(|lack| lack.program == spec.name) {
                continue;
            }
            let path = self.generation.link(spec.name);
            let attached = PinnedLink::open(&path).and_then(|link| match spec.hook {
                Hook::Cgroup | Hook::SockOps | Hook::Unix(_) => link.is_attached_to(self.root.0),
                // These cannot be detached while their link lives.
                Hook::Tracepoint(_) | Hook::Lsm(_) => Ok(true),
            });
            if !attached.unwrap_or(false) {
                return Err(KernelError::Detached { path });
            }
        }
        Ok(())
    }

    /// Programs that this kernel refused, and without which some promises are weaker.
    pub fn lacking(&self) -> &[Lacking] {
        &self.lacking
    }

    /// Why no program hangs on a hook that `wanted` accepts; `None`: one does.
    pub(super) fn lacks(&self, wanted: &dyn Fn(Hook) -> bool) -> Option<String> {
        let Some(spec) = PROGRAMS.iter().find(|spec| wanted(spec.hook)) else {
            return Some("this tollgate has no program for it".to_owned());
        };
        self.lacking
            .iter()
            .find(|lack| lack.program == spec.name)
            .map(|lack| lack.reason.clone())
    }

    /// How it was loaded.
    pub fn options(&self) -> &KernelOptions {
        &self.options
    }
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel")
            .field("generation", &self.generation)
            .field("own", &self.own)
            .finish_non_exhaustive()
    }
}

/// Removes a generation that did not become complete, unless it was one before.
fn give_up(
    options: &KernelOptions,
    generation: &Generation,
    adopted: bool,
    previous: &[Generation],
) -> Result<(), KernelError> {
    if adopted {
        return Ok(());
    }
    generation.remove()?;
    if previous.is_empty() {
        bpffs::remove(&options.pin_dir)?;
    }
    Ok(())
}

pub(super) fn check_number(policy: PolicyId) -> Result<(), KernelError> {
    if policy.0 == PENDING_POLICY {
        Err(KernelError::PolicyZero)
    } else {
        Ok(())
    }
}

fn set_binder(binders: &mut [Array<MapData, u64>], thread: u64) -> Result<(), KernelError> {
    binders
        .iter_mut()
        .try_for_each(|binder| binder.set(0, thread, 0))
        .map_err(KernelError::map("BINDER", "an update"))
}
