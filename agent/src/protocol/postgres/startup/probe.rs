//! `AuthenticationCleartextPassword` and `AuthenticationMD5Password` (backend), and the `PasswordMessage` (frontend) that
//! answers: a client that would be let in without it is asked whether it has a password of its own.
//!
//! Known limits: a client that has none, or that takes neither way of asking (`require_auth`), ends the connection. What it
//! sends passes through buffers of the TLS library, which are not wiped.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use zeroize::{Zeroize, Zeroizing};

use crate::finding::Question;
use crate::model::Secret;
use crate::protocol::SessionEnd;

use super::reply::message;

/// How long a client may take to answer: PostgreSQL's `authentication_timeout`.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longest `PasswordMessage`, without its type byte. PostgreSQL's own limit is 65,535 bytes.
const LONGEST: usize = 60 * 1024;
/// Letters of an answer to `AuthenticationMD5Password`.
const MD5: &[u8] = b"md5";

/// What a client answered.
#[derive(Debug)]
pub enum Answer {
    /// Its password, or the proof.
    Secret(Secret),
    /// Nothing: it has no password, and goes on.
    Empty,
    /// Nothing: it has no password, and is gone.
    Gone,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Something that is no answer.
    #[error("it answered a request for its password with {0}")]
    Answer(&'static str),
    /// The client took too long.
    #[error("it did not answer a request for its password within {} seconds", PATIENCE.as_secs())]
    TooSlow,
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

impl From<ProbeError> for SessionEnd {
    fn from(error: ProbeError) -> Self {
        Self::Client(error.to_string())
    }
}

/// The message that asks.
pub fn request(question: Question) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, b'R', |out| match question {
        Question::Password => out.extend_from_slice(&3u32.to_be_bytes()),
        Question::Proof { salt } => {
            out.extend_from_slice(&5u32.to_be_bytes());
            out.extend_from_slice(&salt);
        }
    });
    out
}

/// Sends `request` and takes the answer, which may stand in `early` already: then it is taken off there.
pub async fn ask<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut C,
    early: &mut BytesMut,
    request: &[u8],
    question: Question,
) -> Result<Answer, ProbeError> {
    let conversation = async {
        client.write_all(request).await?;
        client.flush().await?;
        answer(client, early).await
    };
    let answer = timeout(PATIENCE, conversation)
        .await
        .map_err(|_| ProbeError::TooSlow)??;
    let proof = |secret: &Secret| {
        // Looked at for its form alone.
        let text = secret.expose();
        text.len() == MD5.len() + 32 && text.starts_with(MD5)
    };
    match (&answer, question) {
        (Answer::Secret(secret), Question::Proof { .. }) if !proof(secret) => {
            Err(ProbeError::Answer("something that is no MD5 hash"))
        }
        _ => Ok(answer),
    }
}

async fn answer<C: AsyncRead + Unpin>(client: &mut C, early: &mut BytesMut) -> Result<Answer, ProbeError> {
    // One allocation, of the largest size: a vector that grows leaves copies of the password behind.
    let mut buffer = Zeroizing::new(Vec::with_capacity(early.len() + 5 + LONGEST));
    buffer.extend_from_slice(early);
    early.as_mut().zeroize();
    early.clear();
    let end = loop {
        match whole(&buffer)? {
            Some(end) => break end,
            None if client.read_buf(&mut *buffer).await? == 0 => return Ok(Answer::Gone),
            None => {}
        }
    };
    let (asked, rest) = buffer.split_at(end);
    early.extend_from_slice(rest);
    let text = asked.get(5..).unwrap_or_default();
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    Ok(if text.is_empty() {
        Answer::Empty
    } else {
        Answer::Secret(Secret::new(text.to_vec()))
    })
}

/// Where the `PasswordMessage` at the front ends; `None`: it is not whole.
fn whole(buffer: &[u8]) -> Result<Option<usize>, ProbeError> {
    match buffer {
        [b'p', l0, l1, l2, l3, rest @ ..] => {
            let length = u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize;
            if !(4..=LONGEST).contains(&length) {
                return Err(ProbeError::Answer("a message of a length that no password has"));
            }
            Ok((rest.len() >= length - 4).then_some(length + 1))
        }
        [] | [b'p', ..] => Ok(None),
        [..] => Err(ProbeError::Answer("a message that is no password")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{Answer, ProbeError, ask, request};
    use crate::finding::Question;

    const SALT: Question = Question::Proof { salt: *b"salt" };

    /// What comes of a client that has sent `early` before it was asked, and sends `late` when it is.
    async fn asked(question: Question, early: &[u8], late: &[u8]) -> (Result<Answer, ProbeError>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(1024);
        let mut early = BytesMut::from(early);
        let client = async {
            let mut seen = vec![0; request(question).len()];
            far.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, request(question));
            for byte in late {
                far.write_all(&[*byte]).await.unwrap();
            }
            drop(far);
        };
        let request = request(question);
        let (answer, ()) = tokio::join!(ask(&mut near, &mut early, &request, question), client);
        (answer, early.to_vec())
    }

    #[tokio::test]
    async fn a_password_is_taken_however_it_comes_and_what_follows_stays() {
        let message = b"p\0\0\0\x0chunter2\0";
        for split in 0..=message.len() {
            let (early, late) = message.split_at(split);
            let (answer, _) = asked(Question::Password, early, late).await;
            assert!(
                matches!(answer, Ok(Answer::Secret(secret)) if secret.expose() == b"hunter2"),
                "{split}"
            );
        }
        let (_, rest) = asked(
            Question::Password,
            &[&message[..], b"Q\0\0\0\x05\0"].concat(),
            b"",
        )
        .await;
        assert_eq!(rest, b"Q\0\0\0\x05\0");
    }

    #[tokio::test]
    async fn a_client_without_a_password_is_told_from_one_that_breaks_the_protocol() {
        let (gone, _) = asked(Question::Password, b"", b"").await;
        assert!(matches!(gone, Ok(Answer::Gone)));
        let (cut, _) = asked(Question::Password, b"", b"p\0\0\0\x0chun").await;
        assert!(matches!(cut, Ok(Answer::Gone)));
        let (empty, _) = asked(Question::Password, b"", b"p\0\0\0\x05\0").await;
        assert!(matches!(empty, Ok(Answer::Empty)));
        for wrong in [
            &b"Q\0\0\0\x05\0"[..],
            b"X\0\0\0\x04",
            b"p\0\0\0\0",
            b"p\xff\xff\xff\xff",
        ] {
            let (refused, _) = asked(Question::Password, b"", wrong).await;
            assert!(matches!(refused, Err(ProbeError::Answer(_))), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn a_proof_is_a_hash_and_nothing_else() {
        let proof = [b"p\0\0\0\x28md5", &[b'0'; 32][..], b"\0"].concat();
        let (answer, _) = asked(SALT, b"", &proof).await;
        assert!(matches!(answer, Ok(Answer::Secret(_))));
        let (refused, _) = asked(SALT, b"", b"p\0\0\0\x0chunter2\0").await;
        assert!(matches!(refused, Err(ProbeError::Answer(_))));
    }
}
