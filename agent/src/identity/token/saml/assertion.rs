//! What an assertion says (SAML 2.0 core §2), read from the octets that were signed.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::super::claims::cut;
use super::envelope::ASSERTION;
use super::error::SamlError;
use super::xml::Element;

/// An assertion, decoded; nothing of it was checked against a policy.
#[derive(Debug)]
pub(super) struct Assertion {
    pub(super) id: String,
    /// Entity id of who made it.
    pub(super) issuer: String,
    pub(super) issued_at: DateTime<Utc>,
    /// `NameID` of the subject.
    pub(super) subject: String,
    /// Ways to show that one may present it.
    pub(super) confirmations: Vec<Confirmation>,
    pub(super) conditions: Conditions,
    /// The earliest end of the sessions that its authentications began.
    pub(super) session_end: Option<DateTime<Utc>>,
    /// Values of each attribute, by its name.
    pub(super) attributes: Map<String, Value>,
}

/// `SubjectConfirmation`.
#[derive(Debug)]
pub(super) struct Confirmation {
    pub(super) method: String,
    pub(super) not_before: Option<DateTime<Utc>>,
    pub(super) not_on_or_after: Option<DateTime<Utc>>,
    pub(super) recipient: Option<String>,
}

/// `Conditions`.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) not_before: Option<DateTime<Utc>>,
    pub(super) not_on_or_after: Option<DateTime<Utc>>,
    /// The audiences of each restriction.
    pub(super) audiences: Vec<Vec<String>>,
    pub(super) one_time_use: bool,
}

impl Assertion {
    pub(super) fn read(assertion: Element<'_, '_>) -> Result<Self, SamlError> {
        if assertion.attribute("Version") != Some("2.0") {
            return Err(form("it is not of version 2.0"));
        }
        let issuer = assertion.the(ASSERTION, "Issuer")?;
        if issuer.attribute("Format").is_some_and(|format| format != ENTITY) {
            return Err(form("its issuer is not named by an entity id"));
        }
        let subject = assertion.the(ASSERTION, "Subject")?;
        let name = subject.the(ASSERTION, "NameID")?.text()?;
        if name.is_empty() {
            return Err(form("its subject has no name"));
        }
        let conditions = assertion
            .child(ASSERTION, "Conditions")?
            .map(Conditions::read)
            .transpose()?;
        let mut session_end = None;
        for statement in assertion.children_named(ASSERTION, "AuthnStatement") {
            let end = time(statement, "SessionNotOnOrAfter")?;
            session_end = session_end.into_iter().chain(end).min();
        }
        Ok(Self {
            id: assertion
                .attribute("ID")
                .filter(|id| !id.is_empty())
                .ok_or_else(|| form("it has no ID"))?
                .to_owned(),
            issuer: issuer.text()?,
            issued_at: time(assertion, "IssueInstant")?
                .ok_or_else(|| form("it does not say when it was issued"))?,
            subject: name,
            confirmations: subject
                .children_named(ASSERTION, "SubjectConfirmation")
                .map(Confirmation::read)
                .collect::<Result<_, _>>()?,
            conditions: conditions.unwrap_or_default(),
            session_end,
            attributes: attributes(assertion)?,
        })
    }
}

impl Confirmation {
    fn read(confirmation: Element<'_, '_>) -> Result<Self, SamlError> {
        let data = confirmation.child(ASSERTION, "SubjectConfirmationData")?;
        let at = |name| data.map_or(Ok(None), |data| time(data, name));
        Ok(Self {
            method: confirmation.attribute("Method").unwrap_or_default().to_owned(),
            not_before: at("NotBefore")?,
            not_on_or_after: at("NotOnOrAfter")?,
            recipient: data
                .and_then(|data| data.attribute("Recipient"))
                .map(str::to_owned),
        })
    }
}

impl Conditions {
    fn read(conditions: Element<'_, '_>) -> Result<Self, SamlError> {
        let mut read = Self {
            not_before: time(conditions, "NotBefore")?,
            not_on_or_after: time(conditions, "NotOnOrAfter")?,
            ..Self::default()
        };
        for condition in conditions.children() {
            match condition.name() {
                _ if !condition.is_in(ASSERTION) => return Err(not_understood(condition)),
                "AudienceRestriction" => read.audiences.push(
                    condition
                        .children_named(ASSERTION, "Audience")
                        .map(Element::text)
                        .collect::<Result<_, _>>()?,
                ),
                "OneTimeUse" => read.one_time_use = true,
                // Who may issue assertions on the strength of this one: the agent issues none.
                "ProxyRestriction" => {}
                _ => return Err(not_understood(condition)),
            }
        }
        Ok(read)
    }
}

/// Core §2.5.1: what is not understood leaves the assertion's validity undecided.
fn not_understood(condition: Element<'_, '_>) -> SamlError {
    SamlError::Condition {
        condition: cut(condition.name()),
    }
}

/// By `Name`, for a `FriendlyName` can be that of two. Values that are elements themselves are left out.
fn attributes(assertion: Element<'_, '_>) -> Result<Map<String, Value>, SamlError> {
    let mut all = Map::new();
    let attributes = assertion
        .children_named(ASSERTION, "AttributeStatement")
        .flat_map(|statement| statement.children_named(ASSERTION, "Attribute"));
    for attribute in attributes {
        let name = attribute
            .attribute("Name")
            .ok_or_else(|| form("an attribute has no name"))?;
        let values = all.entry(name).or_insert_with(|| Value::Array(Vec::new()));
        for value in attribute.children_named(ASSERTION, "AttributeValue") {
            if let (Value::Array(values), Ok(text)) = (&mut *values, value.text()) {
                values.push(Value::String(text));
            }
        }
    }
    Ok(all)
}

/// xs:dateTime in UTC (core §1.3.3). An error where it is there and wrong: a limit that cannot be read is none.
fn time(element: Element<'_, '_>, attribute: &str) -> Result<Option<DateTime<Utc>>, SamlError> {
    element
        .attribute(attribute)
        .map(|text| parse_time(text).ok_or_else(|| form(&format!("its {attribute} is no time in UTC"))))
        .transpose()
}

/// xs:dateTime with a time zone.
pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|time| time.with_timezone(&Utc))
}

fn form(reason: &str) -> SamlError {
    SamlError::Form {
        reason: reason.to_owned(),
    }
}

const ENTITY: &str = "urn:oasis:names:tc:SAML:2.0:nameid-format:entity";
