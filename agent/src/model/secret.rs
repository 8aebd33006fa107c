//! A secret: wiped when dropped, and never printed.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that must not reach a log, a record, an error or a core dump.
///
/// It implements neither `Display` nor `Serialize`, and its `Debug` shows nothing, not even its length.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`; the caller keeps no copy.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret itself. Name the reason at the place of the call: each is a place where it could leak.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Takes as long wherever two secrets of one length differ.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_shows_nothing_of_the_secret() {
        assert_eq!(format!("{:?}", Secret::new(b"hunter2".to_vec())), "Secret");
    }
}
