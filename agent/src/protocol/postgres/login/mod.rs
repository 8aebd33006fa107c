//! The target's side of the start of a session: TLS, the injected login, and what the client is told of it.
//!
//! The client never takes part in the authentication, and nothing of the login reaches it: not the user, not the
//! password, not the address, not the server's own words on why it refused.
//!
//! Known limits: SCRAM-SHA-256 without channel binding, MD5, and cleartext inside TLS; no GSS, SSPI or certificates.
//! `tls = "require"` does not know an impostor, so it gives cleartext and MD5 logins to one that asks for them.
//! `SELECT current_user` is a question to the server and is answered there: whether it may be asked is for rules.
//!
//! Source: PostgreSQL 15, "Frontend/Backend Protocol", 55.2.1, 55.3 and 55.7; RFC 5802 and RFC 7677.

mod auth;
mod connect;
mod error;
mod greeting;
mod message;
mod scram;
mod session;
mod settings;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use connect::ServerStream;
pub use error::LoginError;
pub use greeting::{greeting, shown_parameter, take_password};
pub use scram::{ScramError, verifier};
pub use session::{Ask, BackendKey, LoggedIn, login};
pub use settings::{Settings, SettingsError, is_safe_encoding};

pub(super) use connect::secure;
pub(super) use message::{Frame, sqlstate};
