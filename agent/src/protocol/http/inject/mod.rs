//! Credentials in requests: what the workload sent in their place goes, what the agent has comes.
//!
//! Three steps, none of which does I/O: [`Injection::strip`] takes out of a head what the workload sent and says which of it
//! were real secrets, before anybody else sees the head; [`Injection::inject`] puts the credential in after the verdict, and
//! after the head was recorded; [`Echo`] takes it out of what the target answers. What has to be done to the body of a request
//! [`BodyWork`] does, piece by piece.
//!
//! Known limits: the libraries that send a request keep copies of its head, and do not wipe them. A target can give a credential
//! back in a form that [`Echo`] does not know (reversed, hashed, a character in each line). A secret in another header than those
//! that are taken out is passed on and is a finding, where its name or looks give it away.

mod body;
mod cookie;
mod echo;
mod error;
mod place;
mod query;
mod seen;
mod sigv4;
mod strip;

#[cfg(test)]
mod tests;

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::request::Parts;
use zeroize::Zeroizing;

use crate::config::{HttpCredential, Inject};
use crate::finding::Sighting;
use crate::model::{Material, Secret};

pub use body::BodyWork;
pub use echo::{Echo, Kept};
pub use error::InjectError;
pub use sigv4::MOST_HASHED;

use place::Sent;

/// A secret that is shorter would be taken out of answers everywhere.
const LEAST_SECRET: usize = 4;

/// How the requests of one service get its credential.
#[derive(Clone, Debug, Default)]
pub struct Injection {
    spec: Option<HttpCredential>,
    /// Cookies that look like logins are findings, whatever their names.
    cookies: bool,
}

/// What was taken out of a head.
#[derive(Debug, Default)]
pub struct Stripped {
    /// Real secrets that the workload sent.
    pub found: Vec<Sighting>,
    /// What the way in which the credential goes in depends on.
    sent: Sent,
}

/// How a request goes on to the target.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// Whether the connection to the target is encrypted.
    pub encrypted: bool,
    /// Host, with its port where it is not the usual one, where the head names none.
    pub authority: &'a str,
    /// The time at which it goes.
    pub now: SystemTime,
}

/// The body of a request, as far as it was read.
#[derive(Clone, Copy, Debug)]
pub enum Read<'a> {
    /// There is none, or this is all of it.
    Whole(&'a [u8]),
    /// It was not read.
    Not,
}

impl Injection {
    /// `spec`: of the service; `None`: it has no credential. `cookies`: whether cookies that look like logins are findings.
    pub fn new(spec: Option<HttpCredential>, cookies: bool) -> Self {
        Self { spec, cookies }
    }

    /// Whether requests get something.
    pub fn is_some(&self) -> bool {
        self.spec.is_some()
    }

    /// What looks for `material` in answers; `None`: there is nothing to look for.
    pub fn echo(&self, material: &Material) -> Option<Echo> {
        let echo = Echo::new(self.spec.as_ref()?, material);
        (!echo.is_empty()).then_some(echo)
    }

    /// Whether the credential goes into the TLS handshake with the target.
    pub fn is_tls(&self) -> bool {
        matches!(&self.spec, Some(spec) if spec.inject == Inject::Tls)
    }

    /// Takes out of `parts` what the workload sent in the place of the credential, in every spelling. Without a credential
    /// nothing is taken out.
    pub fn strip(&self, parts: &mut Parts) -> Stripped {
        strip::strip(parts, self.spec.as_ref(), self.cookies)
    }

    /// The same of fields behind a body.
    pub fn strip_trailers(&self, trailers: &mut http::HeaderMap) -> Vec<Sighting> {
        strip::trailers(trailers, self.spec.as_ref())
    }

    /// Whether the whole body, up to [`MOST_HASHED`] bytes, has to be known before the credential can go in.
    pub fn wants_body(&self, parts: &Parts, stripped: &Stripped, way: Way<'_>) -> bool {
        let Some(HttpCredential {
            inject: Inject::SigV4 { service, region },
            ..
        }) = &self.spec
        else {
            return false;
        };
        sigv4::wants_body(
            parts,
            &stripped.sent,
            (service.as_deref(), region.as_deref()),
            way,
        )
    }

    /// Puts `material` into `parts`, which [`Self::strip`] was asked about. What it gives has to be done to the body.
    pub fn inject(
        &self,
        parts: &mut Parts,
        stripped: &Stripped,
        material: &Material,
        body: Read<'_>,
        way: Way<'_>,
    ) -> Result<BodyWork, InjectError> {
        let Some(spec) = &self.spec else {
            return Ok(BodyWork::None);
        };
        match (&spec.inject, material) {
            (Inject::Header { name, scheme }, Material::Token(token)) => {
                header(parts, (name, scheme.as_deref()), stripped, usable(token)?)?;
            }
            (Inject::Query { name }, Material::Token(token)) => query::append(parts, name, usable(token)?)?,
            (Inject::Cookie { name }, Material::Token(token)) => cookie::append(parts, name, usable(token)?)?,
            (Inject::Basic { user: Some(user) }, Material::Token(token)) => {
                basic(parts, user.as_bytes(), usable(token)?)?;
            }
            (Inject::Basic { user: None }, Material::Login { user, password }) => {
                // Exposed to be sent to the target, and nowhere else.
                basic(parts, user.expose(), usable(password)?)?;
            }
            (Inject::SigV4 { service, region }, _) => {
                let asked = (service.as_deref(), region.as_deref());
                return sigv4::sign(parts, &stripped.sent, material, asked, body, way);
            }
            (Inject::Tls, Material::Key { .. }) => return Ok(BodyWork::None),
            (Inject::Placeholder, Material::Token(_) | Material::Login { .. }) => {}
            (inject, material) => {
                return Err(InjectError::NoFit {
                    given: material.what(),
                    inject: inject.name(),
                });
            }
        }
        body::replacing(parts, spec, material)
    }
}

/// The secret, where it can be told from what is there by chance.
fn usable(secret: &Secret) -> Result<&[u8], InjectError> {
    // Exposed to be sent to the target, and nowhere else.
    let bytes = secret.expose();
    if bytes.len() < LEAST_SECRET {
        return Err(InjectError::TooShort { least: LEAST_SECRET });
    }
    Ok(bytes)
}

fn header(
    parts: &mut Parts,
    (name, scheme): (&str, Option<&str>),
    stripped: &Stripped,
    secret: &[u8],
) -> Result<(), InjectError> {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + 64));
    match (scheme, &stripped.sent.around) {
        (Some(scheme), _) => {
            text.extend_from_slice(scheme.as_bytes());
            text.push(b' ');
            text.extend_from_slice(secret);
        }
        (None, Some((before, after))) => {
            text.extend_from_slice(before);
            text.extend_from_slice(secret);
            text.extend_from_slice(after);
        }
        (None, None) => text.extend_from_slice(secret),
    }
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| InjectError::NoHeader)?;
    parts.headers.insert(name, value(&text)?);
    Ok(())
}

fn basic(parts: &mut Parts, user: &[u8], password: &[u8]) -> Result<(), InjectError> {
    if user.contains(&b':') || user.iter().chain(password).any(u8::is_ascii_control) {
        return Err(InjectError::NoLogin);
    }
    let login = Zeroizing::new([user, b":", password].concat());
    let mut text = Zeroizing::new(String::with_capacity(login.len() * 2 + 8));
    text.push_str("Basic ");
    STANDARD.encode_string(&*login, &mut text);
    parts.headers.insert(AUTHORIZATION, value(text.as_bytes())?);
    Ok(())
}

/// A header's value that no `Debug` shows, and that HPACK keeps in no table.
fn value(text: &[u8]) -> Result<HeaderValue, InjectError> {
    let mut value = HeaderValue::from_bytes(text).map_err(|_| InjectError::NoHeader)?;
    value.set_sensitive(true);
    Ok(value)
}
