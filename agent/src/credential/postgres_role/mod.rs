//! `source = "postgres-role"`: a role on the service's own server, for a session or a workload, and gone after it.
//!
//! `VALID UNTIL` ends neither sessions nor roles, it refuses logins: so the agent ends the sessions and drops the role. The
//! password never travels: the server gets a SCRAM verifier, which is all that its log can hold.
//!
//! The admin login needs CREATEROLE; to be able to grant what the policy names (PostgreSQL 16 and later: ADMIN OPTION on
//! each role of `grant`); and membership in `reassign_to`. It does not have to be a superuser, and should not be.
//!
//! Known limits: PostgreSQL 13 or later, with SCRAM. A role that was made over an address of loopback in a network namespace
//! other than the host's can be dropped only while the agent that made it runs, since the address means another
//! server elsewhere: that is reported, and `VALID UNTIL` stands.

mod admin;
mod error;
mod make;
mod revoke;
mod sweep;

#[cfg(test)]
mod tests;

pub use error::RoleError;
pub use revoke::RoleHandle;

pub(super) use make::maker;
pub(super) use sweep::Sweeper;
