//! Keys that come, go and are replaced, and a provider that is away.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::super::{TokenError, TokenVerifier};
use super::{Duration, MINUTE, Provider, SECOND};
use crate::model::Secret;

/// The same token under another name of its key.
fn under(kid: &str, token: &Secret) -> Secret {
    let text = std::str::from_utf8(token.expose()).unwrap();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid}).to_string();
    let (_, rest) = text.split_once('.').unwrap();
    Secret::new(format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header)).into_bytes())
}

fn unknown(found: &Result<super::TokenClaims, TokenError>) -> bool {
    matches!(found, Err(TokenError::UnknownKey { .. }))
}

#[tokio::test]
async fn a_key_that_a_real_provider_rotates_in_is_found_and_one_that_it_drops_ends() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let old = provider.job("tollgate", "").await;
    provider.verify_after(Duration::ZERO, &old).await.unwrap();
    assert_eq!(provider.asked(), 1);

    provider.tell(&json!({"key": "2026-12", "alg": "RS256"}));
    let new = provider.job("tollgate", "").await;
    assert!(
        unknown(&provider.verify_after(SECOND, &new).await),
        "asked a moment ago"
    );
    assert_eq!(provider.asked(), 1);
    let claims = provider.verify_after(11 * SECOND, &new).await.unwrap();
    assert_eq!(claims.key.as_deref(), Some("2026-12"));
    provider.verify_after(12 * SECOND, &old).await.unwrap();
    assert_eq!(provider.asked(), 2);

    // A flood of keys that nobody has is no flood at the provider: one question, whoever asks.
    let mut flood = String::from("made-up");
    for _ in 0..200 {
        flood.write_char('-').unwrap();
        assert!(unknown(
            &provider.verify_after(30 * SECOND, &under(&flood, &new)).await
        ));
    }
    let made_up: Vec<_> = (0..50).map(|number| under(&format!("{number}"), &new)).collect();
    let at_once = made_up
        .iter()
        .map(|token| provider.verify_after(50 * SECOND, token));
    assert!(futures_util::future::join_all(at_once).await.iter().all(unknown));
    assert_eq!(provider.asked(), 4);

    // Tokens by a key that is gone count until the keys are asked for again, and not longer.
    provider.tell(&json!({"drop": "rsa-1"}));
    provider.verify_after(55 * SECOND, &old).await.unwrap();
    assert!(unknown(
        &provider.verify_after(50 * SECOND + 5 * MINUTE, &old).await
    ));
    provider
        .verify_after(50 * SECOND + 5 * MINUTE, &new)
        .await
        .unwrap();
    assert_eq!(provider.asked(), 5);
}

#[tokio::test]
async fn a_key_that_a_real_provider_replaces_under_its_name_is_found_and_the_one_before_it_ends() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let old = provider.job("tollgate", "").await;
    provider.verify_after(Duration::ZERO, &old).await.unwrap();
    provider.tell(&json!({"key": "rsa-1", "alg": "RS256"}));
    let new = provider.job("tollgate", "").await;
    let found = provider.verify_after(SECOND, &new).await;
    assert_eq!(found, Err(TokenError::Signature), "asked a moment ago");
    assert_eq!(provider.asked(), 1);
    let claims = provider.verify_after(11 * SECOND, &new).await.unwrap();
    assert_eq!(claims.key.as_deref(), Some("rsa-1"));
    assert_eq!(provider.asked(), 2);
    // Wrong signatures are no flood either.
    for _ in 0..100 {
        let found = provider.verify_after(30 * SECOND, &old).await;
        assert_eq!(found, Err(TokenError::Signature));
    }
    assert_eq!(provider.asked(), 3);
    provider.verify_after(30 * SECOND, &new).await.unwrap();
}

#[tokio::test]
async fn a_real_provider_that_goes_is_bridged_for_as_long_as_the_policy_says_and_counts_when_it_is_back() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    provider.spec.offline = 20 * MINUTE;
    let token = provider.job("tollgate", "").await;
    provider.tell(&json!({"listening": false}));
    let nobody = TokenVerifier::new();
    let found = provider.verify_by(&nobody, Duration::ZERO, &token).await;
    assert!(away(&found), "{found:?}");
    provider.tell(&json!({"listening": true}));
    let found = provider.verify_by(&nobody, 9 * SECOND, &token).await;
    assert!(away(&found), "asked a moment ago: {found:?}");
    provider.verify_by(&nobody, 11 * SECOND, &token).await.unwrap();

    provider.verify_after(Duration::ZERO, &token).await.unwrap();
    provider.tell(&json!({"listening": false}));
    for minutes in [4, 6, 19] {
        provider.verify_after(minutes * MINUTE, &token).await.unwrap();
    }
    // Nobody can say whether it has such a key by now.
    assert!(unknown(
        &provider.verify_after(19 * MINUTE, &under("new", &token)).await
    ));
    let found = provider.verify_after(20 * MINUTE, &token).await;
    assert!(away(&found), "{found:?}");
    provider.tell(&json!({"listening": true}));
    provider
        .verify_after(20 * MINUTE + 11 * SECOND, &token)
        .await
        .unwrap();
}

fn away(found: &Result<super::TokenClaims, TokenError>) -> bool {
    matches!(found, Err(TokenError::Unavailable { reason }) if reason.contains("cannot be reached"))
}
