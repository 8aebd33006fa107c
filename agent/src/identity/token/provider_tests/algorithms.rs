//! What a provider signs with, and what of it is taken.

use std::time::SystemTime;

use super::super::test_issuer::like;
use super::super::{TokenError, TokenVerifier};
use super::{Duration, Provider};
use crate::config::IdentitySpec;

#[tokio::test]
async fn tokens_of_a_real_provider_are_verified() {
    let Some(provider) = Provider::start() else {
        return;
    };
    let verifier = TokenVerifier::new();
    let good = provider.spec.clone();
    let of = |audience: &str| IdentitySpec {
        audience: audience.into(),
        ..good.clone()
    };

    // One client for each algorithm.
    for algorithm in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ] {
        let client = format!("tollgate-{algorithm}");
        let token = provider.job(&client, "").await;
        let claims = verifier
            .verify(&token, &of(&client))
            .await
            .unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        assert_eq!(claims.subject, "job-4711");
        assert_eq!(claims.claims["project_path"], "acme/report");
        assert!(claims.valid_until > SystemTime::now());
    }
    // Shared secrets never, and ES512 is not verified by the library.
    for algorithm in ["HS256", "ES512"] {
        let client = format!("tollgate-{algorithm}");
        let token = provider.job(&client, "").await;
        let refused = verifier.verify(&token, &of(&client)).await;
        assert_eq!(refused, Err(TokenError::Algorithm), "{algorithm}");
    }

    // An access token in JWT form, addressed by a resource indicator.
    let resource = "grant_type=client_credentials&resource=urn:tollgate";
    let access = provider.token("tollgate", resource, "access_token").await;
    let claims = verifier.verify(&access, &good).await.unwrap();
    assert_eq!(claims.claims["ref_protected"], "true");

    let for_another = provider.job("vault", "").await;
    assert!(matches!(
        verifier.verify(&for_another, &good).await,
        Err(TokenError::Audience { .. })
    ));
    let payroll = IdentitySpec {
        claims: vec![like("project_path", "acme/payroll")],
        ..good.clone()
    };
    let token = provider.job("tollgate", "").await;
    assert!(matches!(
        verifier.verify(&token, &payroll).await,
        Err(TokenError::Claim { .. })
    ));

    // Of another provider, whose keys have the same names.
    let other = Provider::start().unwrap();
    let token = other.job("tollgate", "").await;
    let refused = provider.verify_after(Duration::ZERO, &token).await;
    assert!(matches!(refused, Err(TokenError::Issuer { .. })), "{refused:?}");
}
