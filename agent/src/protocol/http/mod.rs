//! HTTP: requests to commands, verdicts to answers.
//!
//! One connection of the workload is one session, with one connection to the target at a time; what the workload speaks
//! (HTTP/1.1, HTTP/2) is spoken to the target, so that no message is ever translated from one into the other. HTTP itself is
//! hyper's; what is decided about messages is here.
//!
//! An exchange goes through: guard (what could be read in two ways is refused), record, [`facts`], verdict, hold, credential, and
//! to the target; its answer through masks and record to the client. Both bodies stream: a chunk is recorded, and the
//! next one asked for when it has been taken.

mod answer;
mod body;
mod credential;
mod exchange;
pub mod facts;
mod guard;
mod guarded;
mod headers;
pub mod hold;
pub mod inject;
pub mod mask;
mod open;
pub mod record;
pub mod refusal;
mod session;
mod source;
mod tasks;
mod tunnel;
mod upstream;
mod wire;

pub use session::Adapter;

#[cfg(test)]
mod tests;
