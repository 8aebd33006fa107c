//! One run of the agent: everything is started in an order in which nothing is open, and stopped in the reverse order.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use chrono::Utc;
use sd_notify::NotifyState;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::approval::Holds;
use crate::config::{AgentConfig, Durability};
use crate::control::{JobServer, Server};
use crate::dns::{Dns, Learned};
use crate::engine::Host;
use crate::flow::Listener;
use crate::identity::{Logins, Revoked, TokenVerifier, Tokens};
use crate::kernel::cgroup2::Cgroup2;
use crate::kernel::local::LocalAddresses;
use crate::kernel::{CgroupKeeper, Kernel, KernelOptions, Patterns, PinLock, ProxyAddresses};
use crate::policy::{PolicySet, Resolved};
use crate::protocol::Adapters;
use crate::record::{self, Recorder, RecorderOptions};
use crate::ship::{ShipOptions, Shipper};

use super::accept::Reception;
use super::catalogue::Catalogue;
use super::containers::Containers;
use super::egress::Egress;
use super::front_desk::FrontDesk;
use super::job_desk::JobDesk;
use super::known_containers::KnownContainers;
use super::login_keeper::LoginKeeper;
use super::names::{self, Known, Memory};
use super::policies::Policies;
use super::protection::{self, Protection};
use super::reload::Reloader;
use super::resolve::{self, Addresses};
use super::signals::{Asked, Signals};
use super::start::{StartError, demands_met, host};
use super::state::StateDir;
use super::unix::{self, UnixSockets};
use super::upgrade::{Left, Program, Upgrader};
use super::{
    authorities, demands, existing, findings, identities, kernel_side, last_good, leases, residents, shipping,
};

/// Group whose members may use the control socket. Who may decide on a command, its rule says.
const OPERATORS: &str = "tollgate";

/// How long sessions may take to end by themselves when the agent stops.
const DRAIN: Duration = Duration::from_secs(5);

/// How long credentials may take to be void when the agent stops. What is not void then is in the journal.
const REVOKE: Duration = Duration::from_secs(5);

/// As [`REVOKE`], when another version takes over, which goes on with it.
const UPGRADE_REVOKE: Duration = Duration::from_secs(1);

/// How long sessions may go on when another version takes over, before they are told that the agent stops. New connections
/// wait for that long.
const UPGRADE_DRAIN: Duration = Duration::from_secs(5);

/// How long shipping may take to end when another version takes over, which ships what is left.
const UPGRADE_SHIPPING: Duration = Duration::from_secs(1);

/// What the agent is started with, besides its configuration.
pub(super) struct Start {
    /// What is executed when another version takes over.
    pub(super) program: Program,
    /// Why another version did not take over.
    pub(super) failed_upgrade: Option<String>,
    /// Why policy files do not count as they are.
    pub(super) faults: Vec<String>,
    /// Sockets of an agent before this one.
    pub(super) sockets: Vec<OwnedFd>,
    /// What jobs have logged in with at an agent before this one.
    pub(super) logins: Vec<OwnedFd>,
    /// The lock of the pins.
    pub(super) pins: Pins,
}

/// The lock of the pins, which is taken when nothing of the configuration can be wrong any more: what it makes would be
/// left behind.
pub(super) enum Pins {
    /// Its descriptor, from a process that this one takes the place of; `None`: it is still to be taken.
    Handed(Option<OwnedFd>),
    /// It is this process's already.
    Held(PinLock),
}

/// Why the agent does not serve any more.
pub(super) enum Ended {
    /// It was asked to stop.
    Stopped,
    /// Another version is to take over.
    HandedOver(Left),
}

/// The agent, when everything is in place.
pub(super) struct Running {
    listener: Listener,
    reception: Arc<Reception>,
    reloader: Arc<Reloader>,
    holds: Arc<Holds>,
    recorder: Recorder,
    login_keeper: Arc<LoginKeeper>,
    stopping: watch::Sender<bool>,
    /// Stopped when the sessions have ended.
    background: JoinSet<()>,
    shipping: Option<Shipping>,
    upgrader: Arc<Upgrader>,
    handing_over: mpsc::Receiver<()>,
    pins: PinLock,
}

/// The task that ships, and what ends it.
struct Shipping {
    task: JoinHandle<()>,
    last_word: oneshot::Sender<()>,
}

impl Shipping {
    fn start(shipper: Shipper) -> Self {
        let (last_word, closed) = oneshot::channel();
        let task = tokio::spawn(shipper.run(async { closed.await.unwrap_or_default() }));
        Self { task, last_word }
    }
}

impl Running {
    /// Starts everything. When this returns, connections are redirected, and those that nobody accepts yet wait.
    pub(super) async fn start(
        config: &AgentConfig,
        set: PolicySet,
        start: Start,
    ) -> Result<Self, StartError> {
        let state = state(config)?;
        let kept = state.kept().map_err(host(format!(
            "the key of the masks cannot be read from, or made in, {}",
            config.state_dir.display()
        )))?;
        let catalogue = Catalogue::new(set.clone(), &kept, None).await?;
        for service in catalogue.opaque() {
            tracing::warn!(service = %service.name, "this service is opaque: recorded, neither judged nor masked");
        }
        let revoked = Revoked::open(&state.revoked())?;
        revoked.set_denied(identities::denied(&set));
        let findings = findings::open(&state)?;
        let authority = Arc::new(authorities::open(&state, &config.run_dir, &set)?);
        let recorder = recorder(config)?;

        let names = set.names().into_iter().map(str::to_owned).collect();
        let addresses = resolve::resolve(&names, &Addresses::new()).await;
        // Followed before they are read, so that no change falls between the two.
        let own_addresses = LocalAddresses::watch().map_err(host("the host's own addresses"))?;
        let memory = Memory::below(&config.run_dir);
        let learned = Learned::restored(memory.load(), Instant::now(), protection::since_epoch());
        let resolved =
            kernel_side::resolved(addresses.clone(), &learned).map_err(host("the host's own addresses"))?;

        let cgroup2 = Cgroup2::discover()?;
        let policies = Arc::new(Policies::new(catalogue));
        policies.set_faults(start.faults);
        let (known, patterns) = KnownContainers::begin(config, &set, &policies, &cgroup2).await?;

        let control = Server::bind(&config.control_socket, Some(OPERATORS))?;
        let jobs = JobServer::bind(&config.job_socket)?;
        let shipper = shipper(config, &recorder)?;

        // Nothing that can be wrong with the configuration is found out after this.
        let pins = match start.pins {
            Pins::Handed(handed) => PinLock::keep(&config.pin_dir, handed)?,
            Pins::Held(pins) => pins,
        };
        // Takes a while on a busy host; a start that says nothing for long is not understood.
        tracing::info!("the kernel's programs are put in place");
        let (kernel, events) = Kernel::load(&KernelOptions {
            pin_dir: config.pin_dir.clone(),
        })?;
        let kernel = Arc::new(kernel);
        let (mut listener, keeper, unix) =
            match redirect(&kernel, config, &set, &resolved, patterns, start.sockets) {
                Ok(redirecting) => redirecting,
                Err(error) => {
                    if let Err(left) = kernel.abandon() {
                        tracing::error!(%left, "what was pinned of a failed start could not be removed");
                    }
                    return Err(error);
                }
            };
        // Everything is in place: the programs of an agent before this one can go.
        kernel.take_over()?;
        say_what_is_lacking(&kernel, unix.warnings(&set));

        let (stopping, stop) = watch::channel(false);
        let holds = Holds::new();
        let managed = keeper.managed();
        let protection = Arc::new(Protection::new(
            Arc::clone(&kernel),
            keeper,
            (Arc::clone(&policies), Arc::clone(&known)),
            addresses,
            (learned, memory),
            resolved,
            unix,
        ));
        let dns = Arc::new(Dns::new(
            Known {
                kernel: Arc::clone(&kernel),
                policies: Arc::clone(&policies),
                protection: Arc::clone(&protection),
            },
            listener.host_namespace().cookie(),
        ));
        let reception = Arc::new(Reception {
            kernel: Arc::clone(&kernel),
            policies: Arc::clone(&policies),
            resolved: protection.resolved(),
            dns: Arc::clone(&dns),
            tokens: tokens(Arc::clone(&kernel)),
            revoked,
            managed: managed.clone(),
            containers: Arc::clone(&known),
            host: Host {
                recorder: recorder.clone(),
                holds: Arc::clone(&holds),
                leases: leases::open(&state)?,
                findings: findings.clone(),
                adapters: Adapters::new(Arc::clone(&authority)),
                name: host_name(),
                stop,
                live: parking_lot::Mutex::default(),
                total: AtomicU64::new(0),
            },
        });
        let reloader = Arc::new(Reloader::new(config, (kept, authority), &reception, &protection));
        let (upgrader, handing_over) = Upgrader::new(start.program);
        let upgrader = Arc::new(upgrader);
        let egress = Arc::new(Egress::default());
        let desk = FrontDesk {
            reception: Arc::clone(&reception),
            started: Utc::now(),
            managed: managed.clone(),
            backlog: shipper.as_ref().map(Shipper::backlog),
            reloader: Arc::clone(&reloader),
            upgrader: Arc::clone(&upgrader),
            failed_upgrade: start.failed_upgrade,
            egress: Arc::clone(&egress),
            containers: Containers::new(&kernel, &policies, listener.expander(), &known, &protection),
        };

        let mut background = JoinSet::new();
        let expander = listener.expander();
        background.spawn(kernel_side::heed(events, expander, Arc::clone(&egress)));
        background.spawn(egress.keep_room(Arc::clone(&kernel)));
        background.spawn(findings.keep());
        background.spawn(leases::follow(Arc::clone(&reception)));
        background.spawn(known.follow(protection.awaited(), Arc::clone(&protection), cgroup2));
        background.spawn(kernel_side::watch_links(kernel));
        background.spawn(residents::watch(Arc::clone(&reception), managed.clone()));
        background.spawn(existing::watch(
            Arc::clone(&reception),
            managed,
            protection.resolved(),
        ));
        background.spawn(Arc::clone(&protection).follow(own_addresses));
        background.spawn(Arc::clone(&protection).forget());
        if let Some(queries) = listener.take_queries() {
            background.spawn(names::answer(dns, queries));
        }
        background.spawn(resolve::follow(protection, policies, config.resolve_interval));
        let login_keeper = serve_jobs(&mut background, jobs, &reception, start.logins);
        background.spawn(control.serve(Arc::clone(&holds), Arc::new(desk), std::future::pending()));
        background.spawn(watchdog());
        Ok(Self {
            listener,
            reception,
            reloader,
            holds,
            recorder,
            login_keeper,
            stopping,
            background,
            shipping: shipper.map(Shipping::start),
            upgrader,
            handing_over,
            pins,
        })
    }

    /// Serves until it is asked to stop or to let another version take over.
    pub(super) async fn serve(mut self, signals: &mut Signals) -> Result<Ended, StartError> {
        if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
            tracing::warn!(%error, "systemd was not told that the agent is ready");
        }
        tracing::info!(
            port = self.listener.addresses().v4,
            pid = std::process::id(),
            "ready"
        );
        let mut sessions = JoinSet::new();
        let why = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop(why) => break why,
                    Asked::Reload => {
                        let reloader = Arc::clone(&self.reloader);
                        self.background.spawn(async move { drop(reloader.reload().await) });
                    }
                    Asked::Upgrade => {
                        let upgrader = Arc::clone(&self.upgrader);
                        self.background.spawn(async move {
                            if let Err(error) = upgrader.begin().await {
                                tracing::error!(%error, "another version cannot take over; this one goes on");
                            }
                        });
                    }
                },
                Some(()) = self.handing_over.recv() => return self.hand_over(sessions).await,
                Some(flow) = self.listener.accept() => {
                    let reception = Arc::clone(&self.reception);
                    sessions.spawn(async move { reception.receive(flow).await });
                }
                Some(ended) = sessions.join_next() => if let Err(error) = ended {
                    // One session's fault must not be another's; its record is sealed at the next start.
                    tracing::error!(%error, "a session failed");
                },
            }
        };
        self.stop(sessions, why).await
    }

    async fn stop(mut self, mut sessions: JoinSet<()>, why: &str) -> Result<Ended, StartError> {
        tracing::info!(
            sessions = sessions.len(),
            "stopping, because of {why}; managed cgroups are closed from here on"
        );
        sd_notify::notify(&[NotifyState::Stopping]).ok();
        drop(self.listener);
        self.stopping.send_replace(true);
        self.holds.cancel_all("the agent stops");
        end_all(&mut sessions).await;
        let left = self.reception.host.leases.close(REVOKE).await;
        if left > 0 {
            tracing::warn!(
                left,
                "credentials are not revoked yet; the next start of the agent does that"
            );
        }
        self.background.shutdown().await;
        self.reception.host.findings.flush();
        self.recorder.shutdown()?;
        if let Some(shipping) = self.shipping {
            drop(shipping.last_word);
            // It gives up by itself after its grace.
            shipping.task.await.ok();
        }
        tracing::info!("stopped");
        Ok(Ended::Stopped)
    }

    /// Stops as far as the version that takes over needs it: nobody is accepted, and nobody refused.
    async fn hand_over(mut self, mut sessions: JoinSet<()>) -> Result<Ended, StartError> {
        let now = NotifyState::monotonic_usec_now().map_err(host("the clock"))?;
        sd_notify::notify(&[NotifyState::Reloading, now]).ok();
        let (sockets, accepted) = self.listener.hand_over().await;
        for flow in accepted {
            let reception = Arc::clone(&self.reception);
            sessions.spawn(async move { reception.receive(flow).await });
        }
        tracing::info!(
            sessions = sessions.len(),
            "another version takes over; connections wait for it"
        );
        let ended = async { while sessions.join_next().await.is_some() {} };
        if tokio::time::timeout(UPGRADE_DRAIN, ended).await.is_err() {
            self.stopping.send_replace(true);
            self.holds.cancel_all("another version of the agent takes over");
            end_all(&mut sessions).await;
        }
        // What is not void by then, the other version finds in the journal.
        self.reception.host.leases.close(UPGRADE_REVOKE).await;
        self.background.shutdown().await;
        self.reception.host.findings.flush();
        self.recorder.shutdown()?;
        if let Some(shipping) = self.shipping {
            drop(shipping.last_word);
            tokio::time::timeout(UPGRADE_SHIPPING, shipping.task).await.ok();
        }
        let policies = last_good::leave(&self.reception.policies.current().set)
            .map_err(host("the policies that count now"))?;
        let logins = self
            .login_keeper
            .leave(&self.reception.tokens.logins)
            .map_err(host("what jobs have logged in with"))?;
        Ok(Ended::HandedOver(Left {
            sockets,
            pins: self.pins,
            policies,
            logins,
        }))
    }
}

/// Answers jobs that log in, and keeps what they and those before them have logged in with.
fn serve_jobs(
    background: &mut JoinSet<()>,
    jobs: JobServer,
    reception: &Arc<Reception>,
    left: Vec<OwnedFd>,
) -> Arc<LoginKeeper> {
    let keeper = Arc::new(LoginKeeper::start(&reception.tokens.logins, left));
    background.spawn(Arc::clone(&keeper).follow(Arc::clone(reception)));
    let desk = JobDesk::new(Arc::clone(reception), Arc::clone(&keeper));
    background.spawn(jobs.serve(Arc::new(desk), std::future::pending()));
    keeper
}

fn state(config: &AgentConfig) -> Result<StateDir, StartError> {
    StateDir::open(&config.state_dir).map_err(host(format!(
        "the agent cannot keep its state in {}: make it a directory that root may write to, or name another `state_dir`",
        config.state_dir.display()
    )))
}

/// What tokens are looked for and checked with: nothing is known of any yet.
fn tokens(kernel: Arc<Kernel>) -> Tokens {
    Tokens {
        verifier: TokenVerifier::new(),
        logins: Logins::new(move |cgroup| kernel.cgroup2().path_of(cgroup)),
    }
}

/// Waits until the sessions that were told to end have done so, and cuts off what is left.
async fn end_all(sessions: &mut JoinSet<()>) {
    let drained = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(
            sessions = sessions.len(),
            "some sessions did not end in time and are cut off"
        );
        sessions.shutdown().await;
    }
}

/// Says what is managed and protected, and listens. When this has succeeded, every program of the kernel side works.
fn redirect(
    kernel: &Arc<Kernel>,
    config: &AgentConfig,
    set: &PolicySet,
    resolved: &Resolved,
    patterns: Patterns,
    sockets: Vec<OwnedFd>,
) -> Result<(Listener, CgroupKeeper, UnixSockets), StartError> {
    demands_met(kernel.lacking(), set)?;
    for policy in set.policies() {
        kernel.set_policy(policy.id, kernel_side::rules(policy))?;
    }
    kernel_side::protect(kernel, set, resolved)?;
    let port = config.listen_port.unwrap_or(0);
    let wanted = ProxyAddresses {
        v4: port,
        v6: port,
        dns: 0,
    };
    let listener = Listener::go_on(Arc::clone(kernel), wanted, sockets)?;
    let unix = UnixSockets::new(
        Arc::clone(kernel),
        listener.unix(unix::directory(&config.run_dir))?,
    );
    unix.protect(&[set])?;
    let keeper = CgroupKeeper::start(Arc::clone(kernel), patterns)?;
    // What an earlier agent said of policies that are gone; no cgroup is under them any more.
    kernel.retain_policies(&set.policies().iter().map(|policy| policy.id).collect())?;
    Ok((listener, keeper, unix))
}

/// Says which programs this kernel refuses, and what is weaker for it.
fn say_what_is_lacking(kernel: &Kernel, warnings: Vec<String>) {
    for lack in kernel.lacking() {
        tracing::info!(
            program = lack.program,
            reason = lack.reason,
            "the agent does without a program"
        );
    }
    for warning in warnings.into_iter().chain(demands::warnings(kernel)) {
        tracing::warn!("{warning}");
    }
}

/// Tells systemd that the agent lives, twice in the time that its unit allows. Stops when the runtime does: that is the point.
async fn watchdog() {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut tick = tokio::time::interval(limit / 2);
    loop {
        tick.tick().await;
        sd_notify::notify(&[NotifyState::Watchdog]).ok();
    }
}

fn host_name() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.nodename().to_string_lossy().into_owned(),
    )
}

fn shipper(config: &AgentConfig, recorder: &Recorder) -> Result<Option<Shipper>, StartError> {
    let Some(spec) = &config.ship else {
        return Ok(None);
    };
    Ok(Some(Shipper::new(
        shipping::target(spec)?,
        recorder.clone(),
        ShipOptions::default(),
    )))
}

fn recorder(config: &AgentConfig) -> Result<Recorder, StartError> {
    let recorder = Recorder::open(&recorder_options(config))?;
    for recovered in recorder.recovered() {
        tracing::warn!(?recovered, "a session that the agent left open was sealed");
    }
    Ok(recorder)
}

fn recorder_options(config: &AgentConfig) -> RecorderOptions {
    RecorderOptions {
        durability: match config.durability {
            Durability::Agent => record::Durability::Agent,
            Durability::Host => record::Durability::Host,
        },
        ..RecorderOptions::new(config.records_dir())
    }
}
