//! Where promises are tried: cgroups and network namespaces of the doctor's own, with a destination to protect and a
//! proxy that is the doctor itself.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::Ipv6V6Only;
use nix::sys::socket::{Backlog, listen, setsockopt};

use super::leftovers::{self, Name};
use super::workload::{Launcher, Workload};
use super::{DoctorError, Examination, Tried, system};
use crate::config::Egress;
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::netns::Netns;
use crate::kernel::{
    CgroupPattern, Kernel, KernelOptions, Need, Patterns, PinLock, Protected, ProxyAddresses, Rules, Trial,
    Visit, is_bpffs, sockets,
};
use crate::model::{CgroupId, CgroupPath, PolicyId};

/// How long something is waited for that must not come. On a loopback it would be there at once.
pub(super) const BRIEFLY: Duration = Duration::from_millis(20);

/// A kernel side, and everything that is set up to try it. Dropped, it is all taken down.
pub(super) struct Scene {
    // Processes end first, then their cgroups go, then what the maps were told of them, and the programs last.
    inside: Option<Workload>,
    outside: Option<Workload>,
    inside_elsewhere: Option<Workload>,
    outside_elsewhere: Option<Workload>,
    pub(super) cgroups: Cgroups,
    pub(super) visit: Visit,
    _own: Option<OwnKernel>,
    pub(super) tried: Tried,
    pub(super) launcher: Launcher,
    /// Programs that this kernel refuses and that the agent can do without, and why.
    refused: BTreeMap<&'static str, String>,
    /// Where the agent listens in whichever namespace.
    pub(super) proxy: ProxyAddresses,
    /// With destination and proxy.
    pub(super) stage: Netns,
    /// With neither.
    pub(super) elsewhere: Netns,
    proxy_v4: Option<TcpListener>,
    proxy_v6: Option<TcpListener>,
    dns_v4: Option<UdpSocket>,
    dns_v6: Option<UdpSocket>,
    target_v4: TcpListener,
    target_v6: TcpListener,
    target_udp: UdpSocket,
    /// Port of the destination, TCP and UDP, in both families.
    pub(super) port: u16,
}

/// Cgroups of the doctor's own, removed when dropped.
#[derive(Debug)]
pub(super) struct Cgroups {
    /// Under the doctor's policy.
    pub(super) job: PathBuf,
    /// Where a new cgroup might be a workload's.
    pub(super) nursery: PathBuf,
    root: PathBuf,
    cgroup2: Cgroup2,
}

/// A kernel side of the doctor's own, removed when dropped.
struct OwnKernel {
    options: KernelOptions,
    /// Made for the pins alone.
    dir: Option<PathBuf>,
    kernel: Kernel,
}

impl Drop for OwnKernel {
    fn drop(&mut self) {
        if let Err(error) = Kernel::uninstall(&self.options) {
            tracing::error!(%error, "programs that were loaded for the examination are still there");
        }
        if let Some(dir) = &self.dir {
            let _not_empty = fs::remove_dir(dir);
        }
    }
}

/// An address that only this examination uses, on the loopback.
pub(super) const TARGET: Ipv4Addr = Ipv4Addr::new(127, 84, 71, 76);

impl Scene {
    /// Sets it up.
    pub(super) fn new(examination: &Examination<'_>, trials: &[Trial]) -> Result<Self, DoctorError> {
        let cgroup2 = Cgroup2::discover()?;
        leftovers::sweep(&cgroup2, &examination.config.run_dir);
        let name = Name::new();
        let pin_dir = &examination.config.pin_dir;
        let (own, tried, mut visit) = match Visit::open(pin_dir)? {
            Some(visit) => {
                let tried = match PinLock::take_existing(pin_dir) {
                    Ok(_) => Tried::StoppedAgent,
                    Err(_) => Tried::RunningAgent,
                };
                (None, tried, visit)
            }
            None => {
                let own = load(&name, &examination.config.run_dir)?;
                let visit = Visit::open(&own.options.pin_dir)?.ok_or_else(|| {
                    system("finding the pins of the programs just loaded")(io::Error::from(
                        io::ErrorKind::NotFound,
                    ))
                })?;
                (Some(own), Tried::OwnPrograms, visit)
            }
        };
        let proxy = visit.proxy()?;
        let cgroups = Cgroups::make(&name, &cgroup2, &mut visit)?;

        let stage = Netns::create().map_err(system("making a network namespace"))?;
        let elsewhere = Netns::create().map_err(system("making a network namespace"))?;
        let proxy_v4 = proxy_listener(&stage, proxy.v4, false)?;
        let proxy_v6 = proxy_listener(&stage, proxy.v6, true)?;
        for listener in proxy_v4.iter().chain(&proxy_v6) {
            visit.mark_listener(listener)?;
        }
        let dns_v4 = proxy_datagrams(&stage, proxy.dns, false)?;
        let dns_v6 = proxy_datagrams(&stage, proxy.dns, true)?;
        for socket in dns_v4.iter().chain(&dns_v6) {
            visit.mark_listener(socket)?;
        }
        let targets = stage
            .run(|| {
                let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
                let port = v4.local_addr()?.port();
                let v6 = TcpListener::bind((Ipv6Addr::LOCALHOST, port))?;
                let udp = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port))?;
                v4.set_nonblocking(true)?;
                v6.set_nonblocking(true)?;
                udp.set_nonblocking(true)?;
                Ok::<_, io::Error>((v4, v6, udp, port))
            })
            .and_then(|made| made)
            .map_err(system("making a destination to protect"))?;
        let (target_v4, target_v6, target_udp, port) = targets;
        Ok(Self {
            inside: None,
            outside: None,
            inside_elsewhere: None,
            outside_elsewhere: None,
            cgroups,
            visit,
            _own: own,
            tried,
            launcher: examination.launcher.clone(),
            refused: refused(trials),
            proxy,
            stage,
            elsewhere,
            proxy_v4,
            proxy_v6,
            dns_v4,
            dns_v6,
            target_v4,
            target_v6,
            target_udp,
            port,
        })
    }

    /// Protects the destination, under every address of the loopback, and lets the rest pass; whatever earlier attempts left is gone.
    pub(super) fn set(&mut self) -> Result<(), Trouble> {
        self.visit.release()?;
        self.visit.set_policy(Rules {
            egress: Egress::Allow,
            dns: false,
        })?;
        for destination in self.destinations() {
            self.visit.protect(&destination)?;
        }
        self.drain()?;
        Ok(())
    }

    /// What [`Self::set`] protects.
    pub(super) fn destinations(&self) -> [Protected; 2] {
        [
            Protected {
                network: IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
                port: self.port,
            },
            Protected {
                network: IpNet::from(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST)),
                port: self.port,
            },
        ]
    }

    fn drain(&self) -> io::Result<()> {
        for listener in [&self.target_v4, &self.target_v6]
            .into_iter()
            .chain(&self.proxy_v4)
            .chain(&self.proxy_v6)
        {
            while none_yet(listener.accept())?.is_some() {}
        }
        for socket in [&self.target_udp]
            .into_iter()
            .chain(&self.dns_v4)
            .chain(&self.dns_v6)
        {
            while none_yet(socket.recv(&mut [0; 16]))?.is_some() {}
        }
        Ok(())
    }

    /// Why there is nothing to try of a program, in a sentence; `None`: there is.
    pub(super) fn refused(&self, program: &str) -> Option<String> {
        let reason = self.refused.get(program)?;
        Some(format!("this kernel refuses {program}: {reason}"))
    }

    /// The destination on IPv4 or IPv6.
    pub(super) fn target(&self, v6: bool) -> SocketAddr {
        if v6 {
            SocketAddr::from((Ipv6Addr::LOCALHOST, self.port))
        } else {
            SocketAddr::from((TARGET, self.port))
        }
    }

    /// A process under the doctor's policy, on the stage.
    pub(super) fn inside(&mut self) -> io::Result<&mut Workload> {
        let (launcher, job) = (&self.launcher, &self.cgroups.job);
        kept(&mut self.inside, || {
            Workload::start(launcher, &self.stage, Some(job))
        })
    }

    /// A process under no policy, on the stage.
    pub(super) fn outside(&mut self) -> io::Result<&mut Workload> {
        kept(&mut self.outside, || {
            Workload::start(&self.launcher, &self.stage, None)
        })
    }

    /// A process under the doctor's policy, in a namespace without a listener of the doctor's.
    pub(super) fn inside_elsewhere(&mut self) -> io::Result<&mut Workload> {
        let (launcher, job) = (&self.launcher, &self.cgroups.job);
        kept(&mut self.inside_elsewhere, || {
            Workload::start(launcher, &self.elsewhere, Some(job))
        })
    }

    /// A process under no policy, in a namespace without a listener of the doctor's.
    pub(super) fn outside_elsewhere(&mut self) -> io::Result<&mut Workload> {
        kept(&mut self.outside_elsewhere, || {
            Workload::start(&self.launcher, &self.elsewhere, None)
        })
    }

    /// The connection that has come to the proxy.
    pub(super) fn at_proxy(&self, v6: bool) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let listener = if v6 { &self.proxy_v6 } else { &self.proxy_v4 };
        listener
            .as_ref()
            .map_or(Ok(None), |listener| arrived(listener, BRIEFLY))
    }

    /// Whether a connection has come to the destination itself.
    pub(super) fn at_target(&self, v6: bool) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        arrived(if v6 { &self.target_v6 } else { &self.target_v4 }, BRIEFLY)
    }

    /// Whether a datagram has come to the destination.
    pub(super) fn datagram_at_target(&self) -> io::Result<bool> {
        wait(&self.target_udp, BRIEFLY)?;
        Ok(none_yet(self.target_udp.recv(&mut [0; 16]))?.is_some())
    }

    /// Who has sent a datagram to the agent's port for DNS; it is answered.
    pub(super) fn query_at_agent(&self, v6: bool) -> io::Result<Option<SocketAddr>> {
        let socket = if v6 { &self.dns_v6 } else { &self.dns_v4 };
        let Some(socket) = socket else {
            return Ok(None);
        };
        wait(socket, BRIEFLY)?;
        let query = none_yet(socket.recv_from(&mut [0; 16]))?;
        query
            .map(|(_, peer)| socket.send_to(b"y", peer).map(|_| peer))
            .transpose()
    }

    /// Whether IPv6 connections can be redirected; the agent does without where the host has no IPv6.
    pub(super) fn has_v6(&self) -> bool {
        self.proxy_v6.is_some()
    }
}

fn refused(trials: &[Trial]) -> BTreeMap<&'static str, String> {
    let optional = trials
        .iter()
        .filter(|trial| trial.need == Need::WhereTheKernelCan);
    optional
        .filter_map(|trial| Some((trial.program, trial.taken.clone().err()?)))
        .collect()
}

/// Why something could not be tried.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    System(#[from] io::Error),
    #[error(transparent)]
    Kernel(#[from] crate::kernel::KernelError),
}

fn kept(
    place: &mut Option<Workload>,
    start: impl FnOnce() -> io::Result<Workload>,
) -> io::Result<&mut Workload> {
    match place {
        Some(workload) => Ok(workload),
        None => Ok(place.insert(start()?)),
    }
}

/// Something readable on `source` within `limit`.
pub(super) fn wait(source: &impl std::os::fd::AsFd, limit: Duration) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(limit).map_err(io::Error::other)?;
    loop {
        let mut sources = [PollFd::new(source.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            found => return Ok(found? > 0),
        }
    }
}

fn arrived(listener: &TcpListener, limit: Duration) -> io::Result<Option<(TcpStream, SocketAddr)>> {
    wait(listener, limit)?;
    none_yet(listener.accept())
}

fn none_yet<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// A listener on the proxy's port; `None` where there is no port.
fn proxy_listener(netns: &Netns, port: u16, v6: bool) -> Result<Option<TcpListener>, DoctorError> {
    at_port(netns, port, v6, libc::SOCK_STREAM, |socket| {
        listen(&socket, Backlog::new(16)?)?;
        let listener = TcpListener::from(socket);
        listener.set_nonblocking(true)?;
        Ok(listener)
    })
}

/// A socket on the first of the agent's ports for DNS; `None` where there is no port.
fn proxy_datagrams(netns: &Netns, port: u16, v6: bool) -> Result<Option<UdpSocket>, DoctorError> {
    at_port(netns, port, v6, libc::SOCK_DGRAM, |socket| {
        let socket = UdpSocket::from(socket);
        // Nobody reads port 9 (RFC 863); what counts is that the socket has a port afterwards.
        let discard: std::net::IpAddr = if v6 {
            Ipv6Addr::LOCALHOST.into()
        } else {
            Ipv4Addr::LOCALHOST.into()
        };
        socket.send_to(b"x", (discard, 9))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

/// A socket at a port of the agent's, which `take` makes it take; `None` where there is no port.
///
/// Nobody but the agent may bind that port, so it is not bound: an unbound socket that listens or sends is given
/// whichever port is free, and in this namespace one alone is.
fn at_port<T: Send>(
    netns: &Netns,
    port: u16,
    v6: bool,
    kind: i32,
    take: impl FnOnce(OwnedFd) -> io::Result<T> + Send,
) -> Result<Option<T>, DoctorError> {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const LOWEST: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    if port == 0 {
        return Ok(None);
    }
    let made = netns.run(|| {
        let usual = fs::read_to_string(RANGE)?;
        fs::write(LOWEST, "0")?;
        fs::write(RANGE, format!("{port} {port}"))?;
        let family = if v6 { libc::AF_INET6 } else { libc::AF_INET };
        let socket = sockets::open(family, kind, 0)?;
        if v6 {
            setsockopt(&socket, Ipv6V6Only, &true)?;
        }
        let made = take(socket);
        fs::write(RANGE, usual)?;
        made
    });
    made.and_then(|made| made).map(Some).map_err(system(
        "taking a port of the agent's in a network namespace of the doctor's own",
    ))
}

/// Loads a kernel side of the doctor's own. Says where a proxy would listen, so that there is a port to guard.
fn load(name: &Name, run_dir: &Path) -> Result<OwnKernel, DoctorError> {
    const USUAL: &str = "/sys/fs/bpf";
    let (pin_dir, dir) = if is_bpffs(Path::new(USUAL)).unwrap_or(false) {
        (name.below(Path::new(USUAL)), None)
    } else {
        let dir = name.below(run_dir);
        (dir.join("bpf"), Some(dir))
    };
    let options = KernelOptions { pin_dir };
    let (kernel, _events) = Kernel::load(&options)?;
    let own = OwnKernel { options, dir, kernel };
    // So that there is something to say of new cgroups; no cgroup has the name.
    let mut patterns = Patterns::default();
    patterns.add(CgroupPattern::new("/tollgate-doctor/nothing")?, PolicyId(1));
    own.kernel.set_patterns(&patterns)?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|free| free.local_addr())
        .map_err(system("finding a free port"))?
        .port();
    own.kernel.set_proxy(ProxyAddresses {
        v4: port,
        v6: port,
        dns: port.saturating_sub(32),
    })?;
    Ok(own)
}

impl Cgroups {
    fn make(name: &Name, cgroup2: &Cgroup2, visit: &mut Visit) -> Result<Self, DoctorError> {
        let root = name.below(cgroup2.mount());
        let cgroups = Self {
            job: root.join("job"),
            nursery: root.join("nursery"),
            root,
            cgroup2: cgroup2.clone(),
        };
        let id = |path: &Path| id_of(cgroup2, path);
        make_cgroup(&cgroups.root)?;
        let root = id(&cgroups.root)?;
        visit.leave_free(root, true)?;
        make_cgroup(&cgroups.job)?;
        visit.manage(id(&cgroups.job)?)?;
        make_cgroup(&cgroups.nursery)?;
        visit.leave_free(id(&cgroups.nursery)?, true)?;
        Ok(cgroups)
    }
}

impl Cgroups {
    /// A path for one more cgroup, directly below the root.
    pub(super) fn beside(&self) -> PathBuf {
        let mut path = self.root.clone().into_os_string();
        path.push("-new");
        path.into()
    }

    /// The topmost of the doctor's.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The id of the cgroup whose directory is `path`.
    pub(super) fn id_of(&self, path: &Path) -> Option<CgroupId> {
        id_of(&self.cgroup2, path).ok()
    }
}

fn make_cgroup(path: &Path) -> Result<(), DoctorError> {
    fs::create_dir(path).map_err(system(format!("making the cgroup {}", path.display())))
}

fn id_of(cgroup2: &Cgroup2, path: &Path) -> Result<CgroupId, DoctorError> {
    let below = path.strip_prefix(cgroup2.mount()).unwrap_or(path);
    let path = CgroupPath(format!("/{}", below.display()).into());
    cgroup2
        .id_of(&path)
        .ok_or_else(|| system(format!("reading the cgroup {path}"))(io::Error::from(io::ErrorKind::NotFound)))
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        leftovers::remove_cgroup(&self.root);
    }
}
