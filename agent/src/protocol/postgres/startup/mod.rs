//! The client's side of the start of a session: from the first byte to the `StartupMessage`, and what is answered.
//!
//! The client is let in without a password of its own: what it is, the flow says, and what it may do, the policy.
//! The user that it names is kept for the record alone. Where the policy wants to know whether it has one, it is asked
//! ([`probe`]); what it answers decides nothing.
//!
//! Known limits: protocol 3.0 alone (3.1 and later are negotiated down, as an older server does); TLS from the first
//! byte on (`sslnegotiation=direct`), GSS encryption and replication are refused; parameters that are not UTF-8 are
//! refused; a client that insists on proving itself (`require_auth`, `channel_binding=require`) will not go on.
//!
//! Source: PostgreSQL 15, "Frontend/Backend Protocol", 55.2.1 and 55.7.

mod accept;
mod negotiation;
mod packet;
pub mod probe;
mod reply;

pub use accept::{ClientStream, ClientTls, Opened, StartupError, accept, refuse};
pub use packet::{CancelKey, Foreign, PacketError, Startup};
pub use reply::{Fatal, PROTOCOL_3_0};

pub(super) use packet::{CANCEL_REQUEST, SSL_REQUEST};
pub(super) use reply::{cstring, message};
