//! What a token end point answers (RFC 6749 §5, RFC 8693 §2.2).

use std::time::Duration;

use serde::Deserialize;

use super::super::hidden::Hidden;
use crate::model::Secret;

/// A token, and what the server says of it.
pub(super) struct Granted {
    pub(super) token: Secret,
    /// `expires_in`.
    pub(super) life: Option<Duration>,
}

#[derive(Deserialize)]
struct Answered {
    access_token: Hidden,
    token_type: String,
    expires_in: Option<u32>,
    /// Looked at here alone for being a text: [`Issued`] has it.
    refresh_token: Option<Hidden>,
    issued_token_type: Option<String>,
}

/// The tokens of an answer, whatever else of it is wrong: what was issued has to be voided, and what replaces a refresh
/// token to be kept.
#[derive(Default, Deserialize)]
pub(super) struct Issued {
    access_token: Option<Hidden>,
    refresh_token: Option<Hidden>,
}

impl Issued {
    /// Reads them; what stands behind the object is not looked at.
    pub(super) fn read(body: &[u8]) -> Self {
        let mut objects = serde_json::Deserializer::from_slice(body).into_iter();
        objects.next().and_then(Result::ok).unwrap_or_default()
    }

    pub(super) fn token(&self) -> Option<Secret> {
        self.access_token.as_ref()?.token().ok()
    }

    pub(super) fn refresh_token(&self) -> Option<Secret> {
        self.refresh_token.as_ref()?.token().ok()
    }
}

#[derive(Deserialize)]
struct Refused {
    error: String,
}

impl Granted {
    /// Reads an answer of 200. `exchanged`: whether it is the answer to an exchange.
    pub(super) fn read(body: &[u8], exchanged: bool) -> Result<Self, &'static str> {
        // What serde says of it may hold parts of it.
        let answered: Answered = serde_json::from_slice(body)
            .map_err(|_| "something that is no token response: no JSON object with access_token, token_type and a number of seconds as expires_in")?;
        if !answered.token_type.eq_ignore_ascii_case("bearer") {
            return Err("a token that is no bearer token, which needs more than itself to be used");
        }
        if exchanged
            && !answered
                .issued_token_type
                .as_deref()
                .is_some_and(|kind| ISSUED.contains(&kind))
        {
            return Err("another kind of token than an access token");
        }
        if let Some(refresh_token) = &answered.refresh_token {
            refresh_token.token()?;
        }
        Ok(Self {
            token: answered.access_token.token()?,
            life: answered
                .expires_in
                .map(|seconds| Duration::from_secs(seconds.into())),
        })
    }
}

/// The error code of a refusal, where it is one that the standards have: anything else could be anything.
pub(super) fn refusal(body: &[u8]) -> Option<&'static str> {
    let refused: Refused = serde_json::from_slice(body).ok()?;
    CODES.iter().find(|code| **code == refused.error).copied()
}

/// How long a token counts: as long as the server says and the policy allows, less what clocks and ways may take.
pub(super) fn life(said: Option<Duration>, allowed: Option<Duration>) -> Result<Duration, &'static str> {
    let life = match (said, allowed) {
        (Some(said), Some(allowed)) => said.min(allowed),
        (Some(life), None) | (None, Some(life)) => life,
        (None, None) => {
            return Err(
                "a token of which it does not say when it ends (expires_in); write a ttl into the policy",
            );
        }
    };
    let life = life.saturating_sub((life / 10).min(SKEW));
    if life < Duration::from_secs(1) {
        return Err("a token that ends at once");
    }
    Ok(life)
}

/// Of longer lives, how much earlier a token ends for the agent than for the server.
const SKEW: Duration = Duration::from_secs(30);
/// RFC 8693 §3: what can be used as a bearer token.
const ISSUED: &[&str] = &[
    "urn:ietf:params:oauth:token-type:access_token",
    "urn:ietf:params:oauth:token-type:jwt",
];
/// RFC 6749 §5.2, RFC 7009 §2.2.1, RFC 8693 §2.2.2, RFC 8707 §2.
const CODES: &[&str] = &[
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "invalid_target",
    "unsupported_token_type",
    "access_denied",
    "server_error",
    "temporarily_unavailable",
];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Granted, Issued, life, refusal};

    fn read(body: &str) -> Result<(), &'static str> {
        Granted::read(body.as_bytes(), false).map(drop)
    }

    #[test]
    fn only_a_bearer_token_is_taken() {
        for good in [
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":60}"#,
            r#"{"access_token":"abc","token_type":"bearer","scope":"x","other":[1]}"#,
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "null",
            "[]",
            "<html>",
            r#"{"access_token":"abc"}"#,
            r#"{"token_type":"Bearer"}"#,
            r#"{"access_token":"","token_type":"Bearer"}"#,
            r#"{"access_token":"a b","token_type":"Bearer"}"#,
            r#"{"access_token":"a\u0000b","token_type":"Bearer"}"#,
            r#"{"access_token":"abc","token_type":"DPoP","expires_in":60}"#,
            r#"{"access_token":"abc","token_type":"N_A","expires_in":60}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":"60"}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":-1}"#,
            r#"{"access_token":"abc","token_type":"Bearer","expires_in":60}x"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let long = format!(
            r#"{{"access_token":"{}","token_type":"Bearer"}}"#,
            "a".repeat(16 * 1024 + 1)
        );
        assert!(read(&long).is_err());
    }

    #[test]
    fn what_was_issued_is_found_in_answers_that_are_wrong() {
        for (body, token, refresh) in [
            (
                r#"{"access_token":"abc","token_type":"DPoP","refresh_token":"r"}x"#,
                Some("abc"),
                Some("r"),
            ),
            (r#"{"access_token":"abc","expires_in":"soon"}"#, Some("abc"), None),
            (r#"{"access_token":"a b","refresh_token":"r"}"#, None, Some("r")),
            ("<html>", None, None),
            ("[]", None, None),
            ("", None, None),
        ] {
            let issued = Issued::read(body.as_bytes());
            let text = |secret: Option<crate::model::Secret>| {
                secret.map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap())
            };
            assert_eq!(text(issued.token()).as_deref(), token, "{body}");
            assert_eq!(text(issued.refresh_token()).as_deref(), refresh, "{body}");
        }
    }

    #[test]
    fn an_exchange_has_to_say_that_it_gave_an_access_token() {
        let with = |kind: &str| {
            let body =
                format!(r#"{{"access_token":"abc","token_type":"Bearer","issued_token_type":{kind}}}"#);
            Granted::read(body.as_bytes(), true).is_ok()
        };
        assert!(with(r#""urn:ietf:params:oauth:token-type:access_token""#));
        assert!(with(r#""urn:ietf:params:oauth:token-type:jwt""#));
        assert!(!with(r#""urn:ietf:params:oauth:token-type:refresh_token""#));
        assert!(!with("null"));
    }

    #[test]
    fn a_token_ends_for_the_agent_before_it_does_for_the_server() {
        let seconds = Duration::from_secs;
        assert_eq!(life(Some(seconds(3600)), None), Ok(seconds(3570)));
        assert_eq!(life(Some(seconds(100)), None), Ok(seconds(90)));
        assert_eq!(life(Some(seconds(3600)), Some(seconds(100))), Ok(seconds(90)));
        assert_eq!(life(Some(seconds(50)), Some(seconds(100))), Ok(seconds(45)));
        assert_eq!(life(None, Some(seconds(100))), Ok(seconds(90)));
        assert!(life(None, None).is_err());
        assert!(life(Some(seconds(0)), None).is_err());
    }

    #[test]
    fn of_a_refusal_a_known_code_alone_is_told() {
        assert_eq!(
            refusal(br#"{"error":"invalid_grant","error_description":"hunter2"}"#),
            Some("invalid_grant")
        );
        for unknown in [&br#"{"error":"hunter2"}"#[..], b"{}", b"<html>", b""] {
            assert_eq!(refusal(unknown), None);
        }
    }
}
