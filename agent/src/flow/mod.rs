//! Listeners: accepted connections become [`Flow`]s, with the destination and the process that they came from.
//!
//! DNS over UDP becomes [`Query`]s. A connection that the kernel side did not redirect is closed with a reset and counted. Knows no protocol.

mod listener;
mod query;

pub use listener::{Expander, Flow, FlowError, Listener};
pub use query::Query;

#[cfg(test)]
mod tests;
