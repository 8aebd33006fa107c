//! Documents that are not as they should be, in the place of a real provider's own.

use std::time::Instant;

use serde_json::json;

use super::super::{TokenError, TokenVerifier};
use super::{DISCOVERY, Duration, JWKS, MINUTE, Provider};

#[tokio::test]
async fn documents_that_cannot_be_trusted_are_refused_with_the_reason() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let token = provider.job("tollgate", "").await;
    for (fault, at, expected) in [
        ("broken", DISCOVERY, "answered 500"),
        ("broken", JWKS, "answered 500"),
        ("moved", DISCOVERY, "answered 302"),
        ("moved", JWKS, "answered 302"),
        ("html", DISCOVERY, "no discovery document"),
        ("html", JWKS, "no JSON Web Key Set"),
        ("cut", DISCOVERY, "no discovery document"),
        ("cut", JWKS, "no JSON Web Key Set"),
        ("huge", DISCOVERY, "more than 1048576 bytes"),
        ("huge", JWKS, "more than 1048576 bytes"),
        ("deep", DISCOVERY, "no discovery document"),
        ("deep", JWKS, "no JSON Web Key Set"),
        ("list", JWKS, "no JSON Web Key Set"),
        ("empty", JWKS, "lists no key"),
        (
            "impostor",
            DISCOVERY,
            "speaks for the issuer \"https://evil.test\"",
        ),
        ("elsewhere", DISCOVERY, "not an https:// address"),
        ("local", DISCOVERY, "not an https:// address"),
        ("nowhere", DISCOVERY, "no discovery document"),
    ] {
        provider.tell(&json!({"fault": fault, "at": at}));
        // One that has not asked before: otherwise it would not ask again so soon.
        let found = provider
            .verify_by(&TokenVerifier::new(), Duration::ZERO, &token)
            .await;
        let Err(TokenError::Unavailable { reason }) = found else {
            panic!("{fault} at {at}: {found:?}")
        };
        assert!(reason.contains(expected), "{fault} at {at}: {reason}");
        // What was known before goes on to count.
        let (verifier, start) = (TokenVerifier::new(), Duration::ZERO);
        provider.tell(&json!({"fault": null}));
        provider.verify_by(&verifier, start, &token).await.unwrap();
        provider.tell(&json!({"fault": fault, "at": at}));
        provider.verify_by(&verifier, 6 * MINUTE, &token).await.unwrap();
    }
    // These will do: keys that nobody knows stand beside good ones, and an answer comes late.
    for (fault, at) in [("junk", JWKS), ("slow", DISCOVERY), ("slow", JWKS)] {
        provider.tell(&json!({"fault": fault, "at": at}));
        let found = provider
            .verify_by(&TokenVerifier::new(), Duration::ZERO, &token)
            .await;
        assert!(found.is_ok(), "{fault} at {at}: {found:?}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_come_to_an_end_holds_up_nobody_for_long() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let token = provider.job("tollgate", "").await;
    let informed = TokenVerifier::new();
    provider
        .verify_by(&informed, Duration::ZERO, &token)
        .await
        .unwrap();
    for (fault, at) in [("hang", DISCOVERY), ("drip", JWKS)] {
        provider.tell(&json!({"fault": fault, "at": at}));
        let (started, uninformed) = (Instant::now(), TokenVerifier::new());
        let (stranger, known) =
            tokio::join!(provider.verify_by(&uninformed, Duration::ZERO, &token), async {
                let known = provider.verify_by(&informed, 6 * MINUTE, &token).await;
                (known, started.elapsed())
            });
        let (known, waited) = known;
        assert!(
            known.is_ok() && waited < Duration::from_secs(4),
            "{fault}: {known:?} after {waited:?}"
        );
        let waited = started.elapsed();
        assert!(
            matches!(&stranger, Err(TokenError::Unavailable { reason }) if reason.contains("did not answer within")),
            "{fault}: {stranger:?}"
        );
        assert!(waited < Duration::from_secs(15), "{fault}: {waited:?}");
    }
}
