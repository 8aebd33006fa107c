//! Authentication towards the target. Messages in, answers out; no I/O.

use postgres_protocol::authentication::md5_hash;
use zeroize::Zeroizing;

use crate::protocol::Login;

use super::LoginError;
use super::message::password;
use super::scram::{self, ExpectFinal, ExpectFirst, ScramError};

/// Where the exchange stands.
pub(super) struct Authentication<'a> {
    login: &'a Login,
    tls: bool,
    state: State,
}

enum State {
    ExpectRequest,
    ExpectContinue(ExpectFirst),
    ExpectFinal(ExpectFinal),
    /// The password went out, or SCRAM is done: nothing is left but the target's consent.
    ExpectOk,
    Done,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    /// Send this.
    Send(Zeroizing<Vec<u8>>),
    /// Wait for the next message.
    Wait,
    /// The target has let us in.
    Done,
}

impl<'a> Authentication<'a> {
    /// `tls`: whether the connection is encrypted, so that a password in clear is not one.
    pub(super) fn new(login: &'a Login, tls: bool) -> Self {
        Self {
            login,
            tls,
            state: State::ExpectRequest,
        }
    }

    /// Whether `AuthenticationOk` has come.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the body of one Authentication message.
    pub(super) fn on(&mut self, body: &[u8]) -> Result<Step, LoginError> {
        let Some((code, body)) = body.split_first_chunk::<4>() else {
            return Err(LoginError::Protocol("an authentication request without a code"));
        };
        let state = std::mem::replace(&mut self.state, State::Done);
        let (next, step) = match (state, u32::from_be_bytes(*code)) {
            // Also at once ("trust"). Not between the messages of SCRAM: then the target would not have proved anything.
            (State::ExpectRequest | State::ExpectOk, 0) => (State::Done, Step::Done),
            (State::ExpectRequest, 3) => (State::ExpectOk, Step::Send(self.cleartext()?)),
            (State::ExpectRequest, 5) => (State::ExpectOk, Step::Send(self.md5(body)?)),
            (State::ExpectRequest, 10) => scram(body)?,
            (State::ExpectContinue(scram), 11) => {
                let answer = scram.answer(body, &self.login.password);
                let (message, scram) = answer.map_err(LoginError::Scram)?;
                (
                    State::ExpectFinal(scram),
                    Step::Send(password(&[message.as_bytes()])),
                )
            }
            (State::ExpectFinal(scram), 12) => {
                scram.verify(body).map_err(LoginError::Scram)?;
                (State::ExpectOk, Step::Wait)
            }
            (State::ExpectContinue(_) | State::ExpectFinal(_), 0) => {
                return Err(LoginError::Scram(ScramError::NoProof));
            }
            (State::ExpectRequest, 2) => return Err(LoginError::Unsupported("Kerberos 5")),
            (State::ExpectRequest, 6) => return Err(LoginError::Unsupported("SCM credentials")),
            (State::ExpectRequest, 7) => return Err(LoginError::Unsupported("GSSAPI")),
            (State::ExpectRequest, 9) => return Err(LoginError::Unsupported("SSPI")),
            (State::ExpectRequest, _) => {
                return Err(LoginError::Unsupported("an unknown way of authentication"));
            }
            _ => return Err(LoginError::Protocol("an authentication message out of order")),
        };
        self.state = next;
        Ok(step)
    }

    fn cleartext(&self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        if !self.tls {
            return Err(LoginError::Cleartext);
        }
        // Sent to the target inside TLS, which is what it is for.
        Ok(password(&[self.login.password.expose(), b"\0"]))
    }

    fn md5(&self, body: &[u8]) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        let salt = body
            .try_into()
            .map_err(|_| LoginError::Protocol("an MD5 salt that has not 4 bytes"))?;
        // Hashed with the target's salt; only the hash is sent.
        let hash = Zeroizing::new(md5_hash(
            self.login.user.expose(),
            self.login.password.expose(),
            salt,
        ));
        Ok(password(&[hash.as_bytes(), b"\0"]))
    }
}

fn scram(body: &[u8]) -> Result<(State, Step), LoginError> {
    let mut mechanisms = body.split(|byte| *byte == 0);
    if !mechanisms.any(|name| name == scram::MECHANISM.as_bytes()) {
        return Err(LoginError::Unsupported(
            "SASL without SCRAM-SHA-256 (perhaps with channel binding alone)",
        ));
    }
    let scram = ExpectFirst::new();
    let first = scram.message();
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    let answer = password(&[scram::MECHANISM.as_bytes(), b"\0", &length, first.as_bytes()]);
    Ok((State::ExpectContinue(scram), Step::Send(answer)))
}

#[cfg(test)]
mod tests {
    use super::{Authentication, LoginError, Step};
    use crate::model::Secret;
    use crate::protocol::Login;

    fn login() -> Login {
        Login {
            user: Secret::new(b"app".to_vec()),
            password: Secret::new(b"hunter2".to_vec()),
            database: None,
        }
    }

    fn request(code: u32, body: &[u8]) -> Vec<u8> {
        [&code.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_password_in_clear_is_sent_inside_tls_alone() {
        let login = login();
        let sent = Authentication::new(&login, true).on(&request(3, b"")).unwrap();
        assert!(matches!(sent, Step::Send(bytes) if &bytes[..] == b"p\0\0\0\x0chunter2\0"));
        let refused = Authentication::new(&login, false).on(&request(3, b""));
        assert!(matches!(refused, Err(LoginError::Cleartext)));
    }

    #[test]
    fn md5_is_salted_twice() {
        let login = login();
        let Step::Send(bytes) = Authentication::new(&login, false)
            .on(&request(5, b"\x01\x02\x03\x04"))
            .unwrap()
        else {
            panic!("no answer");
        };
        assert!(bytes.starts_with(b"p\0\0\0\x28md5"));
        assert!(
            Authentication::new(&login, false)
                .on(&request(5, b"\x01"))
                .is_err()
        );
    }

    #[test]
    fn what_is_not_done_is_named() {
        let login = login();
        for (code, body) in [
            (2, &b""[..]),
            (6, b""),
            (7, b""),
            (9, b""),
            (99, b""),
            (10, b"SCRAM-SHA-256-PLUS\0\0"),
            (10, b"OAUTHBEARER\0\0"),
        ] {
            let refused = Authentication::new(&login, true).on(&request(code, body));
            assert!(matches!(refused, Err(LoginError::Unsupported(_))), "{code}");
        }
    }

    #[test]
    fn a_target_that_skips_its_proof_is_not_believed() {
        let login = login();
        let mut exchange = Authentication::new(&login, true);
        assert!(matches!(
            exchange.on(&request(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")),
            Ok(Step::Send(_))
        ));
        assert!(matches!(exchange.on(&request(0, b"")), Err(LoginError::Scram(_))));
        assert!(exchange.on(&request(0, b"")).is_err());
    }

    #[test]
    fn a_target_cannot_ask_for_a_second_password() {
        let login = login();
        let mut exchange = Authentication::new(&login, true);
        exchange.on(&request(5, b"\x01\x02\x03\x04")).unwrap();
        assert!(matches!(
            exchange.on(&request(3, b"")),
            Err(LoginError::Protocol(_))
        ));
    }

    #[test]
    fn a_wrong_nonce_or_too_much_work_ends_scram() {
        let login = login();
        for first in [&b"r=abc,s=QSXCR+Q6sek8bf92,i=4096"[..], b"", b"\xff"] {
            let mut exchange = Authentication::new(&login, true);
            exchange.on(&request(10, b"SCRAM-SHA-256\0\0")).unwrap();
            assert!(matches!(
                exchange.on(&request(11, first)),
                Err(LoginError::Scram(_))
            ));
        }
    }
}
