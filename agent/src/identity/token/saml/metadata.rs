//! Keys of identity providers, from their metadata (SAML 2.0 metadata §2).
//!
//! The connection vouches for the document: it comes over HTTPS, or from loopback. A signature in it is not looked at.
//! Known limits: keys have to stand there in certificates; what is longer than a mebibyte, as the metadata of a whole
//! federation is, is not read.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use chrono::{DateTime, Utc};

use super::super::fetch::{self, FetchError};
use super::super::keys::KeySet;
use super::algorithm::Key;
use super::assertion::parse_time;
use super::signature::{DSIG, base64};
use super::xml::{Element, Tree, XmlError};

/// Why metadata is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum MetadataError {
    #[error("it is no SAML metadata: {0}")]
    Form(String),
    #[error("it has {0:?} twice")]
    Twice(String),
    #[error("it was valid until {0}")]
    Outdated(DateTime<Utc>),
    #[error("it has no identity provider {entity:?} with a certificate to sign with")]
    NoProvider { entity: String },
}

/// The identity providers of one document.
#[derive(Debug, Default)]
pub(in super::super) struct Metadata {
    providers: HashMap<String, Provider>,
}

#[derive(Debug)]
struct Provider {
    keys: Vec<Key>,
    valid_until: Option<DateTime<Utc>>,
}

impl KeySet for Metadata {
    async fn fetch(url: &str, ca: Option<&Path>) -> Result<Self, FetchError> {
        let (url, document) = fetch::document(url, ca, ACCEPTED).await?;
        let text = std::str::from_utf8(&document).map_err(|_| FetchError::Unreadable {
            url: url.clone(),
            expected: "SAML metadata in UTF-8",
        })?;
        Self::read(text).map_err(|error| FetchError::Metadata { url, error })
    }

    /// An assertion does not have to say which key signed it. Keys are asked for by name when none at hand has.
    fn names(&self, _key: &str) -> bool {
        false
    }
}

impl Metadata {
    pub(super) fn read(text: &str) -> Result<Self, MetadataError> {
        let tree = Tree::parse(text)?;
        let mut metadata = Self::default();
        metadata.add(tree.root()?, None)?;
        Ok(metadata)
    }

    /// The keys that `entity` signs with at `now`. Never none.
    pub(super) fn keys(&self, entity: &str, now: DateTime<Utc>) -> Result<&[Key], MetadataError> {
        let provider = self
            .providers
            .get(entity)
            .filter(|provider| !provider.keys.is_empty())
            .ok_or_else(|| MetadataError::NoProvider {
                entity: entity.to_owned(),
            })?;
        match provider.valid_until {
            Some(until) if until <= now => Err(MetadataError::Outdated(until)),
            _ => Ok(&provider.keys),
        }
    }

    fn add(&mut self, element: Element<'_, '_>, outer: Option<DateTime<Utc>>) -> Result<(), MetadataError> {
        let valid_until = earlier(element, outer)?;
        if element.is(METADATA, "EntitiesDescriptor") {
            return element
                .children()
                .filter(|child| child.is_in(METADATA) && child.name() != "Extensions")
                .try_for_each(|child| self.add(child, valid_until));
        }
        if !element.is(METADATA, "EntityDescriptor") {
            return Err(MetadataError::Form(format!(
                "{:?} describes no entity",
                super::super::claims::cut(element.name())
            )));
        }
        let entity = element
            .attribute("entityID")
            .filter(|id| !id.is_empty())
            .ok_or_else(|| MetadataError::Form("an entity has no entityID".to_owned()))?;
        let mut provider = Provider {
            keys: Vec::new(),
            valid_until,
        };
        for role in element.children_named(METADATA, "IDPSSODescriptor") {
            let protocols = role.attribute("protocolSupportEnumeration").unwrap_or_default();
            if protocols
                .split_ascii_whitespace()
                .any(|protocol| protocol == SAML_2)
            {
                provider.valid_until = earlier(role, provider.valid_until)?;
                provider.keys.extend(signing_keys(role)?);
            }
        }
        provider.keys.truncate(MOST_KEYS);
        match self.providers.entry(entity.to_owned()) {
            Entry::Occupied(_) => Err(MetadataError::Twice(super::super::claims::cut(entity))),
            Entry::Vacant(place) => {
                place.insert(provider);
                Ok(())
            }
        }
    }
}

fn signing_keys(role: Element<'_, '_>) -> Result<Vec<Key>, MetadataError> {
    let mut keys = Vec::new();
    for descriptor in role.children_named(METADATA, "KeyDescriptor") {
        if descriptor.attribute("use").is_some_and(|what| what != "signing") {
            continue;
        }
        let certificates = descriptor
            .children_named(DSIG, "KeyInfo")
            .flat_map(|info| info.children_named(DSIG, "X509Data"))
            .flat_map(|data| data.children_named(DSIG, "X509Certificate"));
        for certificate in certificates {
            let der = base64(&certificate.text()?);
            let key = der.ok().and_then(|der| Key::of_certificate(&der));
            keys.push(key.ok_or_else(|| MetadataError::Form("a certificate cannot be read".to_owned()))?);
        }
    }
    Ok(keys)
}

fn earlier(
    element: Element<'_, '_>,
    outer: Option<DateTime<Utc>>,
) -> Result<Option<DateTime<Utc>>, MetadataError> {
    let own = element
        .attribute("validUntil")
        .map(|text| {
            parse_time(text).ok_or_else(|| MetadataError::Form("its validUntil is no time".to_owned()))
        })
        .transpose()?;
    Ok(outer.into_iter().chain(own).min())
}

impl From<XmlError> for MetadataError {
    fn from(error: XmlError) -> Self {
        Self::Form(error.to_string())
    }
}

const METADATA: &str = "urn:oasis:names:tc:SAML:2.0:metadata";
const SAML_2: &str = "urn:oasis:names:tc:SAML:2.0:protocol";
const ACCEPTED: &str = "application/samlmetadata+xml, application/xml, text/xml";
/// Keys of one provider that are tried: each costs a verification for every wrong assertion.
const MOST_KEYS: usize = 16;
