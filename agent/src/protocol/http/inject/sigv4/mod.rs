//! Signatures of AWS: what a client signed with worthless keys is signed again.
//!
//! Signed are the host, `content-type`, `content-md5`, every `x-amz-…`, and what the client signed: no more, since whatever is
//! between here and the target may change the rest. A body that the client has hashed keeps its hash, so that the target
//! sees that nobody changed it; one that was signed chunk by chunk is signed so again; otherwise it is hashed here, and with
//! S3 over TLS left unsigned (`UNSIGNED-PAYLOAD`), as AWS' own tools do.
//!
//! Known limits: a presigned URL is signed in headers when it passes here; what the client made of it works nowhere else.
//! Signatures over elliptic curves (`SigV4A`) are made for one region, which has to be known. A signature of version 2 is taken out,
//! and the request is signed with version 4.

mod chunks;
mod host;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign as sign_request,
};
use aws_sigv4::sign::v4::SigningParams;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, HeaderValue};
use http::request::Parts;

use crate::model::{AwsKeys, Material, Secret};

use super::place::{Sent, Signed};
use super::{BodyWork, InjectError, Read, Way, query};

pub(super) use chunks::ChunkSigner;

/// Longest body that is hashed before it is sent, in bytes.
pub const MOST_HASHED: u64 = 8 << 20;

/// Headers that a signature brings with it, besides `Authorization`.
pub(super) const HEADERS: &[&str] = &["x-amz-date", "x-amz-security-token", "x-amz-region-set"];

/// Parameters that a presigned URL has for its signature.
const PARAMETERS: &[&str] = &[
    "x-amz-algorithm",
    "x-amz-credential",
    "x-amz-date",
    "x-amz-expires",
    "x-amz-region-set",
    "x-amz-security-token",
    "x-amz-signature",
    "x-amz-signedheaders",
];

const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const CHUNKS: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const CHUNKS_AND_TRAILER: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER";
const UNSIGNED_AND_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// Headers that are never signed: they belong to a connection, or to whoever passes the request on.
const UNSIGNABLE: &[&str] = &[
    // Narrowed after signing to what the agent can look into.
    "accept-encoding",
    "authorization",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// Whether a parameter, by its folded name, belongs to a presigned URL's signature.
pub(super) fn is_parameter(name: &str) -> bool {
    PARAMETERS.contains(&name)
}

/// Id of the access key in what stands behind `AWS4-HMAC-SHA256`, or in an `X-Amz-Credential`.
pub(super) fn access_key(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let scope = text.split_once("Credential=").map_or(text, |(_, rest)| rest);
    let (id, _) = scope.split_once('/')?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// What the client signed, if it did.
pub(super) fn taken(parts: &Parts) -> Option<Signed> {
    let header = parts
        .headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if let Some(header) = header.filter(|header| header.starts_with("AWS4-")) {
        let field = |name: &str| {
            let (_, rest) = header.split_once(name)?;
            Some(rest.split([',', ' ']).next().unwrap_or_default())
        };
        return Some(signed(field("Credential="), field("SignedHeaders="), false));
    }
    let query = parts.uri.query()?;
    let mut credential = None;
    let mut headers = None;
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = || String::from_utf8(query::decoded(value)).ok();
        match query::folded(name).as_str() {
            "x-amz-credential" => credential = value(),
            "x-amz-signedheaders" => headers = value(),
            _ => {}
        }
    }
    credential.as_ref()?;
    Some(signed(credential.as_deref(), headers.as_deref(), true))
}

fn signed(credential: Option<&str>, headers: Option<&str>, presigned: bool) -> Signed {
    // ID/DATE/REGION/SERVICE/aws4_request
    let scope: Vec<&str> = credential.unwrap_or_default().split('/').collect();
    let named = |at: usize| {
        let word = scope.get(at).copied().unwrap_or_default();
        let fits = (1..=64).contains(&word.len())
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        fits.then(|| word.to_owned())
    };
    let whole = scope.len() == 5;
    Signed {
        region: named(2).filter(|_| whole),
        service: named(3).filter(|_| whole),
        headers: headers
            .unwrap_or_default()
            .split(';')
            .map(str::to_ascii_lowercase)
            .filter(|name| !name.is_empty() && !UNSIGNABLE.contains(&name.as_str()))
            .collect(),
        presigned,
    }
}

/// Service and region, each as far as it is known.
fn scope(
    authority: &str,
    sent: &Sent,
    (service, region): (Option<&str>, Option<&str>),
) -> (Option<String>, Option<String>) {
    let host = host::read(authority);
    let signed = sent.signed.clone().unwrap_or_default();
    let service = service.map(str::to_owned).or(host.service).or(signed.service);
    let region = region.map(str::to_owned).or(host.region).or(signed.region);
    (service, region)
}

/// Host and port that are asked.
fn authority<'a>(parts: &'a Parts, way: Way<'a>) -> &'a str {
    let named = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    parts
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or(named)
        .unwrap_or(way.authority)
}

/// Whether the body has to be hashed here.
pub(super) fn wants_body(
    parts: &Parts,
    sent: &Sent,
    asked: (Option<&str>, Option<&str>),
    way: Way<'_>,
) -> bool {
    let (service, _) = scope(authority(parts, way), sent, asked);
    let unsigned = is_s3(service.as_deref()) && way.encrypted;
    !parts.headers.contains_key(CONTENT_HASH) && !unsigned
}

/// Services that take an unsigned body over TLS, and paths as they are.
fn is_s3(service: Option<&str>) -> bool {
    matches!(
        service,
        Some("s3" | "s3-outposts" | "s3-object-lambda" | "s3express")
    )
}

/// Signs `parts`.
pub(super) fn sign(
    parts: &mut Parts,
    sent: &Sent,
    material: &Material,
    asked: (Option<&str>, Option<&str>),
    body: Read<'_>,
    way: Way<'_>,
) -> Result<BodyWork, InjectError> {
    let unsignable = |why| InjectError::Unsignable { why };
    let keys = keys(material)?;
    let authority = authority(parts, way).to_owned();
    let (service, region) = scope(&authority, sent, asked);
    let service = service.ok_or(unsignable(
        "the service is not known: neither the host nor the client names it, so inject = { sigv4 = \"SERVICE\" } has to",
    ))?;
    let region = region
        .or_else(|| Some(keys.region.clone()).filter(|region| !region.is_empty()))
        .ok_or(unsignable(
            "the region is not known: neither the host nor the client names it, so \"region\" in inject has to",
        ))?;
    let s3 = is_s3(Some(&service));
    let said = match parts.headers.remove(CONTENT_HASH) {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_| unsignable("x-amz-content-sha256 is no text"))?
                .to_owned(),
        ),
        None => None,
    };
    let (payload, chunked) = payload(said.as_deref(), s3, body, way)?;
    let mut settings = SigningSettings::default();
    settings.excluded_headers = None;
    if s3 {
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    }
    if s3 || said.is_some() {
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    }
    let identity = credentials(&keys)?.into();
    let params = SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name(&service)
        .time(way.now)
        .settings(settings)
        .build()
        .map_err(|_| unsignable("the library takes no such parameters"))?
        .into();
    let headers = to_sign(parts, sent, &authority)?;
    let url = url(parts, &authority, s3, way.encrypted);
    let signable = SignableRequest::new(
        parts.method.as_str(),
        Cow::Borrowed(url.as_str()),
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
        payload,
    )
    .map_err(|_| unsignable("its address cannot be read"))?;
    let (instructions, seed) = sign_request(signable, &params)
        .map_err(|_| unsignable("its address or its headers cannot be read"))?
        .into_parts();
    let (signed, _query) = instructions.into_parts();
    let mut date = String::new();
    for header in signed {
        if header.name() == "x-amz-date" {
            header.value().clone_into(&mut date);
        }
        let mut value = HeaderValue::from_str(header.value()).map_err(|_| InjectError::NoHeader)?;
        value.set_sensitive(true);
        parts.headers.insert(header.name(), value);
    }
    Ok(match chunked {
        Some(trailer) => BodyWork::Sign(Box::new(ChunkSigner::new(
            &keys,
            (&service, &region),
            (way.now, date),
            (seed, trailer),
        )?)),
        None => BodyWork::None,
    })
}

/// What is signed of the body; and, where it is signed in chunks, whether a trailer is too.
fn payload<'a>(
    said: Option<&str>,
    s3: bool,
    body: Read<'a>,
    way: Way<'_>,
) -> Result<(SignableBody<'a>, Option<bool>), InjectError> {
    let clear = InjectError::Unsignable {
        why: "its body would travel unsigned and unencrypted",
    };
    Ok(match said {
        Some(hash) if hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()) => {
            (SignableBody::Precomputed(hash.to_ascii_lowercase()), None)
        }
        Some(CHUNKS) => (SignableBody::Precomputed(CHUNKS.to_owned()), Some(false)),
        Some(CHUNKS_AND_TRAILER) => (
            SignableBody::Precomputed(CHUNKS_AND_TRAILER.to_owned()),
            Some(true),
        ),
        Some(UNSIGNED | UNSIGNED_AND_TRAILER) if !way.encrypted => return Err(clear),
        Some(UNSIGNED) => (SignableBody::UnsignedPayload, None),
        Some(UNSIGNED_AND_TRAILER) => (SignableBody::StreamingUnsignedPayloadTrailer, None),
        Some(_) => {
            return Err(InjectError::Unsignable {
                why: "x-amz-content-sha256 asks for a signature of another kind",
            });
        }
        None => match body {
            Read::Whole(bytes) => (SignableBody::Bytes(bytes), None),
            Read::Not if s3 && way.encrypted => (SignableBody::UnsignedPayload, None),
            Read::Not => {
                return Err(InjectError::Unsignable {
                    why: "its body is longer than 8 MiB, and the client has not hashed it",
                });
            }
        },
    })
}

fn keys(material: &Material) -> Result<AwsKeys, InjectError> {
    match material {
        Material::Aws(keys) => Ok(keys.clone()),
        Material::Login { user, password } => Ok(AwsKeys {
            id: user.clone(),
            secret: password.clone(),
            token: None,
            region: String::new(),
        }),
        Material::Token(_) | Material::Key { .. } => Err(InjectError::NoFit {
            given: material.what(),
            inject: "sigv4",
        }),
    }
}

/// Exposed to sign with them. The library keeps them wiped.
fn text(secret: &Secret) -> Result<String, InjectError> {
    std::str::from_utf8(secret.expose())
        .map(str::to_owned)
        .map_err(|_| InjectError::NoKeys)
}

fn credentials(keys: &AwsKeys) -> Result<Credentials, InjectError> {
    let token = keys.token.as_ref().map(text).transpose()?;
    Ok(Credentials::new(
        text(&keys.id)?,
        text(&keys.secret)?,
        token,
        None,
        "tollgate",
    ))
}

/// The headers that are signed, the host first.
fn to_sign(parts: &Parts, sent: &Sent, authority: &str) -> Result<Vec<(String, String)>, InjectError> {
    let mut headers = vec![("host".to_owned(), authority.to_owned())];
    for name in parts.headers.keys() {
        let text = name.as_str();
        let chosen = name == CONTENT_TYPE
            || text == "content-md5"
            || text.starts_with("x-amz-")
            || sent
                .signed
                .as_ref()
                .is_some_and(|signed| signed.headers.iter().any(|signed| signed == text));
        if !chosen || name == HOST || UNSIGNABLE.contains(&text) {
            continue;
        }
        for value in parts.headers.get_all(name) {
            let value = value.to_str().map_err(|_| InjectError::Unsignable {
                why: "a header that has to be signed is no text",
            })?;
            headers.push((text.to_owned(), value.to_owned()));
        }
    }
    Ok(headers)
}

/// The address that is signed. S3 decodes a path before it checks a signature, and encodes it anew in one way alone.
fn url(parts: &Parts, authority: &str, s3: bool, encrypted: bool) -> String {
    let scheme = if encrypted { "https" } else { "http" };
    let path = parts.uri.path();
    let mut url = format!("{scheme}://{authority}");
    if s3 {
        for (at, part) in path.split('/').enumerate() {
            if at > 0 {
                url.push('/');
            }
            // `+` is a character of a path like any other.
            query::encode(&mut url, &query::decoded(&part.replace('+', "%2B")));
        }
    } else {
        url.push_str(path);
    }
    if let Some(query) = parts.uri.query() {
        url.push('?');
        url.push_str(query);
    }
    url
}

/// The time, as signatures have it.
fn now_of(time: SystemTime) -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::from(time)
}
