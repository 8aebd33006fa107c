//! PostgreSQL frontend/backend protocol, version 3.

pub mod cancel;
pub mod catalog;
pub mod login;
pub mod query;
pub mod relay;
mod session;
pub mod startup;
pub mod wire;

pub use session::Adapter;
