//! Composition root: puts the stages together, starts them in an order in which nothing is open, and stops them.

mod accept;
mod catalogue;
mod front_desk;
mod kernel_side;
mod resolve;
mod shipping;
mod start;
mod state;
mod stop;

pub use start::{StartError, run, uninstall};
