//! SCRAM-SHA-256 as a client does it, and what a server stores to check it: `SASLInitialResponse` and `SASLResponse`
//! (frontend), `AuthenticationSASLContinue` and `AuthenticationSASLFinal` (backend).
//!
//! Done here because of what a library leaves behind: everything that the password can be computed from is wiped. Without
//! channel binding. Known limit: a password with letters outside of ASCII is prepared by `stringprep`, which does not wipe
//! what it works with.
//!
//! Source: RFC 5802, RFC 7677, RFC 5803; RFC 4013 for the password. As PostgreSQL does, a password that cannot be prepared is
//! taken as it is.

use std::fmt::Write as _;
use std::num::NonZeroU32;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use aws_lc_rs::pbkdf2::{PBKDF2_HMAC_SHA256, derive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::model::Secret;

/// Name of the mechanism.
pub(super) const MECHANISM: &str = "SCRAM-SHA-256";
/// "n": this client does not do channel binding. Saying "y" would make a server that offers it suspect an attack.
const HEADER: &str = "n,,";
/// Bytes of the client's nonce.
const NONCE: usize = 18;
/// More work than any server asks for: it is the target that says how much there is (CVE-2026-42198 of pgjdbc).
const MOST_ITERATIONS: u32 = 100_000;
/// PostgreSQL's own default.
const ITERATIONS: NonZeroU32 = NonZeroU32::MIN.saturating_add(4095);

/// Why an exchange fails. An impostor, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// The first message of the server.
    #[error("the server's first message is malformed")]
    First,
    /// The server's nonce does not begin with the client's.
    #[error("the server answers somebody else's question")]
    Nonce,
    /// A number of iterations that is out of range.
    #[error("the server asks for 0, or for more than {MOST_ITERATIONS}, iterations")]
    Iterations,
    /// The last message of the server.
    #[error("the server's last message is malformed")]
    Final,
    /// The server says that it failed: the password is wrong.
    #[error("the server refuses the proof")]
    Refused,
    /// The server does not know the password.
    #[error("the server's signature is wrong")]
    Signature,
    /// `AuthenticationOk` in place of the server's last message.
    #[error("AuthenticationOk before the server's proof")]
    NoProof,
}

/// An exchange that awaits the server's first message.
pub(super) struct ExpectFirst {
    nonce: String,
}

/// An exchange that awaits the server's last message.
pub(super) struct ExpectFinal {
    signature: hmac::Tag,
}

impl ExpectFirst {
    pub(super) fn new() -> Self {
        Self {
            nonce: STANDARD.encode(rand::random::<[u8; NONCE]>()),
        }
    }

    /// `client-first-message`. PostgreSQL takes the user from the start-up message.
    pub(super) fn message(&self) -> String {
        format!("{HEADER}{}", self.bare())
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Takes `server-first-message`, and gives `client-final-message`.
    pub(super) fn answer(
        self,
        first: &[u8],
        password: &Secret,
    ) -> Result<(Zeroizing<String>, ExpectFinal), ScramError> {
        let first = std::str::from_utf8(first).map_err(|_| ScramError::First)?;
        let (nonce, salt, iterations) = parse_first(first)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        // Goes into the proof; never sent.
        let salted = salted(password.expose(), &salt, iterations);
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(HEADER));
        let signed = format!("{},{first},{without_proof}", self.bare());
        let client_key = key(&salted[..], b"Client Key");
        let stored = digest(&SHA256, client_key.as_ref());
        let signature = hmac::sign(&hmac::Key::new(HMAC_SHA256, stored.as_ref()), signed.as_bytes());
        let proof: Zeroizing<Vec<u8>> = Zeroizing::new(
            client_key
                .as_ref()
                .iter()
                .zip(signature.as_ref())
                .map(|(key, signature)| key ^ signature)
                .collect(),
        );
        let mut message = Zeroizing::new(String::with_capacity(without_proof.len() + 64));
        // Writing to a String cannot fail.
        let _infallible = write!(message, "{without_proof},p=");
        STANDARD.encode_string(&*proof, &mut message);
        let server_key = key(&salted[..], b"Server Key");
        let signature = hmac::sign(
            &hmac::Key::new(HMAC_SHA256, server_key.as_ref()),
            signed.as_bytes(),
        );
        Ok((message, ExpectFinal { signature }))
    }
}

impl ExpectFinal {
    /// Takes `server-final-message`: whether the server knows the password.
    pub(super) fn verify(&self, last: &[u8]) -> Result<(), ScramError> {
        if last.starts_with(b"e=") {
            return Err(ScramError::Refused);
        }
        let signature = last.strip_prefix(b"v=").ok_or(ScramError::Final)?;
        let end = memchr::memchr(b',', signature).unwrap_or(signature.len());
        let signature = signature.get(..end).and_then(|text| STANDARD.decode(text).ok());
        let signature = signature.ok_or(ScramError::Final)?;
        verify_slices_are_equal(&signature, self.signature.as_ref()).map_err(|_| ScramError::Signature)
    }
}

/// What a server stores of a password (RFC 5803): nobody can log in with it, nor compute the password from it in useful time
/// if it is a random one.
pub fn verifier(password: &Secret) -> String {
    verifier_with(password, &rand::random::<[u8; 16]>())
}

fn verifier_with(password: &Secret, salt: &[u8]) -> String {
    // Hashed here, so that it does not travel.
    let salted = salted(password.expose(), salt, ITERATIONS);
    let stored = digest(&SHA256, key(&salted[..], b"Client Key").as_ref());
    let server = key(&salted[..], b"Server Key");
    format!(
        "{MECHANISM}${ITERATIONS}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

/// The server's nonce, the salt, and the number of iterations.
fn parse_first(first: &str) -> Result<(&str, Vec<u8>, NonZeroU32), ScramError> {
    let mut fields = first.split(',');
    let mut field = |name: &str| fields.next()?.strip_prefix(name);
    // `m=`, an extension that has to be understood, stands before the nonce, so that it is an error.
    let (nonce, salt, iterations) =
        (|| Some((field("r=")?, field("s=")?, field("i=")?)))().ok_or(ScramError::First)?;
    let salt = STANDARD.decode(salt).map_err(|_| ScramError::First)?;
    let iterations: u32 = iterations.parse().map_err(|_| ScramError::First)?;
    match NonZeroU32::new(iterations) {
        Some(iterations) if iterations.get() <= MOST_ITERATIONS => Ok((nonce, salt, iterations)),
        _ => Err(ScramError::Iterations),
    }
}

fn salted(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Zeroizing<[u8; 32]> {
    let prepared = std::str::from_utf8(password)
        .ok()
        .and_then(|text| stringprep::saslprep(text).ok());
    let prepared = match prepared {
        Some(std::borrow::Cow::Owned(text)) => Some(Zeroizing::new(text)),
        // It is as it is; a text that is borrowed is the password itself.
        Some(std::borrow::Cow::Borrowed(_)) | None => None,
    };
    let password = prepared.as_ref().map_or(password, |text| text.as_bytes());
    let mut salted = Zeroizing::new([0; 32]);
    derive(PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted[..]);
    salted
}

fn key(salted: &[u8], name: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(HMAC_SHA256, salted), name)
}

#[cfg(test)]
mod tests {
    use super::{ExpectFirst, ScramError, verifier, verifier_with};
    use crate::model::Secret;

    fn pencil() -> Secret {
        Secret::new(b"pencil".to_vec())
    }

    /// The exchange of RFC 7677 §3, but for the user, whom PostgreSQL does not want here; so the numbers were computed anew
    /// with Python's hashlib.
    fn exchange() -> ExpectFirst {
        ExpectFirst {
            nonce: "rOprNGfwEbeRWgbNEkqO".to_owned(),
        }
    }

    const FIRST: &[u8] =
        b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";

    #[test]
    fn both_sides_prove_that_they_know_the_password() {
        assert_eq!(exchange().message(), "n,,n=,r=rOprNGfwEbeRWgbNEkqO");
        let (message, last) = exchange().answer(FIRST, &pencil()).unwrap();
        assert_eq!(
            *message,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=qvT2SWdEH5Q06albL+hjSYuUhCG7VndFyzIb7CK4n9k="
        );
        assert_eq!(
            last.verify(b"v=3HO6Qt1M4MKJrmlKaoOqLAI0/0TV0HZe7J9H3MBtSOg="),
            Ok(())
        );
        assert_eq!(last.verify(b"v=AAAA"), Err(ScramError::Signature));
        assert_eq!(last.verify(b"e=invalid-proof"), Err(ScramError::Refused));
        assert_eq!(last.verify(b"x"), Err(ScramError::Final));
    }

    #[test]
    fn what_a_server_stores_is_what_postgresql_would_store() {
        let stored = verifier_with(&pencil(), b"0123456789abcdef");
        assert_eq!(
            stored,
            "SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$nQpbZ77WudtqufPwikHXGRt6g2QJ4zns8bZLw273DRM=:jn2amWP1q1h+jgjy0YTO14S6/F02SV7taipOeB7ef20="
        );
        assert_ne!(verifier(&pencil()), verifier(&pencil()));
    }

    #[test]
    fn a_password_is_prepared_as_far_as_it_can_be() {
        let stored = |password: &[u8]| verifier_with(&Secret::new(password.to_vec()), b"salt");
        assert_eq!(stored("\u{2168}".as_bytes()), stored(b"IX"));
        assert_eq!(stored("a\u{ad}b".as_bytes()), stored(b"ab"));
        assert_ne!(stored(b"\xff"), stored(b""));
        assert_ne!(stored(b"a\x07"), stored(b"a"));
    }

    #[test]
    fn a_server_that_says_something_else_is_not_answered() {
        for (first, error) in [
            (&b""[..], ScramError::First),
            (b"\xff", ScramError::First),
            (b"m=x,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=4096", ScramError::First),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=!,i=4096", ScramError::First),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=x", ScramError::First),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA", ScramError::First),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0", ScramError::Iterations),
            (b"r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=100001", ScramError::Iterations),
            (b"r=rOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", ScramError::Nonce),
            (b"r=xrOprNGfwEbeRWgbNEkqO,s=AAAA,i=4096", ScramError::Nonce),
        ] {
            let refused = exchange().answer(first, &pencil()).map(|_| ()).unwrap_err();
            assert_eq!(refused, error, "{}", first.escape_ascii());
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_a_server_says_stops_it(first in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let _refused = exchange().answer(&first, &pencil()).is_err();
        }
    }
}
