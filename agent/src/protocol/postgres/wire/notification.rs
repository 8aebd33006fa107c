//! `NotificationResponse` (to the client): what a session said with NOTIFY.

use super::{Body, WireError, frame};

/// A notification.
#[derive(Clone, Copy, Debug)]
pub struct Notification<'a> {
    /// The backend that sent it.
    pub process: [u8; 4],
    /// Channel.
    pub channel: &'a [u8],
    /// Payload; without zero bytes.
    pub payload: &'a [u8],
}

impl<'a> Notification<'a> {
    /// Message type.
    pub const TAG: u8 = b'A';

    /// Decodes a body.
    pub fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut body = Body::new("NotificationResponse", body);
        let process = [body.u8()?, body.u8()?, body.u8()?, body.u8()?];
        let notification = Self {
            process,
            channel: body.cstr()?,
            payload: body.cstr()?,
        };
        body.end()?;
        Ok(notification)
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        frame(out, Self::TAG, |out| {
            out.extend_from_slice(&self.process);
            for text in [self.channel, self.payload] {
                out.extend_from_slice(text);
                out.push(0);
            }
        });
    }
}
