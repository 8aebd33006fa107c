//! What a workload sent in the place of a credential is taken out of a head.

use http::header::{AUTHORIZATION, HOST, HeaderName, PROXY_AUTHORIZATION};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};

use crate::config::{HttpCredential, Inject};
use crate::finding::{SeenAt, Sighting};
use crate::protocol::http::facts::names_a_secret;

use super::place::Sent;
use super::{Stripped, cookie, query, seen, sigv4};

/// Headers that hold a secret by their names, besides those whose names say so (`x-api-key`, `x-auth-token`).
const SECRET_HEADERS: &[&str] = &["x-jfrog-art-api", "ocp-apim-subscription-key", "x-functions-key"];

/// Words in the names of cookies that hold a login.
const LOGIN_COOKIES: &[&str] = &[
    "session", "sess", "sid", "auth", "token", "jwt", "login", "remember",
];

/// Takes out of `parts` what is in the credential's place. Without `spec` nothing goes, and what is found is said all the same.
pub(super) fn strip(parts: &mut Parts, spec: Option<&HttpCredential>, cookies: bool) -> Stripped {
    let mut stripper = Stripper::new(spec);
    stripper.userinfo(parts);
    if matches!(
        spec,
        Some(HttpCredential {
            inject: Inject::SigV4 { .. },
            ..
        })
    ) {
        stripper.sent.signed = sigv4::taken(parts);
    }
    stripper.headers(&mut parts.headers);
    stripper.query(parts);
    stripper.cookies(parts, cookies);
    Stripped {
        found: stripper.found,
        sent: stripper.sent,
    }
}

/// The same of the fields behind a body.
pub(super) fn trailers(trailers: &mut HeaderMap, spec: Option<&HttpCredential>) -> Vec<Sighting> {
    let mut stripper = Stripper::new(spec);
    stripper.headers(trailers);
    stripper.found
}

struct Stripper<'a> {
    spec: Option<&'a HttpCredential>,
    placeholder: Option<&'a [u8]>,
    found: Vec<Sighting>,
    sent: Sent,
}

impl<'a> Stripper<'a> {
    fn new(spec: Option<&'a HttpCredential>) -> Self {
        let placeholder = spec.and_then(|spec| spec.placeholder.as_ref());
        Self {
            spec,
            placeholder: placeholder.map(|placeholder| placeholder.text.as_bytes()),
            found: Vec::new(),
            sent: Sent::default(),
        }
    }
}

impl Stripper<'_> {
    fn note(&mut self, at: SeenAt, secret: Option<seen::Real>) {
        if let Some(real) = secret {
            self.found.push(real.at(at));
        }
    }

    /// `https://user:password@host/`: nothing of it goes on, credential or not, since servers must not be sent it (RFC 9110
    /// §4.2.4).
    fn userinfo(&mut self, parts: &mut Parts) {
        let split = |text: &str| {
            text.rsplit_once('@')
                .map(|(login, host)| (login.to_owned(), host.to_owned()))
        };
        let named = parts.uri.authority().map(http::uri::Authority::as_str);
        if let Some((login, host)) = named.and_then(split) {
            let mut uri = std::mem::take(&mut parts.uri).into_parts();
            uri.authority = host.parse().ok();
            parts.uri = Uri::from_parts(uri).unwrap_or_default();
            self.note(
                SeenAt::Url,
                seen::login(&query::decoded(&login), self.placeholder),
            );
        }
        let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        if let Some((login, host)) = named.and_then(split)
            && let Ok(host) = HeaderValue::from_str(&host)
        {
            parts.headers.insert(HOST, host);
            self.note(
                SeenAt::Url,
                seen::login(&query::decoded(&login), self.placeholder),
            );
        }
    }

    fn headers(&mut self, headers: &mut HeaderMap) {
        let mut gone: Vec<HeaderName> = Vec::new();
        for name in headers.keys() {
            let goes = self.goes(name);
            if !goes && !is_secret(name) {
                continue;
            }
            for value in headers.get_all(name) {
                let value = value.as_bytes();
                let real = if is_authorization(name) {
                    seen::authorization(value, self.placeholder)
                } else if name.as_str().starts_with("x-amz-") {
                    // It belongs to an access key, and that is the finding.
                    None
                } else {
                    seen::value(value, self.placeholder)
                };
                if let Some(real) = real {
                    self.found.push(real.at(SeenAt::Header {
                        name: name.as_str().to_owned(),
                    }));
                }
                if self.is_place(name) && self.sent.around.is_none() {
                    self.sent.around = around(value, self.placeholder);
                }
            }
            if goes {
                gone.push(name.clone());
            }
        }
        for name in gone {
            headers.remove(name);
        }
    }

    /// Whether the credential goes into this header. Some servers take `_` for `-` (CGI, WSGI).
    fn is_place(&self, name: &HeaderName) -> bool {
        match self.spec.map(|spec| &spec.inject) {
            Some(Inject::Header { name: place, .. }) => same(name.as_str(), place),
            Some(Inject::SigV4 { .. }) => sigv4::HEADERS.iter().any(|place| same(name.as_str(), place)),
            _ => false,
        }
    }

    fn goes(&self, name: &HeaderName) -> bool {
        self.spec.is_some() && (is_authorization(name) || self.is_place(name))
    }

    fn query(&mut self, parts: &mut Parts) {
        let place = match self.spec.map(|spec| &spec.inject) {
            Some(Inject::Query { name }) => {
                Some(query::folded(&name.replace('%', "%25").replace('+', "%2B")))
            }
            _ => None,
        };
        let signed = matches!(self.spec.map(|spec| &spec.inject), Some(Inject::SigV4 { .. }));
        query::retain(parts, |parameter| {
            let is_place = place.as_ref() == Some(&parameter.name);
            let at = SeenAt::Query {
                name: parameter.name.clone(),
            };
            if sigv4::is_parameter(&parameter.name) {
                // Of what belongs to a signature, the id of the access key is the same each time.
                if parameter.name == "x-amz-credential" {
                    self.note(at, seen::scope(&parameter.value(), self.placeholder));
                }
                return !signed;
            }
            if is_place || is_secret_parameter(&parameter.name) {
                self.note(at, seen::value(&parameter.value(), self.placeholder));
            }
            !is_place
        });
    }

    fn cookies(&mut self, parts: &mut Parts, all: bool) {
        let place = match self.spec.map(|spec| &spec.inject) {
            Some(Inject::Cookie { name }) => Some(name.as_bytes()),
            _ => None,
        };
        cookie::retain(parts, |name, value| {
            let is_place = place.is_some_and(|place| place.eq_ignore_ascii_case(name));
            let name = String::from_utf8_lossy(name).to_ascii_lowercase();
            if is_place || (all && LOGIN_COOKIES.iter().any(|word| name.contains(word))) {
                self.note(SeenAt::Cookie { name }, seen::value(value, self.placeholder));
            }
            !is_place
        });
    }
}

fn is_authorization(name: &HeaderName) -> bool {
    [AUTHORIZATION, PROXY_AUTHORIZATION]
        .iter()
        .any(|place| same(name.as_str(), place.as_str()))
}

/// Whether a parameter's name says that it holds a secret; not what is good for one request alone.
fn is_secret_parameter(name: &str) -> bool {
    names_a_secret(name) && !name.ends_with("signature") && !matches!(name, "sig" | "code")
}

/// Whether a header's name says that it holds a secret. What is made anew for each page or connection is none.
fn is_secret(name: &HeaderName) -> bool {
    let name = name.as_str();
    same(name, AUTHORIZATION.as_str())
        || same(name, PROXY_AUTHORIZATION.as_str())
        || SECRET_HEADERS.contains(&name)
        || (names_a_secret(name)
            && !name.contains("csrf")
            && !name.contains("xsrf")
            && !name.starts_with("sec-")
            && !name.ends_with("signature"))
}

fn same(name: &str, place: &str) -> bool {
    name.len() == place.len()
        && name.bytes().zip(place.bytes()).all(|(mine, other)| {
            let fold = |byte: u8| if byte == b'_' { b'-' } else { byte };
            fold(mine) == fold(other)
        })
}

/// What stands before and behind the placeholder, where there is something.
fn around(value: &[u8], placeholder: Option<&[u8]>) -> Option<(Vec<u8>, Vec<u8>)> {
    let placeholder = placeholder?;
    let at = memchr::memmem::find(value, placeholder)?;
    let before = value.get(..at)?;
    let after = value.get(at + placeholder.len()..)?;
    // A second one would go on as it is.
    memchr::memmem::find(after, placeholder)
        .is_none()
        .then(|| (before.to_vec(), after.to_vec()))
}
