//! Rules, matching and verdicts: the only place that makes an [`Authorized`].
//!
//! Rules are order-independent: all that match are collected, deny > approve > allow. Every action of a command
//! has to be covered by a rule; what no rule covers is refused. Pure: no files, no resolver, no clock.

mod lint;
mod refusal;
mod request;
mod rule;
mod ruling;
mod service;
mod set;

#[cfg(test)]
mod tests;

pub use lint::{Finding, lint};
pub use ruling::{Authorized, Denied, HoldTerms, Ruling};
pub use service::ServicePolicy;
pub use set::{PolicySet, Protected, Resolved, Service, WorkloadPolicy};
