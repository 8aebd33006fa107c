//! What the agent itself answers during the start of a session (backend).

use super::Startup;

/// Protocol 3.0, as it stands in a `StartupMessage`.
pub const PROTOCOL_3_0: u32 = 3 << 16;

/// `ErrorResponse` of severity FATAL: the session ends, and the client is told why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal {
    /// SQLSTATE: five letters or digits.
    pub code: String,
    /// One sentence: what is wrong.
    pub message: String,
    /// One sentence: what can be done about it.
    pub hint: Option<String>,
}

impl Fatal {
    /// An error without a hint.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The `ErrorResponse`, whole.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        message(&mut out, b'E', |out| {
            for (field, text) in [
                (b'S', "FATAL"),
                (b'V', "FATAL"),
                (b'C', self.code.as_str()),
                (b'M', self.message.as_str()),
            ] {
                out.push(field);
                cstring(out, text);
            }
            if let Some(hint) = &self.hint {
                out.push(b'H');
                cstring(out, hint);
            }
            out.push(0);
        });
        out
    }
}

/// `NegotiateProtocolVersion`: the newest version spoken here, and the protocol options that are not known.
pub(super) fn negotiate_protocol_version(startup: &Startup) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, b'v', |out| {
        out.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
        let count = u32::try_from(startup.extensions.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&count.to_be_bytes());
        for name in &startup.extensions {
            cstring(out, name);
        }
    });
    out
}

/// Appends one message: type, length, and the body that `body` writes.
pub(in super::super) fn message(out: &mut Vec<u8>, tag: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    counted(out, body);
}

/// Appends a length that counts itself, and the body that `body` writes.
pub(in super::super) fn counted(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    body(out);
    // All that is written here is bounded by a start-up packet, far below 4 GiB.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// Appends a C string; a NUL inside would end it early, so what follows it is left out.
pub(in super::super) fn cstring(out: &mut Vec<u8>, text: &str) {
    out.extend(text.bytes().take_while(|byte| *byte != 0));
    out.push(0);
}
