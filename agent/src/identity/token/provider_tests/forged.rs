//! Tokens that were made from a real one.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::super::TokenError;
use super::{Duration, Provider};
use crate::model::Secret;

/// A real token's three parts.
struct Parts {
    header: String,
    claims: String,
    signature: String,
}

impl Parts {
    fn of(token: &Secret) -> Self {
        Self::of_text(std::str::from_utf8(token.expose()).unwrap())
    }

    fn of_text(text: &str) -> Self {
        let [header, claims, signature] = text.split('.').collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        Self {
            header: header.to_owned(),
            claims: claims.to_owned(),
            signature: signature.to_owned(),
        }
    }

    /// The signature as it is, below these; `None`: as they are.
    fn with(&self, header: Option<&str>, claims: Option<&str>) -> String {
        let encoded = |text: Option<&str>, own: &str| {
            text.map_or_else(|| own.to_owned(), |text| URL_SAFE_NO_PAD.encode(text))
        };
        format!(
            "{}.{}.{}",
            encoded(header, &self.header),
            encoded(claims, &self.claims),
            self.signature
        )
    }

    fn decoded(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    /// A claim or an entry of the header in other words.
    fn changed(part: &str, name: &str, value: Value) -> String {
        let mut part = Self::decoded(part);
        part[name] = value;
        part.to_string()
    }
}

type Forgery = (&'static str, String, TokenError);

/// Signed by nobody or by everybody, or changed. `confused`: with the HMAC of the provider's public key; `of_another`: the
/// signature of another token.
fn signed_otherwise(text: &str, confused: String, of_another: &str) -> Vec<Forgery> {
    let parts = &Parts::of_text(text);
    let header =
        |name: &str, value: Value| parts.with(Some(&Parts::changed(&parts.header, name, value)), None);
    let claim =
        |name: &str, value: Value| parts.with(None, Some(&Parts::changed(&parts.claims, name, value)));
    let unsigned = format!("{}.{}", parts.header, parts.claims);
    let none = |name: &str| {
        let header = json!({"alg": name, "typ": "JWT"}).to_string();
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), parts.claims)
    };
    let decoded_signature = URL_SAFE_NO_PAD.decode(&parts.signature).unwrap();
    let (malformed, algorithm, signature) = (
        TokenError::Malformed,
        TokenError::Algorithm,
        TokenError::Signature,
    );
    vec![
        // Signed by nobody, or by everybody.
        ("none", none("none"), algorithm.clone()),
        ("None", none("None"), algorithm.clone()),
        ("NONE", none("NONE"), algorithm.clone()),
        (
            "none with a signature",
            header("alg", json!("none")),
            algorithm.clone(),
        ),
        ("no algorithm", header("alg", Value::Null), malformed.clone()),
        (
            "an algorithm that is none",
            header("alg", json!(["RS256"])),
            malformed.clone(),
        ),
        ("an empty algorithm", header("alg", json!("")), algorithm.clone()),
        ("the public key as a secret", confused, algorithm.clone()),
        ("HS256", header("alg", json!("HS256")), algorithm.clone()),
        ("HS512", header("alg", json!("HS512")), algorithm.clone()),
        ("rs256", header("alg", json!("rs256")), algorithm.clone()),
        (
            "an encrypted one's algorithm",
            header("alg", json!("RSA-OAEP")),
            algorithm.clone(),
        ),
        // Another algorithm, type or key than the signature's.
        (
            "a key that it brings along",
            header("jwk", json!({"kty": "oct", "k": "AA"})),
            signature.clone(),
        ),
        (
            "a place where its key is",
            header("jku", json!("https://evil.test/jwks")),
            signature.clone(),
        ),
        (
            "its key's name as a path",
            header("x5u", json!("../../dev/null")),
            signature.clone(),
        ),
        (
            "another case of letters",
            header("typ", json!("jwt")),
            signature.clone(),
        ),
        // Changed.
        ("a subject", claim("sub", json!("job-1")), signature.clone()),
        (
            "a later end",
            claim("exp", json!(4_102_444_800_u64)),
            signature.clone(),
        ),
        (
            "an end that is none",
            claim("exp", json!("never")),
            malformed.clone(),
        ),
        ("no end", claim("exp", Value::Null), malformed.clone()),
        (
            "another's signature",
            format!("{unsigned}.{of_another}"),
            signature.clone(),
        ),
        ("no signature", unsigned.clone(), malformed.clone()),
        (
            "a short signature",
            format!("{unsigned}.{}", URL_SAFE_NO_PAD.encode(&decoded_signature[1..])),
            signature.clone(),
        ),
        (
            "a long signature",
            format!(
                "{unsigned}.{}",
                URL_SAFE_NO_PAD.encode([&decoded_signature[..], b"x"].concat())
            ),
            signature.clone(),
        ),
    ]
}

/// Other things than a token in its compact form.
fn of_another_form(text: &str) -> Vec<Forgery> {
    let parts = &Parts::of_text(text);
    let unsigned = format!("{}.{}", parts.header, parts.claims);
    let decoded_signature = URL_SAFE_NO_PAD.decode(&parts.signature).unwrap();
    let forms = [
        ("four parts", format!("{text}.{}", parts.signature)),
        ("five parts", format!("{text}.AA.AA")),
        ("white space before it", format!(" {text}")),
        ("white space in it", text.replacen('.', ".\n", 1)),
        ("a scheme before it", format!("Bearer {text}")),
        ("twice", format!("{text}{text}")),
        (
            "padding",
            format!("{unsigned}.{}", URL_SAFE.encode(&decoded_signature)),
        ),
        (
            "another alphabet",
            format!(
                "{unsigned}.{}",
                STANDARD.encode([&[0xff; 2][..], &decoded_signature].concat())
            ),
        ),
        ("a header that is no map", parts.with(Some("[]"), None)),
        ("a header that is no JSON", parts.with(Some("{"), None)),
        (
            "an algorithm twice",
            parts.with(Some(r#"{"alg":"none","alg":"RS256","kid":"rsa-1"}"#), None),
        ),
        ("claims that are no map", parts.with(None, Some("\"x\""))),
        (
            "claims that go deep",
            parts.with(
                None,
                Some(&format!(
                    "{{\"x\":{}1{}}}",
                    "[".repeat(20_000),
                    "]".repeat(20_000)
                )),
            ),
        ),
        (
            "a header that goes deep",
            parts.with(
                Some(&format!(
                    "{{\"x\":{}1{}}}",
                    "[".repeat(20_000),
                    "]".repeat(20_000)
                )),
                None,
            ),
        ),
        ("a zero byte", format!("{text}\0")),
        (
            "JSON",
            json!({"payload": parts.claims, "protected": parts.header, "signature": parts.signature})
                .to_string(),
        ),
    ];
    forms
        .map(|(what, token)| (what, token, TokenError::Malformed))
        .into()
}

#[tokio::test]
async fn what_was_made_from_a_real_token_is_refused() {
    let Some(mut provider) = Provider::start() else {
        return;
    };
    let real = provider.job("tollgate", "").await;
    provider.verify_after(Duration::ZERO, &real).await.unwrap();
    let text = std::str::from_utf8(real.expose()).unwrap().to_owned();
    let parts = Parts::of(&real);
    let header =
        |name: &str, value: Value| parts.with(Some(&Parts::changed(&parts.header, name, value)), None);
    let of_another = Parts::of(&provider.job("vault", "").await).signature;
    let confused = provider.tell(&json!({"confuse": "rsa-1"}));
    let confused = confused.as_str().unwrap().to_owned();
    let forgeries = signed_otherwise(&text, confused, &of_another);
    for (what, token, expected) in forgeries.into_iter().chain(of_another_form(&text)) {
        let found = provider
            .verify_after(Duration::ZERO, &Secret::new(token.into_bytes()))
            .await;
        let error = found.expect_err(what);
        assert_eq!(error, expected, "{what}");
        let told = error.to_string();
        assert!(
            !told.contains(&parts.signature[..16]) && told.len() < 300,
            "{what}: {told}"
        );
    }
    for (what, header) in [
        (
            "encrypted inside",
            Parts::changed(&parts.header, "cty", json!("JWT")),
        ),
        (
            "what has to be understood",
            Parts::changed(&parts.header, "crit", json!(["exp"])),
        ),
        (
            "a logout token",
            Parts::changed(&parts.header, "typ", json!("logout+jwt")),
        ),
    ] {
        let token = Secret::new(parts.with(Some(&header), None).into_bytes());
        let found = provider.verify_after(Duration::ZERO, &token).await;
        assert!(matches!(found, Err(TokenError::Kind { .. })), "{what}: {found:?}");
    }
    // The key is for another algorithm.
    let other = Secret::new(header("alg", json!("RS512")).into_bytes());
    let found = provider.verify_after(Duration::ZERO, &other).await;
    assert!(matches!(found, Err(TokenError::UnknownKey { .. })), "{found:?}");
    let endless = Secret::new(format!("{text}{}", "A".repeat(64 * 1024)).into_bytes());
    let found = provider.verify_after(Duration::ZERO, &endless).await;
    assert_eq!(found, Err(TokenError::TooLong));
    // Names as long as one likes are told of in short.
    let long = Secret::new(header("kid", json!("k".repeat(30_000))).into_bytes());
    let error = provider.verify_after(Duration::ZERO, &long).await.unwrap_err();
    assert!(matches!(error, TokenError::UnknownKey { .. }), "{error:?}");
    assert!(error.to_string().len() < 600);
    // Bytes that are no text.
    let bytes = Secret::new([&text.as_bytes()[..40], &[0xff, 0xfe], &text.as_bytes()[40..]].concat());
    assert_eq!(
        provider.verify_after(Duration::ZERO, &bytes).await,
        Err(TokenError::Malformed)
    );
    // None of them made the agent ask: the keys that it had said enough.
    assert_eq!(provider.asked(), 1);
}
