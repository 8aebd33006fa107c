//! Rules, matching and verdicts: the only place that makes an [`Authorized`].
//!
//! Rules are order-independent: all that match are collected, deny > approve > allow. Every action of a command
//! has to be covered by a rule; what no rule covers is refused.

mod ruling;
mod service;

pub use ruling::{Authorized, Denied, HoldTerms, Ruling};
pub use service::ServicePolicy;
