//! MySQL client/server protocol, version 10: as far as the agent itself is a client, which makes and drops users.
//!
//! There is no adapter yet: no session of a workload is spoken to. Framing, greeting and login are here for it.
//!
//! Known limits: no compression, no LOCAL INFILE, no multiple statements: a server that asks for one of them is refused.
//! Passwords are proved by `mysql_native_password`, `caching_sha2_password` and `client_ed25519`; where the server has to have the password
//! itself it gets it over TLS or a unix socket alone.

mod auth;
mod error;
mod greeting;
mod packet;
mod session;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub(crate) use auth::native_hash;
pub use error::MysqlError;
pub use session::{Row, Session};
