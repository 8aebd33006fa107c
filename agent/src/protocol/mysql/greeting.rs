//! `HandshakeV10` (server), `SSLRequest` and `HandshakeResponse41` (client).

use super::MysqlError;
use super::packet::Reader;

const LONG_PASSWORD: u32 = 1;
const PROTOCOL_41: u32 = 1 << 9;
const SSL: u32 = 1 << 11;
const TRANSACTIONS: u32 = 1 << 13;
const SECURE_CONNECTION: u32 = 1 << 15;
const PLUGIN_AUTH: u32 = 1 << 19;
/// Without it nothing of this is possible.
const NEEDED: u32 = PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;
const OURS: u32 = NEEDED | LONG_PASSWORD | TRANSACTIONS;
/// `utf8mb4_general_ci`.
const UTF8: u8 = 45;
const LONGEST_PACKET: u32 = 1 << 20;
/// Bytes of a challenge, less the zero byte behind it.
pub(super) const CHALLENGE: usize = 20;

/// What a server says first.
#[derive(Debug)]
pub(super) struct Greeting {
    /// Its version, as it says it.
    pub(super) version: String,
    capabilities: u32,
    pub(super) challenge: [u8; CHALLENGE],
    /// How it would have the password proved.
    pub(super) method: String,
}

impl Greeting {
    pub(super) fn read(payload: &[u8]) -> Result<Self, MysqlError> {
        Self::parse(payload).ok_or(MysqlError::Protocol("a greeting that is none of protocol 10"))
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        if reader.byte()? != 10 {
            return None;
        }
        let version = std::str::from_utf8(reader.cstring()?).ok()?.to_owned();
        reader.take(4)?;
        let mut challenge = [0; CHALLENGE];
        let (first, second) = challenge.split_at_mut(8);
        first.copy_from_slice(reader.take(8)?);
        reader.take(1)?;
        let low = reader.u16()?;
        reader.take(3)?;
        let high = reader.u16()?;
        let capabilities = u32::from(low) | u32::from(high) << 16;
        if capabilities & NEEDED != NEEDED {
            return None;
        }
        reader.take(11)?;
        second.copy_from_slice(reader.take(12)?);
        reader.take(1)?;
        let method = std::str::from_utf8(reader.cstring()?).ok()?.to_owned();
        Some(Self {
            version,
            capabilities,
            challenge,
            method,
        })
    }

    pub(super) fn has_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }
}

/// Asks for TLS.
pub(super) fn ssl_request() -> Vec<u8> {
    head(OURS | SSL)
}

/// Names the user, and proves the password as `method` says.
pub(super) fn response(tls: bool, user: &[u8], proof: &[u8], method: &str) -> Option<Vec<u8>> {
    let mut payload = head(if tls { OURS | SSL } else { OURS });
    payload.extend(user);
    payload.push(0);
    // With SECURE_CONNECTION alone the length is one byte.
    payload.push(u8::try_from(proof.len()).ok()?);
    payload.extend(proof);
    payload.extend(method.as_bytes());
    payload.push(0);
    Some(payload)
}

fn head(capabilities: u32) -> Vec<u8> {
    let mut payload = Vec::with_capacity(128);
    payload.extend(capabilities.to_le_bytes());
    payload.extend(LONGEST_PACKET.to_le_bytes());
    payload.push(UTF8);
    payload.extend([0; 23]);
    payload
}
