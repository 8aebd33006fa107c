//! Ends of messages in the server's stream, so that a client is left between two messages whenever that can be.
//!
//! A session can end at any moment: its record fails, a limit is passed, the server dies. The client can be told so only
//! where it has had whole messages. So a message that is not here to its end waits for the rest of it, unless it is so
//! long that it has to be passed on in pieces; inside of such a one, a session that ends says nothing.

use super::super::wire::Header;
use super::boxes::CHUNK;

/// Where in the server's stream the next byte stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Whole {
    /// Bytes that the message at hand still has.
    left: usize,
}

impl Whole {
    /// How much of `bytes` can be passed on now, and where that leaves the stream. What breaks the format is passed on
    /// as well: it is for others to say so.
    pub(super) fn offer(self, bytes: &[u8]) -> (usize, Self) {
        let mut at = self.left;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let size = match Header::peek(rest) {
                Ok(Some(header)) => header.size(),
                Ok(None) => return (at, Self::default()),
                Err(_) => return (bytes.len(), Self::default()),
            };
            if size > rest.len() && size <= CHUNK {
                return (at, Self::default());
            }
            at += size;
        }
        (
            bytes.len(),
            Self {
                left: at - bytes.len(),
            },
        )
    }

    /// Where the stream stands when only `bytes` of what was offered was taken.
    pub(super) fn advance(self, bytes: &[u8]) -> Self {
        let mut at = self.left;
        while let Some(Ok(Some(header))) = bytes.get(at..).filter(|rest| !rest.is_empty()).map(Header::peek) {
            at += header.size();
        }
        Self {
            left: at.saturating_sub(bytes.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{CHUNK, Whole};

    fn message(body: usize) -> Vec<u8> {
        let length = u32::try_from(body + 4).unwrap().to_be_bytes();
        [&b"D"[..], &length, &vec![b'x'; body]].concat()
    }

    #[test]
    fn a_message_waits_for_its_end_unless_it_is_too_long_to_wait_for() {
        let (short, long) = (message(10), message(CHUNK));
        for (what, bytes, offered) in [
            ("nothing", Vec::new(), 0),
            ("a part of a header", short[..4].to_vec(), 0),
            ("a part of a short message", short[..14].to_vec(), 0),
            ("a short message", short.clone(), 15),
            (
                "a short message and a part",
                [&short[..], &short[..9]].concat(),
                15,
            ),
            ("a part of a long message", long[..100].to_vec(), 100),
            (
                "a short message and a part of a long one",
                [&short[..], &long[..9]].concat(),
                24,
            ),
            ("a length that there is not", b"D\xff\xff\xff\xffabc".to_vec(), 8),
        ] {
            assert_eq!(Whole::default().offer(&bytes).0, offered, "{what}");
        }
    }

    proptest! {
        #[test]
        fn however_the_stream_is_cut_all_of_it_passes_and_short_messages_whole(
            bodies in prop::collection::vec(prop_oneof![0usize..40, CHUNK - 8..CHUNK + 8], 1..6),
            cuts in prop::collection::vec(1usize..90_000, 1..20),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|body| message(*body)).collect();
            let mut ends = Vec::new();
            let mut end = 0;
            for body in &bodies {
                if body + 5 <= CHUNK {
                    ends.push(end..end + body + 5);
                }
                end += body + 5;
            }
            let (mut whole, mut passed, mut arrived) = (Whole::default(), 0, 0);
            for cut in cuts.iter().cycle() {
                arrived = (arrived + cut).min(stream.len());
                let (offered, next) = whole.offer(&stream[passed..arrived]);
                passed += offered;
                whole = next;
                prop_assert!(ends.iter().all(|short| passed <= short.start || passed >= short.end));
                if arrived == stream.len() {
                    break;
                }
            }
            prop_assert_eq!(passed, stream.len());
        }
    }
}
