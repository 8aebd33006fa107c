//! `source = "mysql-user"`: a user on the service's own MariaDB server, for a session or a workload, and gone after it.
//!
//! A MariaDB server expires a password after whole days, and ends no session then: so the agent ends the sessions and drops
//! the user, and the days are what is left if it never comes back. The password never travels: the server is told its hash.
//!
//! The admin login needs what [`admin`] names, and the role `WITH ADMIN OPTION`. `CREATE USER` lets it change every user, so it is
//! to be guarded like a superuser's.
//!
//! Known limits: MariaDB 10.6 or later; MySQL is refused, since what is asked here is asked there in other words and was
//! not tried. One role is active at a time on these servers, so one is granted. Nothing belongs to a user there, but views,
//! routines, triggers and events run as who defined them: a user that has defined some is locked and kept. A transaction
//! that was prepared (XA) is not known by its user, and stays.

mod admin;
mod error;
mod make;
mod revoke;
mod sweep;

#[cfg(test)]
mod tests;

pub use error::UserError;
pub use revoke::UserHandle;

pub(super) use make::maker;
pub(super) use sweep::Sweeper;
