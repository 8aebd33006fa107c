//! `source = "vault"`: what a `HashiCorp` Vault keeps or makes (HTTP API v1).
//!
//! The agent logs in with a token, an `AppRole` or the workload's own JWT. From a KV engine it reads a secret that somebody else
//! put there; the database engine makes a login for a lease; the SSH engine signs a key that the agent made for the session.
//!
//! What Vault calls a lease has a name only when it is there, too late for the journal. So each is made under a token of
//! its own: a child of the agent's token, or what the JWT is changed for. Its accessor, which is no secret, is in the journal before
//! anything is asked for under it, and with the token goes everything under it. A child lasts a minute until then, so what
//! is left of a crash before it is written down is a token with nothing under it that ends by itself.
//!
//! The client is our own: `vaultrs` 0.8 reads answers of any length, sends `X-Vault-Token` on to wherever a redirect
//! points, and keeps tokens in texts that are not wiped.
//!
//! Known limits: the agent's own token bears its children: when it ends for good, so do they, and their sessions are told to
//! end then. A JWT gives no token that could revoke after a crash; see `cleanup`. What a request holds on its way
//! (a `secret_id`, a JWT) is in the HTTP client's memory, which is not wiped.

mod answer;
mod certificate;
mod connection;
mod engine;
mod error;
mod handle;
mod http;
mod make;
mod token;

#[cfg(test)]
mod tests;

pub use error::VaultError;
pub(super) use handle::VaultHandle;

pub(super) use make::maker;
