//! Holds, approvers, time-outs: commands that wait for a person.
//!
//! A protocol session [places](Holds::place) a hold and waits on what it gets back; the control socket lists holds
//! and decides on them. Knows no protocol and no socket, and judges no command: the policy said who may decide.
//!
//! Known limits: a hold lives in the agent's memory. If the agent ends, so does the session, and the command never ran.
//! One decision ends a hold; there is no quorum.

mod approver;
mod hold;
mod registry;

#[cfg(test)]
mod tests;

pub use approver::{AccountError, Approver};
pub use hold::{Decision, HoldEnd, HoldInfo, HoldView, Requester};
pub use registry::{DecideError, Held, Holds};
