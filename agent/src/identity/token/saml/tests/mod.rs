mod attacks;
mod conditions;
mod detached;
mod maker;
mod provider;
mod wrapping;

use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{TokenError, TokenKind};
use super::error::SamlError;
use maker::{
    ENVELOPED, EXCLUSIVE, Maker, SHA256, Stand, assertion, metadata, noon, reference, response, signature,
    signature_of, with,
};

const MINUTE: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_signed_assertion_says_who_it_is() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new().asking(&[("department", "bill*"), ("groups", "dba"), ("NameID", "*@a.test")]);
    let claims = stand.verify(&Maker::trusted().good()).await.unwrap();
    assert_eq!(claims.kind, TokenKind::Saml);
    assert_eq!(claims.subject, "user@a.test");
    assert_eq!(claims.issuer, "https://idp.acme.test");
    assert_eq!(claims.audience, "tollgate");
    assert_eq!(claims.claims["groups"], "staff, dba");
    assert_eq!(claims.claims["jti"], "_a1");
    assert_eq!(SystemTime::from(claims.issued_at), noon() - MINUTE);
    assert_eq!(SystemTime::from(claims.expires_at), noon() + 10 * MINUTE);
    assert_eq!(claims.key.as_ref().map(String::len), Some(64));

    let other = stand.asking(&[("department", "payroll")]);
    let error = other.verify(&Maker::trusted().good()).await.unwrap_err();
    assert!(matches!(error, TokenError::Claim { .. }), "{error}");
}

#[tokio::test]
async fn it_comes_alone_or_in_a_response_as_xml_or_as_base64() {
    if !Maker::is_there() {
        return;
    }
    let (stand, maker) = (Stand::new(), Maker::trusted());
    let alone = maker.good();
    let in_response = maker.sign(&response("", &assertion(&signature("_a1"))));
    let response_signed = maker.sign(&response(&signature("_r1"), &assertion("")));
    let both = {
        let inner = maker.sign(&response("", &assertion(&signature("_a1"))));
        let outer = with(
            &inner,
            "</saml:Issuer><samlp:",
            &format!("</saml:Issuer>{}<samlp:", signature("_r1")),
        );
        maker.sign_at(&outer, "/*/*[local-name()='Signature']")
    };
    for (what, text) in [
        ("alone", &alone),
        ("in a response", &in_response),
        ("in a signed response", &response_signed),
        ("both signed", &both),
    ] {
        for form in [text.clone(), STANDARD.encode(text)] {
            let claims = stand
                .verify(&form)
                .await
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_eq!(claims.subject, "user@a.test", "{what}");
        }
    }
    let mut broken: String = STANDARD.encode(&alone);
    for at in (76..broken.len()).step_by(77) {
        broken.insert(at, '\n');
    }
    stand.verify(&broken).await.unwrap();
}

#[tokio::test]
async fn every_algorithm_that_is_accepted_is_verified_as_xmlsec1_makes_it() {
    if !Maker::is_there() {
        return;
    }
    let p256 = Maker::with_key(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    let p384 = Maker::with_key(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let p521 = Maker::with_key(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"]);
    let rsa = Maker::trusted();
    // All in the metadata: the right one is found.
    let stand = Stand::trusting(&[&p256, &p384, &p521, rsa]);
    let more = "http://www.w3.org/2001/04/xmldsig-more#";
    for (maker, method, digest) in [
        (rsa, "rsa-sha256", SHA256.to_owned()),
        (rsa, "rsa-sha384", format!("{more}sha384")),
        (
            rsa,
            "rsa-sha512",
            "http://www.w3.org/2001/04/xmlenc#sha512".to_owned(),
        ),
        (&p256, "ecdsa-sha256", SHA256.to_owned()),
        (&p384, "ecdsa-sha384", format!("{more}sha384")),
        (&p521, "ecdsa-sha512", SHA256.to_owned()),
    ] {
        let reference = reference("_a1", &[ENVELOPED, EXCLUSIVE], &digest);
        let template = assertion(&signature_of(&format!("{more}{method}"), &reference));
        let claims = stand.verify(&maker.sign(&template)).await;
        assert!(claims.is_ok(), "{method}: {claims:?}");
    }
}

/// What canonicalisation is about: each of these is the same to xmlsec1, which made the signature, and here.
#[tokio::test]
async fn canonical_forms_are_those_of_xmlsec1() {
    if !Maker::is_there() {
        return;
    }
    let maker = Maker::trusted();
    let value = r#"<saml:AttributeValue xsi:type="xs:string">billing</saml:AttributeValue>"#;
    let inclusive = r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"><ec:InclusiveNamespaces xmlns:ec="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="xs xsi #default"/></ds:Transform>"#;
    let plain = signature("_a1");
    let with_prefixes = signature_of(
        maker::RSA_SHA256,
        &reference("_a1", &[ENVELOPED, inclusive], SHA256),
    );
    for (signature, value) in [
        (&plain, value.to_owned()),
        (&with_prefixes, value.to_owned()),
        (&plain, value.replace("billing", "&#98;illing<![CDATA[]]>")),
        (&plain, value.replace("billing", "billing \u{e9}\u{1f600} &amp;&lt;&gt;&quot; a>b 'c' &#13;&#10;&#9;.")),
        (&plain, value.replace(" xsi:type", "\n  a='&#9;&#10;&#13;&lt;\"'   xsi:type")),
        (&plain, r#"<saml:AttributeValue><x xmlns="urn:x"><y xmlns="" b="1" a="2"/><z xmlns:n="urn:n" n:c="3" d="4"/></x></saml:AttributeValue>"#.to_owned()),
        (&with_prefixes, r#"<saml:AttributeValue><x xmlns="urn:x"><y xmlns="" xml:lang="en"/></x></saml:AttributeValue>"#.to_owned()),
        (&plain, r#"<saml:AttributeValue xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"><saml:x xmlns:saml="urn:other"/></saml:AttributeValue>"#.to_owned()),
    ] {
        let assertion = with(&assertion(signature), r#"<saml:AttributeValue xsi:type="xs:string">billing</saml:AttributeValue>"#, &value);
        let template = response("", &assertion).replace("<samlp:Response ", "<samlp:Response xmlns:unused=\"urn:unused\" xmlns=\"urn:default\" ");
        let verified = Stand::new().verify(&maker.sign(&template)).await;
        assert!(verified.is_ok(), "{value}: {verified:?}");
    }
    let odd = with(
        &assertion(&plain),
        "user@a.test",
        "  us<![CDATA[er@a]]>&#46;test ",
    );
    assert_eq!(
        Stand::new().verify(&maker.sign(&odd)).await.unwrap().subject,
        "user@a.test"
    );
}

#[tokio::test]
async fn a_new_key_is_found_in_the_metadata_and_a_withdrawn_one_ends() {
    if !Maker::is_there() {
        return;
    }
    let (old, new) = (Maker::trusted(), Maker::with_key(&["-newkey", "rsa:2048"]));
    let stand = Stand::new();
    stand.verify(&old.good()).await.unwrap();
    stand
        .provider
        .answer_instead("200 OK", metadata(&[&new.certificate]));
    let error = stand.verify(&new.good()).await.unwrap_err();
    assert!(
        matches!(error, TokenError::Assertion(SamlError::UnknownKey { .. })),
        "asked a moment ago: {error}"
    );
    stand
        .verify_after(Duration::from_secs(11), &new.good())
        .await
        .unwrap();
    let error = stand
        .verify_after(Duration::from_secs(30), &old.good())
        .await
        .unwrap_err();
    assert!(
        matches!(error, TokenError::Assertion(SamlError::UnknownKey { .. })),
        "{error}"
    );
}

#[tokio::test]
async fn a_provider_that_is_down_is_bridged_for_as_long_as_the_policy_says() {
    if !Maker::is_there() {
        return;
    }
    let mut stand = Stand::new();
    stand.spec.offline = 6 * MINUTE;
    stand.spec.leeway = 10 * MINUTE;
    let good = Maker::trusted().good();
    stand.verify(&good).await.unwrap();
    stand.provider.go_down();
    stand.verify_after(5 * MINUTE, &good).await.unwrap();
    let error = stand.verify_after(7 * MINUTE, &good).await.unwrap_err();
    assert!(
        matches!(&error, TokenError::Unavailable { reason } if reason.contains("cannot be reached")),
        "{error}"
    );
}

#[tokio::test]
async fn metadata_that_cannot_be_trusted_is_refused() {
    if !Maker::is_there() {
        return;
    }
    let maker = Maker::trusted();
    let (good, sound) = (maker.good(), metadata(&[&maker.certificate]));
    for (what, metadata, expected) in [
        (
            "another entity",
            with(
                &sound,
                "entityID=\"https://idp.acme.test\"",
                "entityID=\"https://evil.test\"",
            ),
            "no identity provider",
        ),
        (
            "keys to encrypt with",
            with(&sound, "use=\"signing\"", "use=\"encryption\""),
            "no identity provider",
        ),
        (
            "another protocol",
            with(
                &sound,
                "protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:2.0:protocol\"",
                "protocolSupportEnumeration=\"urn:oasis:names:tc:SAML:1.1:protocol\"",
            ),
            "no identity provider",
        ),
        (
            "a service provider's key",
            sound.replace("IDPSSODescriptor", "SPSSODescriptor"),
            "no identity provider",
        ),
        (
            "no certificate",
            with(&sound, &maker.certificate, "AAAA"),
            "certificate cannot be read",
        ),
        (
            "over since morning",
            with(
                &sound,
                "entityID=",
                "validUntil=\"2026-01-01T06:00:00Z\" entityID=",
            ),
            "valid until",
        ),
        (
            "a term that is none",
            with(&sound, "entityID=", "validUntil=\"soon\" entityID="),
            "no time",
        ),
        ("no XML", "<html>".to_owned(), "no SAML metadata"),
        ("another document", "<html/>".to_owned(), "describes no entity"),
        (
            "a document type",
            with(
                &sound,
                "<!-- of",
                "<!DOCTYPE x [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><!-- of",
            ),
            "no SAML metadata",
        ),
        (
            "twice",
            format!(
                "<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\">{0}{0}</md:EntitiesDescriptor>",
                sound.split_once("-->").unwrap().1
            ),
            "twice",
        ),
    ] {
        let stand = Stand::new();
        stand.provider.answer_instead("200 OK", metadata);
        let error = stand.verify(&good).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    let stand = Stand::new();
    let one = sound.split_once("-->").unwrap().1;
    let other = with(
        one,
        "entityID=\"https://idp.acme.test\"",
        "entityID=\"https://other.test\"",
    );
    stand.provider.answer_instead(
        "200 OK",
        format!("<md:EntitiesDescriptor xmlns:md=\"urn:oasis:names:tc:SAML:2.0:metadata\" validUntil=\"2026-01-02T00:00:00Z\"><md:EntitiesDescriptor>{one}</md:EntitiesDescriptor>{other}</md:EntitiesDescriptor>"),
    );
    stand.verify(&good).await.unwrap();
}
