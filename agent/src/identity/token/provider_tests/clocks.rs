//! Clocks that differ: the provider's own is set.

use serde_json::json;

use super::super::TokenError;
use super::{Duration, Provider};

#[tokio::test]
async fn clocks_may_differ_by_the_leeway_and_by_no_more() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    // The policy's leeway is 30 seconds. How fast the provider's clock is, what is asked for, and what comes of it. Between the
    // making of a token and its check a busy machine may take some seconds.
    let late = Err(TokenError::Expired);
    let early = Err(TokenError::NotYet);
    for (clock, form, expected) in [
        (0, "", Ok(())),
        // Made in the future: `iat`.
        (25, "", Ok(())),
        (60, "", early.clone()),
        (3600, "", early.clone()),
        // Valid from a time in the future on: `nbf`.
        (0, "&nbf=25", Ok(())),
        (0, "&nbf=60", early.clone()),
        (-60, "&nbf=80", Ok(())),
        (25, "&nbf=60", early.clone()),
        // Over by this host's clock: `exp`.
        (-60, "&ttl=45", Ok(())),
        (-60, "&ttl=25", late.clone()),
        (-3600, "&ttl=60", late.clone()),
        (-3600, "&ttl=7200", Ok(())),
    ] {
        provider.tell(&json!({"clock": clock}));
        let token = provider.job("tollgate", form).await;
        let found = provider.verify_after(Duration::ZERO, &token).await;
        assert_eq!(found.map(drop), expected, "{clock} s fast, {form:?}");
    }
}
