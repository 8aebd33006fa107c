//! PostgreSQL frontend/backend protocol, version 3.

pub mod cancel;
pub mod catalog;
pub mod login;
pub mod relay;
pub mod startup;
pub mod wire;
