//! Connections that were open before a destination was protected, or a cgroup managed.
//!
//! `connect()` was judged under what was true then. Such a connection goes straight to its destination, so it is
//! destroyed. Found by the *socket's* cgroup, and by who holds it: a socket that was made outside and brought in
//! (inherited, `SCM_RIGHTS`) is what the second wall does not see. Connections to the agent's own listeners are left
//! alone.
//!
//! Limits: a socket in a network namespace in which no managed process is, held by nobody managed, is left to the
//! second wall. One that is brought in between two looks, used, and closed again is not seen.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use agent_common::ip_protocol;

use super::members::{Member, members};
use super::netns::Netns;
use super::sock_diag::{OpenSocket, SockDiag};
use super::{Kernel, KernelError, ManagedCgroups, ProcessStanding};
use crate::model::{CgroupId, CgroupPath, NetnsCookie, PolicyId};

/// A connection that went around the proxy, and what became of it.
#[derive(Debug)]
pub struct Stray {
    /// Under which policy it is.
    pub policy: PolicyId,
    /// Its network namespace.
    pub netns: NetnsCookie,
    /// Its own end.
    pub local: SocketAddr,
    /// What it was connected to.
    pub remote: SocketAddr,
    /// "TCP" or "UDP".
    pub transport: &'static str,
    /// A managed process that holds it; `None` if there is none, as with one that is closing.
    pub process: Option<u32>,
    /// User who made the socket, in the initial user namespace.
    pub uid: u32,
    /// Cgroup of the process, else of the socket.
    pub cgroup: CgroupId,
    /// Path of `cgroup`.
    pub cgroup_path: CgroupPath,
    /// Whether the socket was made outside and brought in.
    pub brought_in: bool,
    number: usize,
    socket: OpenSocket,
}

/// Strays that were found and not yet destroyed.
#[derive(Debug)]
pub struct Strays {
    found: Vec<Stray>,
    namespaces: Vec<Netns>,
}

/// What this kernel lacks for it, one sentence; `None`: nothing.
pub fn shortcoming() -> io::Result<Option<&'static str>> {
    let mut diag = SockDiag::open()?;
    if !diag.lists(ip_protocol::TCP)? {
        return Ok(Some(
            "this kernel cannot list TCP connections (module tcp_diag): those that were open before are not ended, and one \
             whose socket is brought into a managed cgroup gets through",
        ));
    }
    if !diag.can_destroy()? {
        return Ok(Some(
            "this kernel cannot destroy connections (CONFIG_INET_DIAG_DESTROY): those that were open before are recorded \
             and not ended, and one whose socket is brought into a managed cgroup gets through",
        ));
    }
    if !diag.lists(ip_protocol::UDP)? {
        return Ok(Some(
            "this kernel cannot list UDP sockets (module udp_diag): one that was connected outside and brought into a \
             managed cgroup gets through",
        ));
    }
    Ok(None)
}

impl Strays {
    /// Looks for strays of the processes in `managed`. Reads the kernel's tables of sockets, and the descriptors of
    /// each managed process.
    pub fn find(kernel: &Kernel, managed: &ManagedCgroups) -> Result<Self, KernelError> {
        let mut strays = Self {
            found: Vec::new(),
            namespaces: vec![Netns::own().map_err(KernelError::system("opening the own network namespace"))?],
        };
        if managed.is_empty() {
            return Ok(strays);
        }
        let mut holders: HashMap<u64, Member> = HashMap::new();
        for holder in members(kernel.cgroup2(), managed.values()) {
            for inode in sockets_of(holder.pid) {
                holders.insert(inode, holder.clone());
            }
            strays.enter(holder.pid);
        }
        let mut standings = HashMap::new();
        for (number, netns) in strays.namespaces.iter().enumerate() {
            let failed = || KernelError::system("listing the sockets of a network namespace");
            let sockets = netns
                .run(|| SockDiag::open()?.sockets())
                .and_then(|sockets| sockets)
                .map_err(failed())?;
            for socket in sockets {
                let stray = judge(kernel, socket, &holders, &mut standings, (number, netns.cookie()))?;
                strays.found.extend(stray);
            }
        }
        Ok(strays)
    }

    /// What was found.
    pub fn found(&self) -> &[Stray] {
        &self.found
    }

    /// Destroys one. False: it was gone already.
    pub fn destroy(&self, stray: &Stray) -> io::Result<bool> {
        let netns = self.namespaces.get(stray.number).ok_or(io::ErrorKind::NotFound)?;
        netns.run(|| SockDiag::open()?.destroy(&stray.socket))?
    }

    /// Adds the namespace of a process. One that has ended meanwhile has none.
    fn enter(&mut self, pid: u32) {
        let known = fs::metadata(format!("/proc/{pid}/ns/net")).map(|metadata| metadata.ino());
        let Ok(inode) = known else { return };
        if self.namespaces.iter().all(|netns| netns.inode() != inode)
            && let Ok(netns) = Netns::of_process(pid)
        {
            self.namespaces.push(netns);
        }
    }
}

/// Whether a socket is a stray.
fn judge(
    kernel: &Kernel,
    socket: OpenSocket,
    holders: &HashMap<u64, Member>,
    standings: &mut HashMap<CgroupId, Option<(PolicyId, CgroupPath)>>,
    (number, netns): (usize, NetnsCookie),
) -> Result<Option<Stray>, KernelError> {
    if kernel.is_proxy(socket.remote) {
        return Ok(None);
    }
    let standing = match standings.get(&socket.cgroup) {
        Some(known) => known.clone(),
        None => {
            let standing = standing(kernel, socket.cgroup)?;
            standings.insert(socket.cgroup, standing.clone());
            standing
        }
    };
    let holder = (socket.inode != 0).then(|| holders.get(&socket.inode)).flatten();
    let policies = [
        standing.as_ref().map(|known| known.0),
        holder.map(|holder| holder.policy),
    ];
    for policy in policies.into_iter().flatten() {
        if !kernel.protects(policy, socket.remote)? {
            continue;
        }
        let of_holder = holder.map(|holder| (holder.cgroup, &holder.cgroup_path));
        let of_socket = standing.as_ref().map(|(_, path)| (socket.cgroup, path));
        // One of the two is there, or there were no policy.
        let Some((cgroup, path)) = of_holder.or(of_socket) else {
            continue;
        };
        return Ok(Some(Stray {
            policy,
            netns,
            local: socket.local,
            remote: socket.remote,
            transport: if u32::from(socket.protocol) == ip_protocol::UDP {
                "UDP"
            } else {
                "TCP"
            },
            process: holder.map(|holder| holder.pid),
            uid: socket.uid,
            cgroup,
            cgroup_path: path.clone(),
            brought_in: standing.is_none(),
            number,
            socket,
        }));
    }
    Ok(None)
}

/// Under which policy a cgroup is, and its path. One that is gone is under none here; the second wall knows better.
fn standing(kernel: &Kernel, cgroup: CgroupId) -> Result<Option<(PolicyId, CgroupPath)>, KernelError> {
    let Some(path) = kernel.cgroup2().path_of(cgroup) else {
        return Ok(None);
    };
    Ok(match kernel.standing_of(&path)? {
        ProcessStanding::Managed(policy) => Some((policy, path)),
        ProcessStanding::Free | ProcessStanding::Pending => None,
    })
}

/// Inodes of the sockets that a process holds. One that has ended holds none.
fn sockets_of(pid: u32) -> impl Iterator<Item = u64> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter_map(|target| {
            let number = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            number.parse().ok()
        })
}

#[cfg(test)]
mod tests;
