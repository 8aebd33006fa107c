//! Listeners: accepted connections become [`Flow`]s, with the destination and the process that they came from.
//!
//! DNS over UDP becomes [`Query`]s. A connection that the kernel side did not redirect is closed with a reset and counted. Knows no protocol.

mod accepting;
mod error;
mod expander;
mod handed_over;
mod listener;
mod origin;
mod query;
mod socket;
mod store;
mod stream;
mod tenants;
mod unix;

pub use error::FlowError;
pub use expander::Expander;
pub use listener::{Flow, Listener};
pub use origin::Origin;
pub use query::Query;
pub use stream::Stream;
pub use unix::UnixListeners;

#[cfg(test)]
mod tests;
