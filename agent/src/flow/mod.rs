//! Listeners: accepted connections become [`Flow`]s, with the destination and the process that they came from.
//!
//! A connection that the kernel side did not redirect is closed with a reset and counted. Knows no protocol.

mod listener;

pub use listener::{Expander, Flow, FlowError, Listener};

#[cfg(test)]
mod tests;
