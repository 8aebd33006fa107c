//! Findings: secrets that a workload still has and sends, though the agent logs in for it.
//!
//! Whoever meets such a secret says so with a [`Sighting`]: a protocol adapter that was sent one, or the look into the
//! process that opened a session ([`process`]). All come to [`Findings::note`], which keeps a fingerprint of the secret and
//! forgets the secret. The fingerprint is keyed with a key of the host: equal secrets are seen to be equal, and nobody
//! without the key can try values. An adapter for another protocol adds a variant to [`SeenAt`] for the places that it knows
//! (a header, a key that was offered), and nothing else.
//!
//! Known limits: whoever may list findings and run a workload can try a password by sending it and comparing
//! fingerprints, one session for each. Findings are kept until they are forgotten, or crowded out by newer ones of the same
//! workload ([`MOST_OF_WORKLOAD`]). What a process holds only in its memory, or reads from a file, is not found.

mod error;
mod file;
mod key;
pub mod process;
mod sighting;
mod store;

#[cfg(test)]
mod tests;

pub use error::FindingError;
pub use key::{FindingKey, Fingerprint};
pub use sighting::{Question, SecretKind, SeenAt, Sighting, Witness};
pub use store::{Finding, FindingId, Findings, MOST, MOST_OF_WORKLOAD};
