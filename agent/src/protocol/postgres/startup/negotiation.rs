//! The order in which a client may ask: encryption, each kind once, then a session or a cancel.

use bytes::{Buf, BytesMut};

use super::packet::{CancelKey, Packet, PacketError, Startup, decode};

/// What has been asked for so far.
#[derive(Debug, Default)]
pub(super) struct Negotiation {
    ssl: bool,
    gss: bool,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// Answer `S`, then shake hands.
    StartTls,
    /// Answer `N`, then go on in clear.
    NoGss,
    /// The session starts. What is left in the buffer are its first bytes.
    Session(Startup),
    /// A session is to be cancelled; the connection has no other purpose.
    Cancel(CancelKey),
}

/// Why the negotiation ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NegotiationError {
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// Accepted as if it had come encrypted, it would let a man in the middle put commands before the client's own
    /// (CVE-2021-23222 and its kind).
    #[error("received unencrypted data after SSL request")]
    DataBeforeTls,
    #[error("{0} came a second time, or inside TLS")]
    Repeated(&'static str),
}

impl Negotiation {
    /// Takes the next packet out of `buffer`.
    pub(super) fn advance(&mut self, buffer: &mut BytesMut) -> Result<Step, NegotiationError> {
        let Some((packet, length)) = decode(buffer)? else {
            return Ok(Step::More);
        };
        buffer.advance(length);
        match packet {
            Packet::Ssl if self.ssl => Err(NegotiationError::Repeated("SSLRequest")),
            Packet::Ssl if !buffer.is_empty() => Err(NegotiationError::DataBeforeTls),
            Packet::Ssl => {
                self.ssl = true;
                Ok(Step::StartTls)
            }
            // Inside TLS there is nothing left to encrypt.
            Packet::Gss if self.gss || self.ssl => Err(NegotiationError::Repeated("GSSENCRequest")),
            Packet::Gss => {
                self.gss = true;
                Ok(Step::NoGss)
            }
            Packet::Cancel(key) => Ok(Step::Cancel(key)),
            Packet::Startup(startup) => Ok(Step::Session(startup)),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Negotiation, NegotiationError, Step};

    const SSL: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 47];
    const GSS: &[u8] = &[0, 0, 0, 8, 4, 210, 22, 48];
    const CANCEL: &[u8] = &[0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4];
    const START: &[u8] = b"\0\0\0\x10\0\x03\0\0user\0a\0\0";

    /// The steps that `packets` lead to, each packet in a segment of its own.
    fn steps(packets: &[&[u8]]) -> Result<Vec<Step>, NegotiationError> {
        let mut negotiation = Negotiation::default();
        let mut buffer = BytesMut::new();
        packets
            .iter()
            .map(|packet| {
                buffer.extend_from_slice(packet);
                negotiation.advance(&mut buffer)
            })
            .collect()
    }

    #[test]
    fn the_orders_that_clients_use() {
        assert!(matches!(steps(&[START]).unwrap()[..], [Step::Session(_)]));
        assert!(matches!(
            steps(&[SSL, START]).unwrap()[..],
            [Step::StartTls, Step::Session(_)]
        ));
        assert!(matches!(
            steps(&[GSS, SSL, START]).unwrap()[..],
            [Step::NoGss, Step::StartTls, Step::Session(_)]
        ));
        assert!(matches!(
            steps(&[SSL, CANCEL]).unwrap()[..],
            [Step::StartTls, Step::Cancel(_)]
        ));
        assert!(matches!(steps(&[CANCEL]).unwrap()[..], [Step::Cancel(_)]));
    }

    #[test]
    fn no_encryption_is_asked_for_twice() {
        for packets in [&[SSL, SSL][..], &[GSS, GSS], &[SSL, GSS]] {
            assert!(
                matches!(steps(packets), Err(NegotiationError::Repeated(_))),
                "{packets:?}"
            );
        }
    }

    #[test]
    fn nothing_in_clear_follows_an_ssl_request() {
        for extra in [&b"\x16"[..], START, b"\0"] {
            let joined = [SSL, extra].concat();
            assert_eq!(
                steps(&[&joined]),
                Err(NegotiationError::DataBeforeTls),
                "{extra:?}"
            );
        }
    }

    #[test]
    fn every_truncation_waits_and_takes_nothing() {
        for packet in [SSL, GSS, CANCEL, START] {
            for length in 0..packet.len() {
                let mut buffer = BytesMut::from(&packet[..length]);
                assert_eq!(
                    Negotiation::default().advance(&mut buffer),
                    Ok(Step::More),
                    "{length} of {packet:?}"
                );
                assert_eq!(buffer, packet[..length]);
            }
        }
    }

    #[test]
    fn what_follows_the_startup_message_is_kept() {
        let mut buffer = BytesMut::from(&[START, b"Q\0\0"].concat()[..]);
        assert!(matches!(
            Negotiation::default().advance(&mut buffer),
            Ok(Step::Session(_))
        ));
        assert_eq!(&buffer[..], b"Q\0\0");
    }
}
