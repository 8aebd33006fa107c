//! What attackers do to signed XML.

use std::time::{Duration, Instant};

use super::super::super::TokenError;
use super::super::error::SamlError;
use super::maker::{
    ENVELOPED, EXCLUSIVE, Maker, RSA_SHA256, SHA256, Stand, assertion, reference, response, signature,
    signature_of, with,
};

pub(super) async fn refused(stand: &Stand, what: &str, text: &str) -> SamlError {
    match stand.verify(text).await {
        Err(TokenError::Assertion(error)) => error,
        Err(other) => panic!("{what}: {other}"),
        Ok(claims) => panic!("{what} was taken for {}", claims.subject),
    }
}

#[tokio::test]
async fn a_comment_does_not_cut_a_name() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let template = with(
        &assertion(&signature("_a1")),
        "user@a.test",
        "user@a.test.evil.test",
    );
    let signed = Maker::trusted().sign(&template);
    assert_eq!(
        stand.verify(&signed).await.unwrap().subject,
        "user@a.test.evil.test"
    );
    // Canonicalisation takes comments out, so the signature stays right.
    for (place, instead) in [
        ("user@a.test.evil", "user@a.test<!-- -->.evil"),
        ("<saml:Subject>", "<!-- x --><saml:Subject>"),
        ("<ds:DigestValue>", "<ds:DigestValue><!--AAAA-->"),
        ("user@a.test.evil", "user@a.test<?x y?>.evil"),
    ] {
        let error = refused(&stand, instead, &with(&signed, place, instead)).await;
        assert_eq!(error, SamlError::Asides, "{instead}");
    }
    let before = format!("<!-- -->{signed}");
    assert_eq!(refused(&stand, "before", &before).await, SamlError::Asides);
}

#[tokio::test]
async fn nothing_is_declared_fetched_or_expanded() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "hunter2").unwrap();
    let laughs: Vec<String> = (1..=9)
        .map(|level| {
            let below = format!("&l{};", level - 1).repeat(10);
            format!("<!ENTITY l{level} \"{below}\">")
        })
        .collect();
    let laughs = format!("<!ENTITY l0 \"lol\">{}", laughs.concat());
    let good = Maker::trusted().good();
    for (what, doctype, entity) in [
        (
            "file",
            format!(
                "<!DOCTYPE x [<!ENTITY e SYSTEM \"file://{}\">]>",
                secret.path().display()
            ),
            "&e;",
        ),
        (
            "network",
            format!("<!DOCTYPE x [<!ENTITY e SYSTEM \"{}/\">]>", stand.provider.url),
            "&e;",
        ),
        (
            "outer subset",
            format!("<!DOCTYPE x SYSTEM \"{}/x.dtd\">", stand.provider.url),
            "",
        ),
        (
            "parameter",
            "<!DOCTYPE x [<!ENTITY % p SYSTEM \"file:///etc/passwd\"> %p;]>".to_owned(),
            "",
        ),
        ("billion laughs", format!("<!DOCTYPE x [{laughs}]>"), "&l9;"),
        (
            "default ID",
            "<!DOCTYPE x [<!ATTLIST Object ID CDATA \"_a1\">]>".to_owned(),
            "",
        ),
        ("none", "<!DOCTYPE x>".to_owned(), ""),
        ("undeclared", String::new(), "&e;"),
    ] {
        let text = format!(
            "{doctype}{}",
            with(&good, "user@a.test", &format!("user@a.test{entity}"))
        );
        let start = Instant::now();
        let error = refused(&stand, what, &text).await;
        assert!(matches!(error, SamlError::Form { .. }), "{what}: {error}");
        assert!(!error.to_string().contains("hunter2"));
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "{what} took {:?}",
            start.elapsed()
        );
    }
    // A declaration of the encoding changes nothing: it is read as UTF-8.
    let declared = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-7\"?>{}",
        with(&good, "user@a.test", "+ADw-root")
    );
    assert_eq!(refused(&stand, "UTF-7", &declared).await, SamlError::Changed);
}

#[tokio::test]
async fn unsigned_encrypted_and_several_ones_are_refused() {
    if !Maker::is_there() {
        return;
    }
    let (stand, maker) = (Stand::new(), Maker::trusted());
    let unsigned = assertion("");
    assert_eq!(refused(&stand, "unsigned", &unsigned).await, SamlError::Unsigned);
    assert_eq!(
        refused(&stand, "in a response", &response("", &unsigned)).await,
        SamlError::Unsigned
    );
    let second = maker.sign(&assertion(&signature("_a1")).replace("_a1", "_a2"));
    let two = response("", &format!("{}{second}", maker.good()));
    assert!(matches!(
        refused(&stand, "two", &two).await,
        SamlError::Arrangement { .. }
    ));
    let encrypted = response(
        "",
        "<saml:EncryptedAssertion xmlns:saml=\"urn:oasis:names:tc:SAML:2.0:assertion\"/>",
    );
    assert_eq!(
        refused(&stand, "encrypted", &encrypted).await,
        SamlError::Encrypted
    );
    for nothing in [
        "",
        "hunter2",
        "aHVudGVyMg==",
        "<",
        "<x/>",
        "\u{0}",
        &response("", ""),
    ] {
        let error = refused(&stand, nothing, nothing).await;
        assert!(
            matches!(error, SamlError::NoAssertion | SamlError::Form { .. }),
            "{nothing}: {error}"
        );
        assert!(!error.to_string().contains("hunter2"));
    }
    let failed = maker.sign(&with(
        &response(&signature("_r1"), &assertion("")),
        "status:Success",
        "status:Requester",
    ));
    assert!(matches!(
        refused(&stand, "failed", &failed).await,
        SamlError::Status { .. }
    ));
}

#[tokio::test]
async fn keys_come_from_the_metadata_alone() {
    if !Maker::is_there() {
        return;
    }
    let (stand, attacker) = (Stand::new(), Maker::with_key(&["-newkey", "rsa:2048"]));
    let info = format!(
        "</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>{}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>",
        attacker.certificate
    );
    let template = with(
        &assertion(&signature("_a1")),
        "<ds:SignatureValue/>",
        &format!("<ds:SignatureValue>{info}"),
    );
    let error = refused(&stand, "the attacker's key", &attacker.sign(&template)).await;
    assert!(matches!(error, SamlError::UnknownKey { .. }), "{error}");
    // The right certificate beside a wrong signature.
    let borrowed = template.replace(&attacker.certificate, &Maker::trusted().certificate);
    let error = refused(&stand, "a borrowed certificate", &attacker.sign(&borrowed)).await;
    assert!(matches!(error, SamlError::UnknownKey { .. }), "{error}");
    // What is in KeyInfo has no say where the signature is right, either.
    stand.verify(&Maker::trusted().sign(&template)).await.unwrap();

    // A key that is too short, though the metadata lists it.
    let short = Maker::with_key(&["-newkey", "rsa:1024"]);
    let error = refused(&Stand::trusting(&[&short]), "1024 bits", &short.good()).await;
    assert!(matches!(error, SamlError::UnknownKey { .. }), "{error}");
}

#[tokio::test]
async fn signatures_of_another_make_are_refused_though_the_provider_made_them() {
    if !Maker::is_there() {
        return;
    }
    let (stand, maker) = (Stand::new(), Maker::trusted());
    let of = |method: &str, transforms: &[&str], digest: &str| {
        maker.sign(&assertion(&signature_of(
            method,
            &reference("_a1", transforms, digest),
        )))
    };
    let transform = |uri: &str| format!("<ds:Transform Algorithm=\"{uri}\"/>");
    let inclusive = transform("http://www.w3.org/TR/2001/REC-xml-c14n-20010315");
    let comments = transform("http://www.w3.org/2001/10/xml-exc-c14n#WithComments");
    let xpath = "<ds:Transform Algorithm=\"http://www.w3.org/TR/1999/REC-xpath-19991116\"><ds:XPath>not(ancestor-or-self::*[local-name()='Subject'])</ds:XPath></ds:Transform>";
    let exclusive = "<ds:CanonicalizationMethod Algorithm=\"http://www.w3.org/2001/10/xml-exc-c14n#\"/>";
    let plain = assertion(&signature("_a1"));
    for (what, text) in [
        (
            "RSA-SHA1",
            of(
                "http://www.w3.org/2000/09/xmldsig#rsa-sha1",
                &[ENVELOPED, EXCLUSIVE],
                SHA256,
            ),
        ),
        (
            "SHA-1 digest",
            of(
                RSA_SHA256,
                &[ENVELOPED, EXCLUSIVE],
                "http://www.w3.org/2000/09/xmldsig#sha1",
            ),
        ),
        ("inclusive", of(RSA_SHA256, &[ENVELOPED, &inclusive], SHA256)),
        ("with comments", of(RSA_SHA256, &[ENVELOPED, &comments], SHA256)),
        ("no canonicalisation", of(RSA_SHA256, &[ENVELOPED], SHA256)),
        (
            "three transforms",
            of(RSA_SHA256, &[ENVELOPED, EXCLUSIVE, EXCLUSIVE], SHA256),
        ),
        ("XPath", of(RSA_SHA256, &[ENVELOPED, xpath], SHA256)),
        (
            "XPath between",
            of(RSA_SHA256, &[ENVELOPED, xpath, EXCLUSIVE], SHA256),
        ),
        (
            "the other way round",
            // xmlsec1 does not sign that; it is refused before the signature is looked at.
            with(
                &maker.good(),
                &[ENVELOPED, EXCLUSIVE].concat(),
                &[EXCLUSIVE, ENVELOPED].concat(),
            ),
        ),
        (
            "SignedInfo otherwise",
            maker.sign(&with(
                &plain,
                exclusive,
                &exclusive.replace("2001/10/xml-exc-c14n#", "TR/2001/REC-xml-c14n-20010315"),
            )),
        ),
        (
            "the whole document",
            maker.sign(&with(&plain, "URI=\"#_a1\"", "URI=\"\"")),
        ),
        (
            "an XPointer",
            maker.sign(&with(&plain, "URI=\"#_a1\"", "URI=\"#xpointer(id('_a1'))\"")),
        ),
    ] {
        let error = refused(&stand, what, &text).await;
        assert!(
            matches!(error, SamlError::Kind { .. } | SamlError::Arrangement { .. }),
            "{what}: {error}"
        );
    }
    // The public key as a secret, `none`, and what nobody knows.
    for method in [
        "http://www.w3.org/2001/04/xmldsig-more#hmac-sha256",
        "http://www.w3.org/2000/09/xmldsig#dsa-sha1",
        "none",
        "",
    ] {
        let error = refused(&stand, method, &with(&maker.good(), RSA_SHA256, method)).await;
        assert!(matches!(error, SamlError::Kind { .. }), "{method}: {error}");
    }
    let outside = with(&maker.good(), "URI=\"#_a1\"", "URI=\"http://127.0.0.1/x\"");
    assert!(matches!(
        refused(&stand, "outside", &outside).await,
        SamlError::Kind { .. }
    ));
}

#[tokio::test]
async fn what_was_changed_is_refused() {
    if !Maker::is_there() {
        return;
    }
    let (stand, good) = (Stand::new(), Maker::trusted().good());
    for (place, instead) in [
        ("user@a.test", "root@a.test"),
        ("billing", "payroll"),
        ("12:10:00Z", "22:10:00Z"),
        ("<saml:Audience>tollgate<", "<saml:Audience>vault<"),
        (
            "<saml:Attribute ",
            "<saml:Attribute Name=\"admin\"/><saml:Attribute ",
        ),
        (" Version=", " X=\"\" Version="),
    ] {
        assert_eq!(
            refused(&stand, instead, &with(&good, place, instead)).await,
            SamlError::Changed
        );
    }
    let value = good.find("<ds:SignatureValue>").unwrap() + "<ds:SignatureValue>".len();
    let mut other = good.clone();
    let first = if good.as_bytes()[value] == b'A' { "B" } else { "A" };
    other.replace_range(value..=value, first);
    assert!(matches!(
        refused(&stand, "value", &other).await,
        SamlError::UnknownKey { .. }
    ));
    let mut empty = good.clone();
    empty.replace_range(value..good.find("</ds:SignatureValue>").unwrap(), "");
    assert!(matches!(
        refused(&stand, "empty", &empty).await,
        SamlError::UnknownKey { .. }
    ));
    // The SignedInfo of the attacker's own digest, under the old signature.
    let start = good.find("<ds:DigestValue>").unwrap() + "<ds:DigestValue>".len();
    let mut digest = with(&good, "user@a.test", "root@a.test");
    digest.replace_range(start..good.find("</ds:DigestValue>").unwrap(), "AAAA");
    assert_eq!(refused(&stand, "digest", &digest).await, SamlError::Changed);
}

#[tokio::test]
async fn depth_and_size_are_bounded() {
    if !Maker::is_there() {
        return;
    }
    let stand = Stand::new();
    for levels in [33, 10_000] {
        let deep = format!("{}{}", "<x>".repeat(levels), "</x>".repeat(levels));
        let text = with(
            &Maker::trusted().good(),
            "<saml:Subject>",
            &format!("{deep}<saml:Subject>"),
        );
        let error = refused(&stand, "deep", &text).await;
        assert!(matches!(error, SamlError::Form { .. }), "{error}");
    }
    // As large as a token can be: many attributes, many prefixes, many elements.
    let room = 50 * 1024;
    let attributes = (0..room / 12)
        .map(|number| format!(" a{number:05}=\"\""))
        .collect::<Vec<_>>()
        .concat();
    let prefixes = (0..room / 20)
        .map(|number| format!(" xmlns:p{number:04}=\"u:{number:04}\""))
        .collect::<Vec<_>>()
        .concat();
    for (what, filling) in [
        ("attributes", format!("<x{attributes}/>")),
        ("prefixes", format!("<x{prefixes}>{}</x>", "<y/>".repeat(500))),
        ("elements", "<y/>".repeat(room / 4)),
        (
            "IDs",
            (0..room / 16)
                .map(|number| format!("<y ID=\"_{number:05}\"/>"))
                .collect::<Vec<_>>()
                .concat(),
        ),
    ] {
        let text = with(
            &Maker::trusted().good(),
            "<saml:Subject>",
            &format!("{filling}<saml:Subject>"),
        );
        let start = Instant::now();
        assert_eq!(refused(&stand, what, &text).await, SamlError::Changed);
        assert!(
            start.elapsed() < Duration::from_secs(3),
            "{what} took {:?}",
            start.elapsed()
        );
    }
}
