//! From a job's text to the octets of one signed assertion.
//!
//! An assertion comes by itself, or in a response that wraps it alone; as XML, or as base64 of that (the form of the
//! HTTP-POST binding). The assertion is signed, or the response is, or both are. Where the policy takes that, an assertion
//! comes with its signature beside it, right inside one element of any name.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::algorithm::Key;
use super::error::SamlError;
use super::signature::{DSIG, Place, Sealed, names};
use super::xml::{Element, Tree};

/// What has to be signed, with one or two signatures; whose they are is still to be seen.
pub(super) struct Envelope {
    /// The response first, where both are signed. Never empty.
    sealed: Vec<Sealed>,
}

impl Envelope {
    /// Takes apart what a job presents. No key is needed for that, and nothing of it is believed yet. `detached`: a signature
    /// beside the assertion is taken too.
    pub(super) fn open(token: &[u8], detached: bool) -> Result<Self, SamlError> {
        let text = xml(token)?;
        let tree = Tree::parse(&text)?;
        if tree.has_asides() {
            return Err(SamlError::Asides);
        }
        every_id_is_its_own(&tree)?;
        let mut left: Vec<_> = tree
            .elements()
            .filter(|element| element.is(DSIG, "Signature"))
            .collect();
        if let Some(sealed) = beside(&tree, &left, detached)? {
            return Ok(Self { sealed: vec![sealed] });
        }
        let (response, assertion) = parts(&tree)?;
        let mut sealed = Vec::new();
        for part in response.into_iter().chain([assertion]) {
            let Some(signature) = part.child(DSIG, "Signature")? else {
                continue;
            };
            left.retain(|other| other.id() != signature.id());
            sealed.push(Sealed::open(&tree, part, signature, Place::Inside)?);
        }
        if !left.is_empty() {
            return Err(SamlError::Arrangement {
                reason: "a signature is elsewhere than in the assertion or in the response around it",
            });
        }
        if sealed.is_empty() {
            return Err(SamlError::Unsigned);
        }
        Ok(Self { sealed })
    }

    /// The key that made every signature, and the octets that hold the assertion. `None`: some signature is of no such key.
    pub(super) fn verified<'k>(&self, keys: &'k [Key]) -> Option<(&'k Key, &str)> {
        let mut innermost = None;
        for sealed in &self.sealed {
            innermost = Some((sealed.maker(keys)?, sealed.octets.as_str()));
        }
        innermost
    }
}

/// The XML of an assertion that is neither in a response nor in anything else.
pub(super) fn by_itself(token: &[u8]) -> Option<Zeroizing<String>> {
    let text = xml(token).ok()?;
    let alone = Tree::parse(&text).ok()?.root().ok()?.is(ASSERTION, "Assertion");
    alone.then_some(text)
}

/// The assertion in octets that were signed: they hold it by itself, or in a response.
pub(super) fn assertion_of<'d, 't>(tree: &'d Tree<'t>) -> Result<Element<'d, 't>, SamlError> {
    let (response, assertion) = parts(tree)?;
    if let Some(response) = response {
        let status = response.the(PROTOCOL, "Status")?.the(PROTOCOL, "StatusCode")?;
        let code = status.attribute("Value").unwrap_or_default();
        if code != SUCCESS {
            return Err(SamlError::Status {
                status: super::super::claims::cut(code),
            });
        }
    }
    Ok(assertion)
}

/// The assertion, where a signature beside it says that it is over it: that has to be the only signature.
fn beside(
    tree: &Tree<'_>,
    signatures: &[Element<'_, '_>],
    detached: bool,
) -> Result<Option<Sealed>, SamlError> {
    let assertion = only_assertion(tree)?;
    // Inside the outermost element. Then its parent is one, and not the document.
    if assertion.parent() != Some(tree.root()?.id()) {
        return Ok(None);
    }
    let id = assertion.attribute("ID").filter(|id| !id.is_empty());
    let over_it = |signature: &&Element<'_, '_>| {
        signature.parent() == assertion.parent() && id.is_some() && names(**signature) == id
    };
    let Some(signature) = signatures.iter().find(over_it) else {
        return Ok(None);
    };
    if !detached {
        return Err(SamlError::Detached);
    }
    if signatures.len() > 1 {
        return Err(SamlError::Arrangement {
            reason: "a signature beside the assertion is not the only one",
        });
    }
    Sealed::open(tree, assertion, *signature, Place::Beside).map(Some)
}

/// The only assertion of the document.
fn only_assertion<'d, 't>(tree: &'d Tree<'t>) -> Result<Element<'d, 't>, SamlError> {
    let assertions: Vec<_> = tree
        .elements()
        .filter(|element| element.is(ASSERTION, "Assertion"))
        .collect();
    if tree
        .elements()
        .any(|element| element.is(ASSERTION, "EncryptedAssertion"))
    {
        return Err(SamlError::Encrypted);
    }
    match assertions.as_slice() {
        [] => Err(SamlError::NoAssertion),
        [assertion] => Ok(*assertion),
        _ => Err(SamlError::Arrangement {
            reason: "there are several assertions",
        }),
    }
}

/// The response, where there is one, and the only assertion of the document.
fn parts<'d, 't>(tree: &'d Tree<'t>) -> Result<(Option<Element<'d, 't>>, Element<'d, 't>), SamlError> {
    let root = tree.root()?;
    let assertion = only_assertion(tree)?;
    if assertion.id() == root.id() {
        Ok((None, assertion))
    } else if root.is(PROTOCOL, "Response") && assertion.parent() == Some(root.id()) {
        Ok((Some(root), assertion))
    } else {
        Err(SamlError::Arrangement {
            reason: "the assertion is neither the whole nor right inside a response",
        })
    }
}

/// Refuses an identifier that two elements have, under any of the names that readers take for one.
fn every_id_is_its_own(tree: &Tree<'_>) -> Result<(), SamlError> {
    let mut seen = HashSet::new();
    for element in tree.elements() {
        let ids = element
            .attributes()
            .filter(|(_, name, _)| ID_ATTRIBUTES.iter().any(|id| name.eq_ignore_ascii_case(id)));
        for (_, _, value) in ids {
            if !seen.insert(value) {
                return Err(SamlError::Arrangement {
                    reason: "two elements have the same ID",
                });
            }
        }
    }
    Ok(())
}

fn xml(token: &[u8]) -> Result<Zeroizing<String>, SamlError> {
    let text = std::str::from_utf8(token).map_err(|_| SamlError::NoAssertion)?;
    if text.starts_with('<') {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let packed: Zeroizing<String> = Zeroizing::new(text.split_ascii_whitespace().collect());
    let decoded = STANDARD
        .decode(packed.as_bytes())
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .map(Zeroizing::new);
    decoded
        .filter(|text| text.starts_with('<'))
        .ok_or(SamlError::NoAssertion)
}

/// Namespaces of SAML 2.0.
pub(super) const ASSERTION: &str = "urn:oasis:names:tc:SAML:2.0:assertion";
const PROTOCOL: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const SUCCESS: &str = "urn:oasis:names:tc:SAML:2.0:status:Success";
/// SAML's own, that of XML Signature, that of SAML 1.1, and xml:id; in any case of letters.
const ID_ATTRIBUTES: &[&str] = &["ID", "AssertionID", "ResponseID", "RequestID"];
