//! `ErrorResponse` and `NoticeResponse` (to the client): a failure, or a remark, in fields.

use super::{Body, WireError, frame};

/// The fields of an `ErrorResponse` or `NoticeResponse`.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields<'a> {
    body: Body<'a>,
}

impl<'a> ErrorFields<'a> {
    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let fields = Self {
            body: Body::new("ErrorResponse or NoticeResponse", body),
        };
        let mut body = fields.body;
        while body.u8()? != 0 {
            body.cstr()?;
        }
        body.end()?;
        Ok(fields)
    }

    /// Type and value of each field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut body = self.body;
        std::iter::from_fn(move || match body.u8() {
            Ok(kind) if kind != 0 => body.cstr().ok().map(|value| (kind, value)),
            _ => None,
        })
    }

    /// Value of the first field of a type.
    pub fn get(&self, kind: u8) -> Option<&'a [u8]> {
        self.iter().find(|field| field.0 == kind).map(|field| field.1)
    }

    /// Its SQLSTATE; empty where it has none.
    pub fn sqlstate(&self) -> &'a [u8] {
        self.get(b'C').unwrap_or_default()
    }
}

/// An error to be sent. Zero bytes in its texts are left out: the format has no place for them.
#[derive(Clone, Copy, Debug)]
pub struct ErrorResponse<'a> {
    /// Severity: `ERROR` leaves the session open, `FATAL` ends it.
    pub severity: &'a str,
    /// SQLSTATE.
    pub code: &'a str,
    /// What is wrong, in one sentence.
    pub message: &'a str,
    /// What can be done, in one sentence; empty: left out.
    pub hint: &'a str,
}

impl ErrorResponse<'_> {
    /// Message type.
    pub const TAG: u8 = b'E';

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Self::TAG, |out| {
            fields(out, self.severity, self.code, self.message, self.hint);
        });
    }
}

/// A remark to be sent, of severity `NOTICE`.
#[derive(Clone, Copy, Debug)]
pub struct NoticeResponse<'a> {
    /// The remark.
    pub message: &'a str,
    /// What can be done; empty: left out.
    pub hint: &'a str,
}

impl NoticeResponse<'_> {
    /// Message type.
    pub const TAG: u8 = b'N';

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Self::TAG, |out| {
            fields(out, "NOTICE", "00000", self.message, self.hint);
        });
    }
}

fn fields(out: &mut Vec<u8>, severity: &str, code: &str, message: &str, hint: &str) {
    let all = [
        (b'S', severity),
        (b'V', severity),
        (b'C', code),
        (b'M', message),
        (b'H', hint),
    ];
    for (kind, value) in all {
        if kind != b'H' || !value.is_empty() {
            out.push(kind);
            out.extend(value.bytes().filter(|byte| *byte != 0));
            out.push(0);
        }
    }
    out.push(0);
}
