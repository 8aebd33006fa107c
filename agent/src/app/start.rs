//! What an agent is started and uninstalled by, and why it does not start.

use std::io;
use std::sync::Arc;

use crate::config::{self, AgentConfig, PolicyErrors};
use crate::control::ControlError;
use crate::flow::FlowError;
use crate::kernel::{HostLock, Kernel, KernelError, KernelOptions, PatternError, PinLock};
use crate::policy::PolicySet;
use crate::record::RecordError;
use crate::tls::TlsError;

use super::catalogue::ServiceError;
use super::running::Running;
use super::shipping::ShippingError;
use super::signals::Signals;

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

/// Runs the agent until it is asked to stop.
pub async fn run(config: AgentConfig) -> Result<(), StartError> {
    let mut signals = Signals::catch().map_err(host("signals"))?;
    let _lock = HostLock::take(&config.run_dir)?;
    let set = load_policies(&config)?;
    Running::start(&config, set).await?.serve(&mut signals).await
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
