//! One XML signature over one element (XML Signature 1.1, in the profile of SAML 2.0 core §5.4), and the bytes it covers.
//!
//! Of XML Signature no more is done than SAML needs: one reference, to the element that the signature is a child of; the
//! enveloped-signature transform and then exclusive canonicalisation, nothing else; no `KeyInfo`, no `Object`. What comes
//! out is not "valid" but the octets that were signed. They are parsed anew, and nothing else of the document is read
//! from there on: there is no second look-up that could find another element.
//!
//! A signature beside its element (detached) is the same without the first transform. SAML core §5.4.1 has no such
//! signatures, so that a policy has to ask for them; what is read is still what was signed, and that alone.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bergshamra_c14n::{C14nMode, canonicalize_doc};
use bergshamra_xml::nodeset::NodeSet;
use zeroize::Zeroizing;

use super::super::claims::cut;
use super::algorithm::{DigestMethod, Key, SignatureMethod};
use super::error::SamlError;
use super::xml::{Element, Tree};

/// An element and the signature in it. Its digest was checked; whose key made the signature was not.
pub(super) struct Sealed {
    /// The element without the signature, canonical: what was signed.
    pub(super) octets: Zeroizing<String>,
    signed_info: Zeroizing<String>,
    method: SignatureMethod,
    value: Vec<u8>,
}

impl Sealed {
    /// Reads the signature `signature` of `element`.
    pub(super) fn open(
        tree: &Tree<'_>,
        element: Element<'_, '_>,
        signature: Element<'_, '_>,
        place: Place,
    ) -> Result<Self, SamlError> {
        for child in signature.children() {
            if !["SignedInfo", "SignatureValue", "KeyInfo"].contains(&child.name()) || !child.is_in(DSIG) {
                return Err(SamlError::Arrangement {
                    reason: "the signature has something else in it",
                });
            }
        }
        let in_place = signature.the(DSIG, "SignedInfo")?;
        let prefixes = inclusive_prefixes(in_place.the(DSIG, "CanonicalizationMethod")?)?;
        let signed_info = canonical(tree, in_place, None, &prefixes)?;
        // Read from the very bytes that the signature is over.
        let info = Reference::read(&signed_info, &prefixes, place)?;
        // Every `Id` was seen to be unique before.
        if element.attribute("ID").is_none_or(str::is_empty)
            || info.id != element.attribute("ID").unwrap_or_default()
        {
            return Err(SamlError::Arrangement {
                reason: "the signature is over another element than the one that it belongs to",
            });
        }
        let without = match place {
            Place::Inside => Some(signature),
            Place::Beside => None,
        };
        let octets = canonical(tree, element, without, &info.prefixes)?;
        if !info.digest_method.is_of(octets.as_bytes(), &info.digest) {
            return Err(SamlError::Changed);
        }
        // The signed octets are read in place of the document: they have to be the same document to this parser.
        let again = Tree::parse(&octets)?;
        if *canonical(&again, again.root()?, None, &info.prefixes)? != *octets {
            return Err(SamlError::Form {
                reason: "its canonical form reads otherwise than it".to_owned(),
            });
        }
        let value = base64(&signature.the(DSIG, "SignatureValue")?.text()?)?;
        Ok(Self {
            octets,
            signed_info,
            method: info.method,
            value,
        })
    }

    /// The key that made the signature.
    pub(super) fn maker<'k>(&self, keys: &'k [Key]) -> Option<&'k Key> {
        keys.iter()
            .find(|key| key.made(self.method, self.signed_info.as_bytes(), &self.value))
    }
}

/// Where a signature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A child of what it signs.
    Inside,
    /// Its sibling.
    Beside,
}

/// The ID that a signature names first, if it is one that can be read. Not believed: [`Sealed::open`] reads it again from what is
/// signed.
pub(super) fn names<'d>(signature: Element<'d, '_>) -> Option<&'d str> {
    let info = signature.children_named(DSIG, "SignedInfo").next()?;
    let reference = info.children_named(DSIG, "Reference").next()?;
    reference.attribute("URI")?.strip_prefix('#')
}

/// What a `SignedInfo` says.
struct Reference {
    method: SignatureMethod,
    digest_method: DigestMethod,
    digest: Vec<u8>,
    /// `ID` of what is signed.
    id: String,
    /// Of its canonicalisation.
    prefixes: Vec<String>,
}

impl Reference {
    fn read(signed_info: &str, prefixes: &[String], place: Place) -> Result<Self, SamlError> {
        let tree = Tree::parse(signed_info)?;
        let info = tree.root()?;
        if inclusive_prefixes(info.the(DSIG, "CanonicalizationMethod")?)? != prefixes {
            return Err(kind("its canonicalisation is not what it says"));
        }
        let method = info.the(DSIG, "SignatureMethod")?;
        let method_name = named(method)?;
        let references: Vec<_> = info.children_named(DSIG, "Reference").collect();
        let [reference] = references.as_slice() else {
            return Err(SamlError::Arrangement {
                reason: "the signature has to be over one element",
            });
        };
        let id = reference
            .attribute("URI")
            .and_then(|uri| uri.strip_prefix('#'))
            .filter(|id| !id.is_empty())
            .ok_or_else(|| kind("it is not over an element that it names by its ID"))?;
        let transforms: Vec<_> = reference.the(DSIG, "Transforms")?.children().collect();
        let canonicalised = match (place, transforms.as_slice()) {
            (Place::Inside, [enveloped, canonicalised]) => {
                if named(*enveloped)? != ENVELOPED || enveloped.children().next().is_some() {
                    return Err(kind("its first transform is not the enveloped signature"));
                }
                canonicalised
            }
            (Place::Beside, [canonicalised]) => canonicalised,
            (Place::Inside, _) => {
                return Err(kind(
                    "its transforms are not the enveloped signature and exclusive canonicalisation",
                ));
            }
            (Place::Beside, _) => {
                return Err(kind(
                    "its transforms are not exclusive canonicalisation alone, as beside an assertion they are",
                ));
            }
        };
        let digest_name = named(reference.the(DSIG, "DigestMethod")?)?;
        Ok(Self {
            method: SignatureMethod::named(method_name)
                .filter(|_| method.children().next().is_none())
                .ok_or_else(|| not_accepted(method_name))?,
            digest_method: DigestMethod::named(digest_name).ok_or_else(|| not_accepted(digest_name))?,
            digest: base64(&reference.the(DSIG, "DigestValue")?.text()?)?,
            id: id.to_owned(),
            prefixes: inclusive_prefixes(*canonicalised)?,
        })
    }
}

/// The prefixes that an exclusive canonicalisation treats as inclusive ones (Exclusive XML Canonicalization §4). An error
/// where it is another canonicalisation.
fn inclusive_prefixes(method: Element<'_, '_>) -> Result<Vec<String>, SamlError> {
    if named(method)? != EXCLUSIVE {
        return Err(not_accepted(named(method)?));
    }
    let mut prefixes = Vec::new();
    for child in method.children() {
        if !child.is(EXCLUSIVE, "InclusiveNamespaces") {
            return Err(kind("its canonicalisation has parameters that it cannot have"));
        }
        let list = child.attribute("PrefixList").unwrap_or_default();
        prefixes.extend(list.split_ascii_whitespace().map(str::to_owned));
    }
    Ok(prefixes)
}

/// `element` in canonical form, without its child `without`.
fn canonical(
    tree: &Tree<'_>,
    element: Element<'_, '_>,
    without: Option<Element<'_, '_>>,
    prefixes: &[String],
) -> Result<Zeroizing<String>, SamlError> {
    let document = tree.document();
    let mut nodes = NodeSet::tree_without_comments(element.id(), document);
    if let Some(without) = without {
        nodes = nodes.subtract(&NodeSet::tree_with_comments(without.id(), document));
    }
    let failed = || SamlError::Form {
        reason: "it has no canonical form".to_owned(),
    };
    let octets =
        canonicalize_doc(document, C14nMode::Exclusive, Some(&nodes), prefixes).map_err(|_| failed())?;
    String::from_utf8(octets)
        .map(Zeroizing::new)
        .map_err(|_| failed())
}

fn named<'d>(method: Element<'d, '_>) -> Result<&'d str, SamlError> {
    method
        .attribute("Algorithm")
        .ok_or_else(|| kind("an algorithm has no name"))
}

/// xs:base64Binary, which may be broken over lines.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, SamlError> {
    let packed: String = text.split_ascii_whitespace().collect();
    STANDARD
        .decode(packed)
        .map_err(|_| kind("a value in it is not base64"))
}

fn not_accepted(algorithm: &str) -> SamlError {
    kind(&format!("the algorithm {:?} is not accepted", cut(algorithm)))
}

fn kind(reason: &str) -> SamlError {
    SamlError::Kind {
        reason: reason.to_owned(),
    }
}

/// Namespace of XML Signature.
pub(super) const DSIG: &str = "http://www.w3.org/2000/09/xmldsig#";
const ENVELOPED: &str = "http://www.w3.org/2000/09/xmldsig#enveloped-signature";
/// Exclusive canonicalisation without comments, and the namespace of its parameters.
const EXCLUSIVE: &str = "http://www.w3.org/2001/10/xml-exc-c14n#";
