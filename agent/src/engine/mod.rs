//! Drives one session: opens its record, keeps what its protocol asks for, closes it.
//!
//! A session that cannot be recorded does not run. Knows every stage and no wire format.

mod account;
mod found;
mod live;
mod session;
mod stages;
mod stray;
mod term;

pub use live::Live;
pub use session::{Flow, Host, Service, run};
pub use stages::denial;
pub use stray::{Stray, end_stray};
pub use term::Term;
