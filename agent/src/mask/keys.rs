//! The keys of the hashing masks. Equal values give equal hashes on one host, and nobody without the key can
//! try values.

use std::fmt;

use zeroize::ZeroizeOnDrop;

/// Length of a hash as text: 128 bits in hex.
const HEX_LENGTH: usize = 32;

/// Keys derived from the host's mask key, one a kind of value.
#[derive(ZeroizeOnDrop)]
pub(super) struct Keys {
    text: [u8; 32],
    integer: [u8; 32],
}

impl Keys {
    pub(super) fn new(key: [u8; 32]) -> Self {
        Self {
            integer: blake3::derive_key("tollgate 2026 mask integers", &key),
            text: key,
        }
    }

    /// Appends 32 hexadecimal digits that stand for `value`.
    pub(super) fn hash_text(&self, value: &[u8], out: &mut Vec<u8>) {
        let hex = blake3::keyed_hash(&self.text, value).to_hex();
        out.extend(hex.bytes().take(HEX_LENGTH));
    }

    /// As [`Keys::hash_text`], for a value that comes in pieces.
    pub(super) fn hasher(&self) -> ValueHash {
        ValueHash(Box::new(blake3::Hasher::new_keyed(&self.text)))
    }

    /// A number from 0 to `max` that stands for `value`; `max` is one less than a power of two.
    pub(super) fn hash_integer(&self, value: &[u8], max: i64) -> i64 {
        let hash = blake3::keyed_hash(&self.integer, value);
        let bits = hash
            .as_bytes()
            .first_chunk::<8>()
            .map_or(0, |bytes| i64::from_be_bytes(*bytes));
        bits & max
    }
}

/// The hash of a value that comes in pieces.
pub struct ValueHash(Box<blake3::Hasher>);

impl ValueHash {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// 32 hexadecimal digits that stand for the value.
    pub fn finish(&self) -> String {
        let hex = self.0.finalize().to_hex();
        hex.chars().take(HEX_LENGTH).collect()
    }
}

impl fmt::Debug for ValueHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ValueHash")
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}
