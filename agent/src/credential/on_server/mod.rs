//! What is common to accounts that the agent makes on a service's own server: how they are called, how the server is
//! reached, as whom, and how another host finds what was left.

mod admin;
mod names;
mod reach;
mod sweep;

pub use names::host_id;
pub use reach::ReachError;
pub use sweep::{FoundRole, Sweeper};

pub(super) use admin::{check, read};
pub(super) use names::{PREFIX, expiry_of, host_of, new};
pub(super) use reach::Server;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::model::Secret;

/// Bytes of a password: as hard to guess as the key that its verifier is made with.
const PASSWORD: usize = 32;

/// A random one, in letters that `SASLprep` does not change and no protocol quotes.
pub(super) fn password() -> Secret {
    let random = Zeroizing::new(rand::random::<[u8; PASSWORD]>());
    Secret::new(URL_SAFE_NO_PAD.encode(*random).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::password;

    #[test]
    fn passwords_are_long_and_not_two_are_the_same() {
        assert_eq!(password().expose().len(), 43);
        assert_ne!(password().expose(), password().expose());
    }
}
