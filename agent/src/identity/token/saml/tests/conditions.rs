use super::super::super::{TokenError, Use};
use super::super::error::SamlError;
use super::MINUTE;
use super::maker::{Maker, Stand, assertion, signature, with};

/// Signs an assertion that is altered before it is signed, and has it verified at noon.
async fn altered(stand: &Stand, place: &str, instead: &str) -> Result<(), TokenError> {
    let template = with(&assertion(&signature("_a1")), place, instead);
    stand.verify(&Maker::trusted().sign(&template)).await.map(drop)
}

#[tokio::test]
async fn what_was_signed_still_has_to_be_for_this_place_and_time() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let conditions =
        r#"<saml:Conditions NotBefore="2026-01-01T11:59:00Z" NotOnOrAfter="2026-01-01T12:10:00Z">"#;
    let restriction =
        "<saml:AudienceRestriction><saml:Audience>tollgate</saml:Audience></saml:AudienceRestriction>";
    let bearer = "urn:oasis:names:tc:SAML:2.0:cm:bearer";
    let data = r#"<saml:SubjectConfirmationData NotOnOrAfter="2026-01-01T12:05:00Z" Recipient="https://tollgate.test/jobs"/>"#;
    for (place, instead, expected) in [
        (
            "<saml:Issuer>https://idp.acme.test<",
            "<saml:Issuer>https://evil.test<",
            "not of the issuer",
        ),
        (
            "<saml:Issuer>",
            "<saml:Issuer Format=\"urn:oasis:names:tc:SAML:1.1:nameid-format:emailAddress\">",
            "not named by an entity id",
        ),
        ("Version=\"2.0\"", "Version=\"1.1\"", "version 2.0"),
        (
            "IssueInstant=\"2026-01-01T11:59:00Z\"",
            "IssueInstant=\"2026-01-01T12:00:01Z\"",
            "not valid yet",
        ),
        (
            "IssueInstant=\"2026-01-01T11:59:00Z\"",
            "IssueInstant=\"yesterday\"",
            "no time in UTC",
        ),
        ("IssueInstant=\"2026-01-01T11:59:00Z\"", "", "when it was issued"),
        (
            conditions,
            &conditions.replace("11:59:00Z", "12:00:01Z"),
            "not valid yet",
        ),
        (
            conditions,
            &conditions.replace("12:10:00Z", "12:00:00Z"),
            "has expired",
        ),
        (
            conditions,
            &conditions.replace("12:10:00Z", "12:10:00"),
            "no time in UTC",
        ),
        (restriction, "", "for the audience"),
        (
            restriction,
            &restriction.replace("tollgate", "vault"),
            "for the audience",
        ),
        (
            restriction,
            &format!("{restriction}{}", restriction.replace("tollgate", "vault")),
            "for the audience",
        ),
        (
            "<saml:Audience>",
            "<saml:Audience>vault</saml:Audience><saml:Audience>",
            "for the audience",
        ),
        (
            restriction,
            &format!("{restriction}<saml:Condition/>"),
            "not understood (\"Condition\")",
        ),
        (
            restriction,
            &format!("{restriction}<x:Own xmlns:x=\"urn:x\"/>"),
            "not understood (\"Own\")",
        ),
        (
            bearer,
            "urn:oasis:names:tc:SAML:2.0:cm:holder-of-key",
            "holds a key",
        ),
        (bearer, "urn:oasis:names:tc:SAML:2.0:cm:sender-vouches", "vouch"),
        (bearer, "urn:evil", "not known"),
        (data, "", "not delivered to the recipient"),
        (
            data,
            &data.replace("tollgate.test", "other.test"),
            "not delivered to the recipient",
        ),
        (data, &data.replace("12:05:00Z", "12:00:00Z"), "has expired"),
        (
            data,
            &data.replace("NotOnOrAfter=\"2026-01-01T12:05:00Z\"", ""),
            "does not say until when",
        ),
        (
            data,
            &data.replace("NotOnOrAfter", "NotBefore=\"2026-01-01T12:01:00Z\" NotOnOrAfter"),
            "not valid yet",
        ),
        (
            "<saml:AuthnStatement ",
            "<saml:AuthnStatement SessionNotOnOrAfter=\"2026-01-01T12:00:00Z\" ",
            "has expired",
        ),
        (">user@a.test<", "><", "has no name"),
        (">user@a.test<", "><x/>user@a.test<", "elements where its text"),
        (
            "<saml:NameID ",
            "<saml:NameID>root</saml:NameID><saml:NameID ",
            "more than one",
        ),
        ("Name=\"department\"", "", "an attribute has no name"),
    ] {
        let refused = altered(&stand, place, instead).await;
        let error = refused.expect_err(instead).to_string();
        assert!(error.contains(expected), "{instead}: {error}");
    }
    let without = with(&assertion(&signature("_a1")), "<saml:Subject>", "<saml:Gone>")
        .replace("</saml:Subject>", "</saml:Gone>");
    let error = stand.verify(&Maker::trusted().sign(&without)).await.unwrap_err();
    assert!(error.to_string().contains("no \"Subject\""), "{error}");
}

#[tokio::test]
async fn clocks_may_differ_by_the_leeway() {
    if !Maker::is_there() {
        return;
    }
    let mut stand = Stand::new();
    stand.spec.leeway = MINUTE;
    let good = Maker::trusted().good();
    stand.verify_after(5 * MINUTE, &good).await.unwrap();
    assert_eq!(
        stand.verify_after(6 * MINUTE, &good).await,
        Err(TokenError::Expired)
    );
    altered(
        &stand,
        "NotBefore=\"2026-01-01T11:59:00Z\"",
        "NotBefore=\"2026-01-01T12:01:00Z\"",
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn the_session_that_it_began_is_what_ends() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    for (end, minutes) in [("2026-01-01T18:00:00Z", 360), ("2026-01-01T12:02:00Z", 2)] {
        let template = with(
            &assertion(&signature("_a1")),
            "<saml:AuthnStatement ",
            &format!("<saml:AuthnStatement SessionNotOnOrAfter=\"{end}\" "),
        );
        let claims = stand.verify(&Maker::trusted().sign(&template)).await.unwrap();
        assert_eq!(claims.valid_until, super::noon() + minutes * MINUTE);
        // However long the session is, it is begun while the assertion is fresh.
        let late = stand
            .verify_after(11 * MINUTE, &Maker::trusted().sign(&template))
            .await;
        assert_eq!(late, Err(TokenError::Expired));
    }
}

#[tokio::test]
async fn a_recipient_counts_whether_or_not_the_policy_names_one() {
    if !Maker::is_there() {
        return;
    }
    let mut stand = Stand::new();
    stand.recipient(None);
    let error = stand.verify(&Maker::trusted().good()).await.unwrap_err();
    assert!(error.to_string().contains("the policy names none"), "{error}");
    altered(&stand, " Recipient=\"https://tollgate.test/jobs\"", "")
        .await
        .unwrap();
}

#[tokio::test]
async fn one_of_several_confirmations_is_enough() {
    if !Maker::is_there() {
        return;
    }
    let other = "<saml:SubjectConfirmation Method=\"urn:oasis:names:tc:SAML:2.0:cm:holder-of-key\"/>";
    let first = "<saml:SubjectConfirmation ";
    altered(&Stand::new(), first, &format!("{other}{first}"))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_may_be_used_once_opens_one_session() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let once = with(
        &assertion(&signature("_a1")),
        "</saml:Conditions>",
        "<saml:OneTimeUse/></saml:Conditions>",
    );
    let signed = Maker::trusted().sign(&once);
    stand.verify(&signed).await.unwrap();
    for form in [signed.clone(), format!("\n{signed}").trim_start().to_owned()] {
        assert_eq!(
            stand.verify_after(4 * MINUTE, &form).await,
            Err(TokenError::Assertion(SamlError::UsedBefore))
        );
    }
    // Who has logged in with it goes by that, and nobody else logs in with it.
    stand.verify_as(Use::LoggedIn, 4 * MINUTE, &signed).await.unwrap();
    assert_eq!(
        stand.verify(&signed).await,
        Err(TokenError::Assertion(SamlError::UsedBefore))
    );
    let another = Maker::trusted().sign(&once.replace("_a1", "_a2"));
    stand.verify(&another).await.unwrap();
    // What failed for another reason was not used.
    let unwanted = Maker::trusted().sign(&once.replace("_a1", "_a3"));
    let asking = stand.asking(&[("department", "payroll")]);
    assert!(matches!(
        asking.verify(&unwanted).await,
        Err(TokenError::Claim { .. })
    ));
    asking.asking(&[]).verify(&unwanted).await.unwrap();

    let old = once.replace(
        "IssueInstant=\"2026-01-01T11:59:00Z\"",
        "IssueInstant=\"2026-01-01T10:59:00Z\"",
    );
    assert_eq!(
        Stand::new().verify(&Maker::trusted().sign(&old)).await,
        Err(TokenError::Assertion(SamlError::Older))
    );
}
