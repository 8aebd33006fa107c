//! `source = "ssh-ca"`: a key of a session's own, and a user certificate over it that is valid for minutes
//! (OpenSSH's PROTOCOL.certkeys).
//!
//! Nothing is left to revoke: the key is nowhere but in the session's memory, and the certificate ends by itself. So
//! nothing is planned, and the journal has no entry.
//!
//! Known limits: a server looks at a certificate when somebody logs in, and at no other time: its end ends no session that
//! is open. Names of principals come from the policy alone, never from a token: what a job can have written into its token (a branch, a
//! title) must not decide as whom it logs in. A server whose clock is behind by more than a minute refuses the certificate.

mod authority;
mod error;
mod make;

#[cfg(test)]
mod tests;

pub use error::SshCaError;

pub(super) use make::maker;
