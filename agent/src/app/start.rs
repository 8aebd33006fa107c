//! What an agent is started and uninstalled by, and why it does not start.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::sync::Arc;

use crate::config::{self, AgentConfig, PolicyErrors};
use crate::control::ControlError;
use crate::flow::FlowError;
use crate::identity::RevocationError;
use crate::kernel::given::Given;
use crate::kernel::{HostLock, Kernel, KernelError, KernelOptions, Lacking, PatternError, PinLock};
use crate::policy::PolicySet;
use crate::record::RecordError;
use crate::tls::TlsError;

use super::catalogue::{Catalogue, ServiceError};
use super::running::{Ended, Pins, Running, Start};
use super::shipping::ShippingError;
use super::signals::Signals;
use super::state::Kept;
use super::upgrade::Program;
use super::{demands, last_good, names, reload};

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
    /// A policy demands of the host what it has not.
    #[error("{}", .0.join("\n"))]
    Unmet(Vec<String>),
    /// A pattern of cgroups.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Listening.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// What operators revoked.
    #[error(transparent)]
    Revoked(#[from] RevocationError),
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

pub(super) fn host(what: impl Into<String>) -> impl FnOnce(io::Error) -> StartError {
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

/// Runs the agent until it is asked to stop, with what the process was given at its start.
pub async fn run(config: AgentConfig, given: Given) -> Result<(), StartError> {
    let mut signals = Signals::catch().map_err(host("signals"))?;
    let program = Program::current().map_err(host("the agent's own program"))?;
    let lock = HostLock::keep(&config.run_dir, given.host_lock)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the agent starts");
    let mut pins = Pins::Handed(given.pin_lock);
    let mut sockets = given.sockets;
    let mut last_good = given.policies;
    let mut logins = given.logins;
    let mut failed_upgrade = None;
    loop {
        let (set, faults) = match last_good.take() {
            Some(left) => {
                let last_good = last_good::found(left).map_err(host("the policies that counted last"))?;
                reload::after(&last_good, &config.policy_dir)
            }
            None => (load_policies(&config)?, Vec::new()),
        };
        let start = Start {
            program: program.clone(),
            failed_upgrade: failed_upgrade.take(),
            faults,
            sockets: std::mem::take(&mut sockets),
            logins: std::mem::take(&mut logins),
            pins,
        };
        let left = match Running::start(&config, set, start)
            .await?
            .serve(&mut signals)
            .await?
        {
            Ended::Stopped => return Ok(()),
            Ended::HandedOver(left) => left,
        };
        // Nothing comes after this, unless it fails.
        let error = program.execute(&lock, &left);
        tracing::error!(%error, program = %program.path().display(), "another version could not take over; this one goes on");
        failed_upgrade = Some(format!(
            "{} cannot be executed: {error}",
            program.path().display()
        ));
        sockets = left.sockets;
        pins = Pins::Held(left.pins);
        last_good = Some(left.policies);
        logins = vec![left.logins];
    }
}

/// Whether an agent of this configuration could start: policies and what they demand, secrets, the kernel's view of its
/// programs. Changes
/// nothing, and can be asked while an agent runs.
pub async fn check(config: &AgentConfig) -> Result<(), StartError> {
    let set = load_policies(config)?;
    let kept = Kept {
        mask_key: [0; 32],
        tokens: config.state_dir.join("tokens"),
    };
    Catalogue::new(set.clone(), &kept, None).await?;
    let lacking = Kernel::check(&KernelOptions {
        pin_dir: config.pin_dir.clone(),
    })?;
    demands_met(&lacking, &set)
}

/// Fails if a policy demands of the host what it has not.
pub(super) fn demands_met(lacking: &[Lacking], set: &PolicySet) -> Result<(), StartError> {
    match demands::all_unmet(lacking, set) {
        unmet if unmet.is_empty() => Ok(()),
        unmet => Err(StartError::Unmet(unmet)),
    }
}

/// Removes what agents of this configuration left in the kernel and in the run directory.
pub fn uninstall(config: &AgentConfig) -> Result<(), StartError> {
    let lock = HostLock::take(&config.run_dir)?;
    let pins = PinLock::take_existing(&config.pin_dir)?;
    Kernel::uninstall(&KernelOptions {
        pin_dir: config.pin_dir.clone(),
    })?;
    drop(pins);
    let sockets = [
        config.control_socket.clone(),
        config.job_socket.clone(),
        super::unix::directory(&config.run_dir),
    ];
    for left in sockets {
        remove_sockets(&left).map_err(host(format!("{} cannot be removed", left.display())))?;
    }
    names::Memory::below(&config.run_dir)
        .remove()
        .map_err(host("what workloads were told cannot be forgotten"))?;
    super::known_containers::forget(&config.run_dir)
        .map_err(host("what containers are cannot be forgotten"))?;
    super::authorities::withdraw(&config.run_dir)
        .map_err(host("the authority's certificate cannot be removed"))?;
    lock.remove(&config.run_dir)?;
    // Unless somebody else has something there; systemd's own directories go with the unit.
    let _not_empty = std::fs::remove_dir(&config.run_dir);
    Ok(())
}

/// Removes a socket that nobody listens on any more, or a directory of such. Whatever else is there stays.
fn remove_sockets(path: &Path) -> io::Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else {
        return Ok(());
    };
    if found.file_type().is_socket() {
        return std::fs::remove_file(path);
    }
    if found.is_dir() {
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            if entry.file_type()?.is_socket() {
                std::fs::remove_file(entry.path())?;
            }
        }
        let _not_empty = std::fs::remove_dir(path);
    }
    Ok(())
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
