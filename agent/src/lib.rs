//! Tollgate: transparent interception host agent.
//!
//! The stages stand in the order in which a flow passes them; each imports only those above it (checked by
//! `cargo xtask check-layers`).

pub mod model;

pub mod config;

pub mod kernel;

pub mod web;

pub mod flow;

pub mod identity;

pub mod policy;

pub mod mask;

pub mod finding;

pub mod tls;

pub mod protocol;

pub mod credential;

pub mod approval;

pub mod record;

pub mod ship;

pub mod replay;

pub mod dns;
pub mod engine;

pub mod control;

pub mod doctor;

pub mod app;

pub mod cli;
