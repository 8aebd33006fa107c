//! Starts everything in an order in which nothing is open, runs, and stops in the reverse order.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::Utc;
use sd_notify::NotifyState;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::approval::Holds;
use crate::config::{self, AgentConfig, Durability, PolicyErrors};
use crate::control::{ControlError, Server};
use crate::engine::Host;
use crate::flow::{FlowError, Listener};
use crate::identity::TokenVerifier;
use crate::kernel::local::LocalAddresses;
use crate::kernel::{
    CgroupKeeper, HostLock, Kernel, KernelError, KernelOptions, PatternError, PinLock, ProxyAddresses,
};
use crate::policy::{PolicySet, Resolved};
use crate::protocol::postgres;
use crate::record::{self, RecordError, Recorder, RecorderOptions};
use crate::ship::{ShipOptions, Shipper};
use crate::tls::{LocalCa, TlsError};

use super::accept::Reception;
use super::catalogue::{Catalogue, ServiceError};
use super::front_desk::FrontDesk;
use super::resolve::{self, Addresses};
use super::shipping::{self, ShippingError};
use super::state::StateDir;
use super::{kernel_side, stop};

/// Group whose members may use the control socket. Who may decide on a command, its rule says.
const OPERATORS: &str = "tollgate";

/// How long sessions may take to end by themselves when the agent stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the agent does not start. Each sentence says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Some policy is wrong: all are listed.
    #[error("{}", list(.0))]
    Policies(Vec<PolicyErrors>),
    /// No policy at all.
    #[error("there is no policy in {}: put one there (docs/policy-reference.md), or name another `policy_dir`", .0.display())]
    NoPolicy(std::path::PathBuf),
    /// The kernel side.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A pattern of cgroups.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Listening.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// Records.
    #[error("records cannot be kept: {0}")]
    Record(#[from] RecordError),
    /// A service.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// The local authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The control socket.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Shipping.
    #[error(transparent)]
    Shipping(#[from] ShippingError),
    /// Something of the host.
    #[error("{what}: {source}")]
    Host {
        /// What failed.
        what: String,
        /// Why.
        source: io::Error,
    },
}

fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
    let what = what.into();
    move |source| StartError::Host { what, source }
}

fn list(errors: &[PolicyErrors]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Runs the agent until it is asked to stop.
pub async fn run(config: AgentConfig) -> Result<(), StartError> {
    let _lock = HostLock::take(&config.run_dir)?;
    let set = load_policies(&config)?;
    let state = StateDir::open(&config.state_dir).map_err(host(format!(
        "the agent cannot keep its state in {}: make it a directory that root may write to, or name another `state_dir`",
        config.state_dir.display()
    )))?;
    let mask_key = state.mask_key().map_err(host(format!(
        "the key of the masks cannot be read from, or made in, {}",
        config.state_dir.display()
    )))?;
    let catalogue = Catalogue::new(set.clone(), mask_key)?;
    catalogue.check_secrets().await?;
    for service in catalogue.opaque() {
        tracing::warn!(service = %service.name, "this service is opaque: recorded, neither judged nor masked");
    }
    let authority = Arc::new(LocalCa::open_or_create(&state.authority())?);
    let recorder = Recorder::open(&recorder_options(&config))?;
    for recovered in recorder.recovered() {
        tracing::warn!(?recovered, "a session that the agent left open was sealed");
    }

    let names = set.names().into_iter().map(str::to_owned).collect();
    let addresses = resolve::resolve(&names, &Addresses::new()).await;
    // Followed before they are read, so that no change falls between the two.
    let own_addresses = LocalAddresses::watch().map_err(host("the host's own addresses"))?;
    let resolved = kernel_side::resolved(addresses.clone()).map_err(host("the host's own addresses"))?;

    let control = Server::bind(&config.control_socket, Some(OPERATORS))?;
    let shipper = match &config.ship {
        Some(spec) => Some(Shipper::new(
            shipping::target(spec)?,
            recorder.clone(),
            ShipOptions::default(),
        )),
        None => None,
    };

    // Nothing that can be wrong with the configuration is found out after this.
    let _pins = PinLock::take(&config.pin_dir)?;
    let (kernel, events) = Kernel::load(&KernelOptions {
        pin_dir: config.pin_dir.clone(),
    })?;
    let kernel = Arc::new(kernel);
    let (mut listener, keeper) = match redirect(&kernel, &config, &set, &resolved) {
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

    let (stopping, stop) = watch::channel(false);
    let (current, resolved) = watch::channel(resolved);
    let (new_addresses, followed) = watch::channel(addresses);
    let mut background = JoinSet::new();
    background.spawn(kernel_side::heed(events, listener.expander()));
    background.spawn(resolve::follow(names, config.resolve_interval, new_addresses));
    background.spawn(kernel_side::follow(
        Arc::clone(&kernel),
        set,
        followed,
        current,
        own_addresses,
    ));

    background.spawn(kernel_side::watch_links(Arc::clone(&kernel)));

    let holds = Holds::new();
    let reception = Arc::new(Reception {
        kernel: Arc::clone(&kernel),
        catalogue,
        resolved,
        verifier: TokenVerifier::new(),
        host: Host {
            recorder: recorder.clone(),
            holds: Arc::clone(&holds),
            postgres: postgres::Adapter::new(authority),
            name: host_name(),
            stop,
            live: parking_lot::Mutex::default(),
            total: AtomicU64::new(0),
        },
    });

    let desk = FrontDesk {
        reception: Arc::clone(&reception),
        started: Utc::now(),
        managed: keeper.managed(),
        backlog: shipper.as_ref().map(Shipper::backlog),
    };
    background.spawn(control.serve(Arc::clone(&holds), Arc::new(desk), std::future::pending()));
    let (last_word, closed) = oneshot::channel::<()>();
    let shipping =
        shipper.map(|shipper| tokio::spawn(shipper.run(async { closed.await.unwrap_or_default() })));
    background.spawn(watchdog());

    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "systemd was not told that the agent is ready");
    }
    tracing::info!(port = listener.addresses().v4, pid = std::process::id(), "ready");
    let mut sessions = JoinSet::new();
    let mut asked = std::pin::pin!(stop::asked());
    let why = loop {
        tokio::select! {
            why = &mut asked => break why.map_err(host("signals"))?,
            Some(flow) = listener.accept() => {
                let reception = Arc::clone(&reception);
                sessions.spawn(async move { reception.receive(flow).await });
            }
            Some(ended) = sessions.join_next() => if let Err(error) = ended {
                // One session's fault must not be another's; its record is sealed at the next start.
                tracing::error!(%error, "a session failed");
            },
        }
    };
    tracing::info!(
        sessions = sessions.len(),
        "stopping, because of {why}; managed cgroups are closed from here on"
    );
    sd_notify::notify(&[NotifyState::Stopping]).ok();
    drop(listener);
    stopping.send_replace(true);
    holds.cancel_all("the agent stops");
    let drained = async { while sessions.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!(
            sessions = sessions.len(),
            "some sessions did not end in time and are cut off"
        );
        sessions.shutdown().await;
    }
    background.shutdown().await;
    drop(keeper);
    recorder.shutdown()?;
    drop(last_word);
    if let Some(shipping) = shipping {
        // It gives up by itself after its grace.
        shipping.await.ok();
    }
    tracing::info!("stopped");
    Ok(())
}

/// Says what is managed and protected, and listens. When this has succeeded, every program of the kernel side works.
fn redirect(
    kernel: &Arc<Kernel>,
    config: &AgentConfig,
    set: &PolicySet,
    resolved: &Resolved,
) -> Result<(Listener, CgroupKeeper), StartError> {
    for policy in set.policies() {
        kernel.set_policy(policy.id, policy.doc.workload.egress)?;
    }
    kernel_side::protect(kernel, set, resolved)?;
    let port = config.listen_port.unwrap_or(0);
    let listener = Listener::bind(
        Arc::clone(kernel),
        ProxyAddresses {
            v4: port,
            v6: port,
            dns: 0,
        },
    )?;
    let keeper = CgroupKeeper::start(Arc::clone(kernel), kernel_side::patterns(set)?)?;
    // What an earlier agent said of policies that are gone; no cgroup is under them any more.
    kernel.retain_policies(&set.policies().iter().map(|policy| policy.id).collect())?;
    Ok((listener, keeper))
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

/// Removes what an agent of this configuration left in the kernel.
pub fn uninstall(config: &AgentConfig) -> Result<(), StartError> {
    let _lock = HostLock::take(&config.run_dir)?;
    let _pins = PinLock::take_existing(&config.pin_dir)?;
    Ok(Kernel::uninstall(&KernelOptions {
        pin_dir: config.pin_dir.clone(),
    })?)
}

fn load_policies(config: &AgentConfig) -> Result<PolicySet, StartError> {
    let mut docs = Vec::new();
    let mut errors = Vec::new();
    for loaded in config::load_policies(&config.policy_dir) {
        match loaded {
            Ok(doc) => docs.push(Arc::new(doc)),
            Err(error) => errors.push(error),
        }
    }
    if !errors.is_empty() {
        return Err(StartError::Policies(errors));
    }
    if docs.is_empty() {
        return Err(StartError::NoPolicy(config.policy_dir.clone()));
    }
    Ok(PolicySet::compile(docs))
}

fn host_name() -> String {
    nix::sys::utsname::uname().map_or_else(
        |_| "unknown".to_owned(),
        |name| name.nodename().to_string_lossy().into_owned(),
    )
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
