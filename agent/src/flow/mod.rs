//! Listeners: accepted connections become [`Flow`]s, with the destination and the process that they came from.
//!
//! DNS over UDP becomes [`Query`]s. A connection that the kernel side did not redirect is closed with a reset and counted. Knows no protocol.

mod error;
mod expander;
mod handed_over;
mod listener;
mod query;
mod socket;
mod store;

pub use error::FlowError;
pub use expander::Expander;
pub use listener::{Flow, Listener};
pub use query::Query;

#[cfg(test)]
mod tests;
