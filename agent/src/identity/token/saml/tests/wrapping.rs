//! Signed XML of which another part is read than was signed.

use super::super::error::SamlError;
use super::attacks::refused;
use super::maker::{
    ENVELOPED, EXCLUSIVE, Maker, RSA_SHA256, SHA256, Stand, assertion, reference, response, signature,
    signature_of, with,
};

/// A genuine document, its assertion with and without its signature, and one that the attacker wrote.
struct Parts {
    original: String,
    signature: String,
    bare: String,
    evil: String,
}

fn parts() -> Parts {
    let original = Maker::trusted().good();
    let start = original.find("<ds:Signature ").unwrap();
    let end = original.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
    let signature = original[start..end].to_owned();
    let bare = original.replace(&signature, "");
    let evil = with(&with(&bare, "_a1", "_evil"), "user@a.test", "root@a.test");
    Parts {
        original,
        signature,
        bare,
        evil,
    }
}

/// As the last child of an element.
fn inside(element: &str, child: &str) -> String {
    let end = element.rfind("</").unwrap();
    format!("{}{child}{}", &element[..end], &element[end..])
}

fn after_issuer(element: &str, what: &str) -> String {
    with(element, "</saml:Issuer>", &format!("</saml:Issuer>{what}"))
}

/// "On Breaking SAML: Be Whoever You Want to Be" (Somorovsky and others, 2012), numbered as in SAML Raider.
#[tokio::test]
async fn a_signature_is_not_wrapped_around() {
    if !Maker::is_there() {
        return;
    }
    let (stand, detached) = (Stand::new(), Stand::new().detached());
    let Parts {
        original,
        signature: sig,
        bare,
        evil,
    } = parts();
    let maker = Maker::trusted();
    let signed_response = maker.sign(&response(&signature("_r1"), &assertion("")));
    let start = signed_response.find("<ds:Signature ").unwrap();
    let end = signed_response.find("</ds:Signature>").unwrap() + "</ds:Signature>".len();
    let response_sig = signed_response[start..end].to_owned();
    let bare_response = signed_response.replace(&response_sig, "");
    let evil_response = with(
        &with(&bare_response, "_r1", "_evil"),
        "user@a.test",
        "root@a.test",
    );
    let object = format!("<ds:Object>{bare}</ds:Object>");
    let extensions = format!(
        "<samlp:Extensions>{}</samlp:Extensions>",
        with(&evil, "_evil", "_a1")
    );
    for (what, text) in [
        (
            "XSW1",
            after_issuer(&evil_response, &inside(&response_sig, &bare_response)),
        ),
        (
            "XSW2",
            after_issuer(&evil_response, &format!("{bare_response}{response_sig}")),
        ),
        ("XSW3", response("", &format!("{evil}{original}"))),
        ("XSW4", response("", &inside(&evil, &original))),
        (
            "XSW5",
            response("", &format!("{}{bare}", after_issuer(&evil, &sig))),
        ),
        ("XSW6", response("", &after_issuer(&evil, &inside(&sig, &bare)))),
        (
            "XSW7",
            with(
                &response("", &original),
                "<samlp:Status>",
                &format!("{extensions}<samlp:Status>"),
            ),
        ),
        ("XSW8", response("", &after_issuer(&evil, &inside(&sig, &object)))),
        ("XSW7 alone", inside(&evil, &original)),
        ("XSW8 alone", after_issuer(&evil, &inside(&sig, &object))),
        ("the original behind", response("", &format!("{original}{evil}"))),
        (
            "in an advice",
            inside(&evil, &format!("<saml:Advice>{original}</saml:Advice>")),
        ),
        ("in a foreign root", format!("<x>{original}</x>")),
        (
            "in a response in a response",
            response("", &response("", &original)),
        ),
        ("a signature of another's", response(&sig, &evil)),
        (
            "a signature in the status",
            with(
                &response("", &evil),
                "</samlp:Status>",
                &format!("{sig}</samlp:Status>"),
            ),
        ),
        (
            "an object of its own",
            with(&original, "</ds:Signature>", "<ds:Object/></ds:Signature>"),
        ),
        ("two signatures", after_issuer(&original, &sig)),
        (
            "two SignedInfo",
            with(
                &original,
                "<ds:SignatureValue>",
                &format!(
                    "{}<ds:SignatureValue>",
                    &sig[sig.find("<ds:SignedInfo>").unwrap()..sig.find("<ds:SignatureValue>").unwrap()]
                ),
            ),
        ),
    ] {
        for stand in [&stand, &detached] {
            let error = refused(stand, what, &text).await;
            assert!(
                matches!(error, SamlError::Arrangement { .. } | SamlError::Form { .. }),
                "{what}: {error}"
            );
        }
    }
}

#[tokio::test]
async fn a_signature_counts_for_the_element_that_it_stands_in_alone() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let parts = parts();
    // The attacker's assertion carries a genuine signature of another one.
    let error = refused(&stand, "moved", &after_issuer(&parts.evil, &parts.signature)).await;
    assert!(matches!(error, SamlError::Arrangement { .. }), "{error}");
    // The same ID, so that the reference fits.
    let same_id = with(&after_issuer(&parts.evil, &parts.signature), "_evil", "_a1");
    assert_eq!(refused(&stand, "same ID", &same_id).await, SamlError::Changed);
    // A response's signature does not vouch for a different assertion in it, nor for one that lost its own.
    let signed = Maker::trusted().sign(&response(&signature("_r1"), &assertion("")));
    let swapped = with(&signed, "user@a.test", "root@a.test");
    assert_eq!(refused(&stand, "swapped", &swapped).await, SamlError::Changed);
    // Of two signatures both have to be right.
    let inner = Maker::trusted().sign(&response("", &assertion(&signature("_a1"))));
    let outer = with(
        &inner,
        "</saml:Issuer><samlp:",
        &format!("</saml:Issuer>{}<samlp:", signature("_r1")),
    );
    let both = Maker::with_key(&["-newkey", "rsa:2048"]).sign_at(&outer, "/*/*[local-name()='Signature']");
    assert!(matches!(
        refused(&stand, "one of two", &both).await,
        SamlError::UnknownKey { .. }
    ));
}

#[tokio::test]
async fn identifiers_are_not_given_twice() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let original = Maker::trusted().good();
    for attribute in ["ID", "Id", "id", "xml:id", "AssertionID"] {
        let text =
            response("", &original).replace("<samlp:Status>", &format!("<samlp:Status {attribute}=\"_a1\">"));
        let error = refused(&stand, attribute, &text).await;
        assert_eq!(
            error,
            SamlError::Arrangement {
                reason: "two elements have the same ID"
            }
        );
    }
}

#[tokio::test]
async fn a_signature_is_over_one_thing() {
    if !Maker::is_there() {
        return;
    }
    let (stand, maker) = (Stand::new(), Maker::trusted());
    let one = reference("_a1", &[ENVELOPED, EXCLUSIVE], SHA256);
    let response_too = reference("_r1", &[ENVELOPED, EXCLUSIVE], SHA256);
    for references in [format!("{one}{one}"), format!("{response_too}{one}")] {
        let template = response("", &assertion(&signature_of(RSA_SHA256, &references)));
        let error = refused(&stand, "two references", &maker.sign(&template)).await;
        assert_eq!(
            error,
            SamlError::Arrangement {
                reason: "the signature has to be over one element"
            }
        );
    }
    let none =
        with(&maker.good(), "<ds:Reference ", "<ds:Manifest ").replace("</ds:Reference>", "</ds:Manifest>");
    assert!(matches!(
        refused(&stand, "none", &none).await,
        SamlError::Arrangement { .. }
    ));
    // The whole response, signed by a signature in the assertion.
    let outer = maker.sign(&response("", &assertion(&signature("_r1"))));
    assert!(matches!(
        refused(&stand, "outer", &outer).await,
        SamlError::Arrangement { .. }
    ));
}
