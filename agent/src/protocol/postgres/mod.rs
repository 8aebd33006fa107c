//! PostgreSQL frontend/backend protocol, version 3.

pub mod catalog;
pub mod relay;
pub mod wire;
