//! Signatures beside the assertion: taken where the policy says so, and of what they are over alone.

use super::super::error::SamlError;
use super::attacks::refused;
use super::maker::{
    ENVELOPED, EXCLUSIVE, Maker, RSA_SHA256, SHA256, Stand, assertion, reference, response, signature,
    signature_of, with,
};

/// A signature over the assertion `_a1`, as it stands beside it.
fn beside() -> String {
    signature_of(RSA_SHA256, &reference("_a1", &[EXCLUSIVE], SHA256))
}

/// Both, in an element that nobody knows.
fn envelope(signature: &str, assertion: &str) -> String {
    format!("<e:Envelope xmlns:e=\"urn:e\" xmlns=\"urn:default\">{assertion}{signature}</e:Envelope>")
}

#[tokio::test]
async fn an_assertion_with_its_signature_beside_it_is_taken_where_the_policy_says_so() {
    if !Maker::is_there() {
        return;
    }
    let maker = Maker::trusted();
    for (what, text) in [
        ("in a response", maker.sign(&response(&beside(), &assertion("")))),
        ("in an envelope", maker.sign(&envelope(&beside(), &assertion("")))),
        (
            "before it",
            maker.sign(&envelope("", &format!("{}{}", beside(), assertion("")))),
        ),
    ] {
        let claims = Stand::new().detached().verify(&text).await;
        assert_eq!(
            claims.map(|claims| claims.subject).as_deref(),
            Ok("user@a.test"),
            "{what}"
        );
        let error = refused(&Stand::new(), what, &text).await;
        assert_eq!(error, SamlError::Detached, "{what}");
        assert!(error.to_string().contains("detached = true"), "{error}");
    }
    // Such a policy takes the others as before.
    for text in [
        maker.good(),
        maker.sign(&response(&signature("_r1"), &assertion(""))),
    ] {
        Stand::new().detached().verify(&text).await.unwrap();
    }
}

/// Each of these would be another's assertion, or nobody's, if more were believed than what the signature is over.
#[tokio::test]
async fn what_a_signature_beside_it_is_not_over_is_not_read() {
    if !Maker::is_there() {
        return;
    }
    let (stand, maker) = (Stand::new().detached(), Maker::trusted());
    let bare = assertion("");
    let signed = maker.sign(&envelope(&beside(), &bare));
    let start = signed.find("<ds:Signature ").unwrap();
    let end = signed.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
    let (original, genuine) = (&bare, &signed[start..end]);
    let evil = with(original, "user@a.test", "root@a.test");
    let evil_named = with(&evil, "_a1", "_evil");
    let template = |references: &str| maker.sign(&envelope(&signature_of(RSA_SHA256, references), original));
    let transforms = |transforms: &[&str]| template(&reference("_a1", transforms, SHA256));
    let inclusive = r#"<ds:Transform Algorithm="http://www.w3.org/TR/2001/REC-xml-c14n-20010315"/>"#;
    let xpath = r#"<ds:Transform Algorithm="http://www.w3.org/TR/1999/REC-xpath-19991116"><ds:XPath>not(ancestor-or-self::*[local-name()='Subject'])</ds:XPath></ds:Transform>"#;
    let object = with(
        genuine,
        "</ds:Signature>",
        &format!("<ds:Object>{original}</ds:Object></ds:Signature>"),
    );
    let arrangement: fn(&SamlError) -> bool = |error| matches!(error, SamlError::Arrangement { .. });
    let kind: fn(&SamlError) -> bool = |error| matches!(error, SamlError::Kind { .. });
    let changed: fn(&SamlError) -> bool = |error| *error == SamlError::Changed;
    for (what, text, expected) in [
        ("another in its place", envelope(genuine, &evil), changed),
        (
            "one letter",
            envelope(genuine, &with(original, "billing", "Billing")),
            changed,
        ),
        ("another ID", envelope(genuine, &evil_named), arrangement),
        (
            "another before it",
            envelope(genuine, &format!("{evil_named}{original}")),
            arrangement,
        ),
        (
            "another behind it",
            envelope(genuine, &format!("{original}{evil_named}")),
            arrangement,
        ),
        (
            "two of one ID",
            envelope(genuine, &format!("{evil}{original}")),
            arrangement,
        ),
        (
            "the original in the signature",
            envelope(&object, &evil_named),
            arrangement,
        ),
        (
            "the original in the signature, with its ID",
            envelope(&object, &evil),
            arrangement,
        ),
        (
            "an object alone",
            envelope(
                &with(genuine, "</ds:Signature>", "<ds:Object/></ds:Signature>"),
                original,
            ),
            arrangement,
        ),
        (
            "the original inside another",
            format!(
                "{}{original}{genuine}</saml:Assertion>",
                evil_named.strip_suffix("</saml:Assertion>").unwrap()
            ),
            arrangement,
        ),
        (
            "further in",
            format!("<x>{}</x>", envelope(genuine, original)),
            arrangement,
        ),
        (
            "the signature further in",
            envelope("", &format!("{original}<x>{genuine}</x>")),
            arrangement,
        ),
        (
            "the assertion further in",
            envelope(genuine, &format!("<x>{original}</x>")),
            arrangement,
        ),
        (
            "twice",
            envelope(&format!("{genuine}{genuine}"), original),
            arrangement,
        ),
        (
            "with one in it",
            maker.sign_at(
                &envelope(&beside(), &maker.good()),
                "/*/*[local-name()='Signature']",
            ),
            arrangement,
        ),
        (
            "an ID that the envelope has too",
            with(
                &envelope(genuine, original),
                "<e:Envelope ",
                "<e:Envelope ID=\"_a1\" ",
            ),
            arrangement,
        ),
        (
            "the whole document",
            with(&envelope(genuine, original), "URI=\"#_a1\"", "URI=\"\""),
            arrangement,
        ),
        (
            "the response",
            maker
                .sign(&response(
                    &signature_of(RSA_SHA256, &reference("_r1", &[ENVELOPED, EXCLUSIVE], SHA256)),
                    original,
                ))
                .replace("user@a.test", "root@a.test"),
            changed,
        ),
        (
            "two references",
            template(&reference("_a1", &[EXCLUSIVE], SHA256).repeat(2)),
            arrangement,
        ),
        (
            "the transform of one in it",
            transforms(&[ENVELOPED, EXCLUSIVE]),
            kind,
        ),
        ("no transform", transforms(&[]), |error| {
            matches!(error, SamlError::Kind { .. } | SamlError::Form { .. })
        }),
        ("inclusive canonicalisation", transforms(&[inclusive]), kind),
        (
            "a transform that leaves something out",
            transforms(&[xpath, EXCLUSIVE]),
            kind,
        ),
        (
            "such a transform behind it",
            transforms(&[EXCLUSIVE, xpath]),
            kind,
        ),
        (
            "the signature of one in it, moved",
            {
                let good = maker.good();
                let start = good.find("<ds:Signature ").unwrap();
                let end = good.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
                envelope(&good[start..end], &good.replace(&good[start..end], ""))
            },
            kind,
        ),
        (
            "another's key",
            Maker::with_key(&["-newkey", "rsa:2048"]).sign(&envelope(&beside(), original)),
            |error| matches!(error, SamlError::UnknownKey { .. }),
        ),
        (
            "a comment",
            with(&signed, "user@a.test", "user@a.test<!-- -->.evil"),
            |error| *error == SamlError::Asides,
        ),
        ("no signature", envelope("", original), arrangement),
    ] {
        let error = refused(&stand, what, &text).await;
        assert!(expected(&error), "{what}: {error:?}");
    }
}
