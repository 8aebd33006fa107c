//! Composition root: puts the stages together, starts them in an order in which nothing is open, and stops them.

mod accept;
mod authorities;
mod catalogue;
mod containers;
mod demands;
mod egress;
mod existing;
mod findings;
mod front_desk;
mod identities;
mod job_desk;
mod kernel_side;
mod known_containers;
mod last_good;
mod leases;
mod login_keeper;
mod names;
mod policies;
mod protection;
mod reload;
mod residents;
mod resolve;
mod running;
mod shipping;
mod signals;
mod start;
mod state;
mod sweep;
mod unix;
mod upgrade;

pub use authorities::TRUSTED;
pub use start::{StartError, check, run, uninstall};
pub use sweep::sweep_from_here;
