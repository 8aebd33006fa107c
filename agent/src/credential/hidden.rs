//! A text of a document that is wiped when it is dropped.

use serde::Deserialize;
use zeroize::Zeroizing;

use crate::model::Secret;

/// A secret as a document has it.
pub(super) struct Hidden(pub(super) Zeroizing<String>);

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Hidden {
    /// As a credential. Refuses what no protocol carries.
    pub(super) fn secret(&self) -> Result<Secret, &'static str> {
        if self.0.is_empty() {
            return Err("an empty secret");
        }
        if self.0.contains('\0') {
            return Err("a secret with a zero byte in it");
        }
        Ok(Secret::new(self.0.as_bytes().to_vec()))
    }

    /// As a token that goes into a header or a form: visible ASCII, of at most 16 KiB.
    pub(super) fn token(&self) -> Result<Secret, &'static str> {
        if self.0.is_empty() || self.0.len() > LONGEST_TOKEN || !self.0.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err("a token that is none: it has to be up to 16 KiB of visible ASCII");
        }
        self.secret()
    }
}

const LONGEST_TOKEN: usize = 16 * 1024;
