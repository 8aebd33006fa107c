//! Assertions that xmlsec1 signs, in any shape.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

use super::super::super::test_issuer::{HOUR, TestIssuer, like};
use super::super::super::{Now, TokenClaims, TokenError, Use};
use super::super::Verifier;
use crate::config::{ClaimRule, IdentitySpec, Proof, SamlSpec, TokenSource};
use crate::model::Secret;

pub(super) const ENTITY: &str = "https://idp.acme.test";
pub(super) const RSA_SHA256: &str = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256";
pub(super) const SHA256: &str = "http://www.w3.org/2001/04/xmlenc#sha256";
pub(super) const ENVELOPED: &str =
    r#"<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>"#;
pub(super) const EXCLUSIVE: &str = r#"<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>"#;

/// A key, and a program that signs with it which was not written here.
pub(super) struct Maker {
    dir: TempDir,
    key: PathBuf,
    /// Base64 of DER.
    pub(super) certificate: String,
}

impl Maker {
    /// Whether there is such a program: said loudly where not, and fatal where tests must not be left out.
    pub(super) fn is_there() -> bool {
        let there = Command::new("xmlsec1").arg("--version").output().is_ok();
        assert!(
            there || std::env::var_os("CI").is_none(),
            "this test needs xmlsec1"
        );
        if !there {
            eprintln!("NOT TESTED: needs xmlsec1");
        }
        there
    }

    /// The provider's own key, made once.
    pub(super) fn trusted() -> &'static Self {
        static TRUSTED: OnceLock<Maker> = OnceLock::new();
        TRUSTED.get_or_init(|| Maker::with_key(&["-newkey", "rsa:2048"]))
    }

    /// A key of anybody's. `kind`: arguments of `openssl req`.
    pub(super) fn with_key(kind: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (key, certificate) = (dir.path().join("key.pem"), dir.path().join("certificate.pem"));
        run(Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-subj", "/CN=idp", "-days", "1"])
            .args(kind)
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        let pem = fs::read_to_string(certificate).unwrap();
        Self {
            key,
            certificate: pem.lines().filter(|line| !line.starts_with("---")).collect(),
            dir,
        }
    }

    /// Signs the signature that stands at `xpath`.
    pub(super) fn sign_at(&self, template: &str, xpath: &str) -> String {
        let file = tempfile::NamedTempFile::new_in(self.dir.path()).unwrap();
        fs::write(file.path(), template).unwrap();
        run(Command::new("xmlsec1")
            .args(["--sign", "--node-xpath", xpath])
            .args(["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:assertion:Assertion"])
            .args(["--id-attr:ID", "urn:oasis:names:tc:SAML:2.0:protocol:Response"])
            .arg("--privkey-pem")
            .arg(&self.key)
            .arg(file.path()))
        .lines()
        // xmlsec1 puts an XML declaration before it.
        .skip_while(|line| line.starts_with("<?xml"))
        .collect::<Vec<_>>()
        .join("\n")
    }

    /// Signs the only signature.
    pub(super) fn sign(&self, template: &str) -> String {
        self.sign_at(template, "//*[local-name()='Signature']")
    }

    /// An assertion that nothing is wrong with.
    pub(super) fn good(&self) -> String {
        self.sign(&assertion(&signature("_a1")))
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        output.stderr.escape_ascii()
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A signature still to be made, over the element with this ID.
pub(super) fn signature(id: &str) -> String {
    signature_of(RSA_SHA256, &reference(id, &[ENVELOPED, EXCLUSIVE], SHA256))
}

pub(super) fn signature_of(method: &str, references: &str) -> String {
    format!(
        r#"<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="{method}"/>{references}</ds:SignedInfo><ds:SignatureValue/></ds:Signature>"#
    )
}

pub(super) fn reference(id: &str, transforms: &[&str], digest: &str) -> String {
    format!(
        r##"<ds:Reference URI="#{id}"><ds:Transforms>{}</ds:Transforms><ds:DigestMethod Algorithm="{digest}"/><ds:DigestValue/></ds:Reference>"##,
        transforms.concat()
    )
}

/// An assertion with room for a signature, which holds at [`NOON`].
pub(super) fn assertion(signature: &str) -> String {
    format!(
        r#"<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" ID="_a1" Version="2.0" IssueInstant="2026-01-01T11:59:00Z"><saml:Issuer>{ENTITY}</saml:Issuer>{signature}<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified">user@a.test</saml:NameID><saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="2026-01-01T12:05:00Z" Recipient="https://tollgate.test/jobs"/></saml:SubjectConfirmation></saml:Subject><saml:Conditions NotBefore="2026-01-01T11:59:00Z" NotOnOrAfter="2026-01-01T12:10:00Z"><saml:AudienceRestriction><saml:Audience>tollgate</saml:Audience></saml:AudienceRestriction></saml:Conditions><saml:AuthnStatement AuthnInstant="2026-01-01T11:59:00Z"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:X509</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement><saml:AttributeStatement><saml:Attribute Name="department"><saml:AttributeValue xsi:type="xs:string">billing</saml:AttributeValue></saml:Attribute><saml:Attribute Name="groups"><saml:AttributeValue xsi:type="xs:string">staff</saml:AttributeValue><saml:AttributeValue xsi:type="xs:string">dba</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"#
    )
}

/// A response around something, with room for a signature of its own.
pub(super) fn response(signature: &str, inside: &str) -> String {
    format!(
        r#"<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="_r1" Version="2.0" IssueInstant="2026-01-01T11:59:00Z"><saml:Issuer xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion">{ENTITY}</saml:Issuer>{signature}<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{inside}</samlp:Response>"#
    )
}

/// The same text with something else in one place.
pub(super) fn with(text: &str, place: &str, instead: &str) -> String {
    assert!(text.contains(place), "{place} is not in {text}");
    text.replacen(place, instead, 1)
}

pub(super) fn metadata(certificates: &[&str]) -> String {
    let keys = certificates
        .iter()
        .map(|certificate| {
            format!(
                r#"<md:KeyDescriptor use="signing"><ds:KeyInfo xmlns:ds="http://www.w3.org/2000/09/xmldsig#"><ds:X509Data><ds:X509Certificate>{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"#
            )
        })
        .collect::<Vec<_>>()
        .concat();
    format!(
        r#"<?xml version="1.0"?><!-- of the identity provider --><md:EntityDescriptor xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{ENTITY}"><md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol">{keys}<md:SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST" Location="{ENTITY}/sso"/></md:IDPSSODescriptor></md:EntityDescriptor>"#
    )
}

/// Noon of the first day of 2026, UTC.
pub(super) fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(490_908)
}

/// A policy, a provider whose metadata lists keys, and a verifier that has started an hour ago.
pub(super) struct Stand {
    pub(super) provider: TestIssuer,
    pub(super) spec: IdentitySpec,
    verifier: Verifier,
    start: Instant,
}

impl Stand {
    /// One that trusts [`Maker::trusted`].
    pub(super) fn new() -> Self {
        Self::trusting(&[Maker::trusted()])
    }

    pub(super) fn trusting(makers: &[&Maker]) -> Self {
        let provider = TestIssuer::start();
        let certificates: Vec<_> = makers.iter().map(|maker| maker.certificate.as_str()).collect();
        provider.answer_instead("200 OK", metadata(&certificates));
        let spec = IdentitySpec {
            proof: Proof::Saml(SamlSpec {
                metadata: provider.url.clone(),
                recipient: Some("https://tollgate.test/jobs".into()),
                detached: false,
            }),
            issuer: ENTITY.into(),
            audience: "tollgate".into(),
            token: TokenSource::File("/assertion".into()),
            claims: Vec::new(),
            ca: None,
            leeway: Duration::ZERO,
            offline: HOUR,
        };
        Self {
            provider,
            spec,
            verifier: Verifier::since(noon() - HOUR),
            start: Instant::now(),
        }
    }

    pub(super) fn asking(mut self, attributes: &[(&str, &str)]) -> Self {
        self.spec.claims = attributes
            .iter()
            .map(|(name, pattern)| like(name, pattern))
            .collect::<Vec<ClaimRule>>();
        self
    }

    pub(super) fn recipient(&mut self, recipient: Option<&str>) {
        if let Proof::Saml(saml) = &mut self.spec.proof {
            saml.recipient = recipient.map(str::to_owned);
        }
    }

    /// The policy takes signatures beside the assertion.
    pub(super) fn detached(mut self) -> Self {
        if let Proof::Saml(saml) = &mut self.spec.proof {
            saml.detached = true;
        }
        self
    }

    pub(super) async fn verify(&self, token: &str) -> Result<TokenClaims, TokenError> {
        self.verify_after(Duration::ZERO, token).await
    }

    /// Some time after noon.
    pub(super) async fn verify_after(
        &self,
        passed: Duration,
        token: &str,
    ) -> Result<TokenClaims, TokenError> {
        self.verify_as(Use::Presented, passed, token).await
    }

    pub(super) async fn verify_as(
        &self,
        what_for: Use,
        passed: Duration,
        token: &str,
    ) -> Result<TokenClaims, TokenError> {
        let Proof::Saml(saml) = &self.spec.proof else {
            unreachable!()
        };
        let now = Now {
            wall: noon() + passed,
            steady: self.start + passed,
        };
        let token = Secret::new(token.as_bytes().to_vec());
        self.verifier
            .verify(what_for, &token, &self.spec, saml, now)
            .await
    }
}
