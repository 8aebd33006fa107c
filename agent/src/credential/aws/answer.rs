//! What the Security Token Service answers: XML of its API of 2011-06-15.

use chrono::{DateTime, Utc};
use uppsala::{Document, NodeId, NodeKind, Parser};
use zeroize::Zeroizing;

use super::super::hidden::Hidden;
use crate::model::Secret;

/// Keys of a session.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) id: Secret,
    pub(super) secret: Secret,
    pub(super) token: Secret,
    pub(super) ends: DateTime<Utc>,
}

impl Granted {
    /// Reads an answer of 200.
    pub(super) fn read(body: &[u8]) -> Result<Self, &'static str> {
        let document = parse(body)?;
        let credentials = the(&document, document.root(), "Credentials")?;
        let part = |name| Ok::<_, &'static str>(Hidden(text(&document, the(&document, credentials, name)?)?));
        let ends = part("Expiration")?;
        Ok(Self {
            id: part("AccessKeyId")?.token()?,
            secret: part("SecretAccessKey")?.token()?,
            token: part("SessionToken")?.token()?,
            ends: DateTime::parse_from_rfc3339(&ends.0)
                .map_err(|_| "keys of which it does not say when they end")?
                .to_utc(),
        })
    }
}

/// The error code of a refusal, where it is one of those that are documented.
pub(super) fn refusal(body: &[u8]) -> Option<&'static str> {
    let document = parse(body).ok()?;
    let error = the(&document, document.root(), "Error").ok()?;
    let code = text(&document, the(&document, error, "Code").ok()?).ok()?;
    CODES.iter().find(|known| ***known == **code).copied()
}

fn parse(body: &[u8]) -> Result<Document<'_>, &'static str> {
    let text = std::str::from_utf8(body).map_err(|_| NO_XML)?;
    Parser::new()
        .with_max_depth(DEEPEST)
        .with_forbid_dtd(true)
        .with_forbid_entities(true)
        .parse(text)
        .map_err(|_| NO_XML)
}

/// The one element of this name below `from`.
fn the(document: &Document<'_>, from: NodeId, name: &str) -> Result<NodeId, &'static str> {
    let mut found = document.descendants(from).into_iter().filter(|id| {
        document
            .element(*id)
            .is_some_and(|element| element.name.matches(Some(NAMESPACE), name))
    });
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        _ => Err("no keys, or several"),
    }
}

fn text(document: &Document<'_>, id: NodeId) -> Result<Zeroizing<String>, &'static str> {
    let mut text = Zeroizing::new(String::new());
    for child in document.children_iter(id) {
        match document.node_kind(child) {
            Some(NodeKind::Text(part) | NodeKind::CData(part)) => text.push_str(part),
            _ => return Err("something else than a text where a key should be"),
        }
    }
    Ok(Zeroizing::new(text.trim_ascii().to_owned()))
}

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const NO_XML: &str = "something that is no XML of the Security Token Service";
const DEEPEST: u32 = 16;
/// Errors of `AssumeRole` and `AssumeRoleWithWebIdentity`, and those that every service of AWS has.
const CODES: &[&str] = &[
    "ExpiredToken",
    "ExpiredTokenException",
    "IDPCommunicationError",
    "IDPRejectedClaim",
    "InvalidIdentityToken",
    "MalformedPolicyDocument",
    "PackedPolicyTooLarge",
    "RegionDisabledException",
    "AccessDenied",
    "InvalidClientTokenId",
    "SignatureDoesNotMatch",
    "RequestExpired",
    "Throttling",
    "ValidationError",
    "InternalFailure",
    "ServiceUnavailable",
];

#[cfg(test)]
mod tests {
    use super::{Granted, refusal};

    const GOOD: &str = r#"<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>
  <Credentials><AccessKeyId>ASIA1</AccessKeyId><SecretAccessKey>s/e+c</SecretAccessKey>
  <SessionToken>
   Fwo=
  </SessionToken><Expiration>2026-11-25T18:00:00Z</Expiration></Credentials>
  <AssumedRoleUser><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"#;

    #[test]
    fn the_keys_are_read_and_nothing_else_counts_as_keys() {
        let granted = Granted::read(GOOD.as_bytes()).unwrap();
        assert_eq!(granted.id.expose(), b"ASIA1");
        assert_eq!(granted.secret.expose(), b"s/e+c");
        assert_eq!(granted.token.expose(), b"Fwo=");
        assert_eq!(granted.ends.to_rfc3339(), "2026-11-25T18:00:00+00:00");
        for (from, to) in [
            ("<AccessKeyId>ASIA1</AccessKeyId>", ""),
            ("ASIA1", ""),
            ("ASIA1", "AS\u{7f}IA"),
            ("ASIA1", "<b>ASIA1</b>"),
            ("2026-11-25T18:00:00Z", "tomorrow"),
            ("2011-06-15", "2010-05-08"),
            ("<AssumeRoleResult>", "<AssumeRoleResult><Credentials/>"),
            ("</AssumeRoleResponse>", ""),
        ] {
            assert!(
                Granted::read(GOOD.replacen(from, to, 1).as_bytes()).is_err(),
                "{from} to {to}"
            );
        }
        let entity = format!("<!DOCTYPE a [<!ENTITY e \"x\">]>{GOOD}");
        assert!(Granted::read(entity.as_bytes()).is_err());
        assert!(Granted::read(b"").is_err() && Granted::read(b"\xff").is_err());
    }

    #[test]
    fn of_a_refusal_a_known_code_alone_is_told() {
        let with = |code: &str| {
            format!(
                r#"<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{code}</Code><Message>hunter2</Message></Error></ErrorResponse>"#
            )
        };
        assert_eq!(refusal(with("AccessDenied").as_bytes()), Some("AccessDenied"));
        assert_eq!(refusal(with("hunter2").as_bytes()), None);
        assert_eq!(refusal(b"<html>"), None);
    }
}
