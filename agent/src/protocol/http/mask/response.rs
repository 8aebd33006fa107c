//! The head of an answer: which body it announces, and what of it is no longer true of the masked one.

use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, LAST_MODIFIED,
};
use http::{StatusCode, response};

use super::coding::Coding;
use super::counts::Masked;
use super::media::{Kind, Media};
use super::request::joined;
use super::{Asked, BodyMask, HttpMasks, Unmaskable, choose, etag};

/// What becomes of an answer whose head has been masked.
#[derive(Debug)]
pub struct Masking {
    /// What its body has to go through; `None`: it has none, or it passes as it is.
    pub body: Option<BodyMask>,
    /// What was masked in the head.
    pub masked: Vec<Masked>,
}

/// Fields that vouch for the bytes that upstream sent.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];
/// The same of object stores: what begins so.
const STORE_DIGESTS: [&str; 2] = ["x-amz-checksum-", "x-goog-hash"];
/// 226: a difference to what the client has (RFC 3229).
const IM_USED: u16 = 226;
/// Most codings that a body has one over the other.
const MOST_CODINGS: usize = 3;

impl HttpMasks {
    /// Masks the head of an answer, the last one of its exchange, and chooses what its body has to go through.
    pub fn response(&self, asked: &Asked, parts: &mut response::Parts) -> Result<Masking, Unmaskable> {
        let masked = self.fields(&mut parts.headers).lines(&self.masks);
        let passes = |masked| Ok(Masking { body: None, masked });
        let tunnel =
            parts.status == StatusCode::SWITCHING_PROTOCOLS || (asked.connect && parts.status.is_success());
        if !self.reads_bodies() {
            return passes(masked);
        }
        if tunnel {
            return Err(Unmaskable::Tunnel);
        }
        if parts.status == StatusCode::NOT_MODIFIED {
            self.mark_not_modified(asked, &mut parts.headers);
            return passes(masked);
        }
        if matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT) {
            return passes(masked);
        }
        let media = Media::of(&parts.headers)?;
        let essence = media.as_ref().map_or("", |media| &media.essence);
        if self.masks.passes(essence) {
            return passes(masked);
        }
        if parts.status == StatusCode::PARTIAL_CONTENT || parts.status.as_u16() == IM_USED {
            return Err(Unmaskable::Part);
        }
        let nothing = parts
            .headers
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length.as_bytes() == b"0");
        if nothing && !asked.head {
            return passes(masked);
        }
        let codings = codings(&parts.headers)?;
        let kind = Kind::of(media.as_ref(), self.masks.names().has_bodies())?;
        let transform = choose::transform(&self.masks, kind);
        self.no_longer_true(&mut parts.headers);
        let body = (!asked.head).then(|| BodyMask::new(self.masks.clone(), transform, &codings));
        Ok(Masking { body, masked })
    }

    /// What was said of another body than the one that the client gets.
    fn no_longer_true(&self, fields: &mut HeaderMap) {
        let stores: Vec<HeaderName> = fields
            .keys()
            .filter(|name| STORE_DIGESTS.iter().any(|start| name.as_str().starts_with(start)))
            .cloned()
            .collect();
        for name in DIGESTS
            .iter()
            .chain(&stores)
            .chain([&CONTENT_LENGTH, &CONTENT_RANGE])
        {
            fields.remove(name);
        }
        if fields.contains_key(ACCEPT_RANGES) {
            fields.insert(ACCEPT_RANGES, HeaderValue::from_static("none"));
        }
        let tag = fields.get(ETAG).and_then(|tag| tag.to_str().ok());
        match tag.and_then(|tag| HeaderValue::from_str(&etag::marked(tag, &self.mark)?).ok()) {
            Some(tag) => {
                fields.insert(ETAG, tag);
            }
            None => {
                fields.remove(ETAG);
            }
        }
        // Says only when the body changed; other masks are another change, of which upstream knows nothing.
        if !fields.contains_key(ETAG) {
            fields.remove(LAST_MODIFIED);
        }
    }

    /// 304 names the body that the client has: with its mark, where it has sent one.
    fn mark_not_modified(&self, asked: &Asked, fields: &mut HeaderMap) {
        let Some(tag) = fields.get(ETAG).and_then(|tag| tag.to_str().ok()) else {
            return;
        };
        let strong = |tag: &str| tag.trim_start_matches("W/").to_owned();
        if asked.tags.iter().any(|ours| strong(ours) == strong(tag))
            && let Some(marked) = etag::marked(tag, &self.mark)
            && let Ok(marked) = HeaderValue::from_str(&marked)
        {
            fields.insert(ETAG, marked);
        }
    }
}

/// The codings of a body, in the order in which they were applied.
fn codings(fields: &HeaderMap) -> Result<Vec<Coding>, Unmaskable> {
    if !fields.contains_key(CONTENT_ENCODING) {
        return Ok(Vec::new());
    }
    let unknown = |name: &str| Unmaskable::Coding(name.chars().take(40).collect());
    let list = joined(fields, &CONTENT_ENCODING).ok_or_else(|| unknown("?"))?;
    let names = list
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let codings = names
        .map(|name| Coding::named(name).ok_or_else(|| unknown(name)))
        .collect::<Result<Vec<_>, _>>()?;
    if codings.len() > MOST_CODINGS {
        return Err(unknown(&list));
    }
    Ok(codings)
}

/// The only value of a field that may be there once.
pub(super) fn single<'f>(
    fields: &'f HeaderMap,
    name: &HeaderName,
    shown: &'static str,
) -> Result<Option<&'f HeaderValue>, Unmaskable> {
    let mut values = fields.get_all(name).iter();
    let first = values.next();
    match values.next() {
        Some(_) => Err(Unmaskable::Twice(shown)),
        None => Ok(first),
    }
}

/// `Content-Type`, where there is one.
pub(super) fn content_type(fields: &HeaderMap) -> Result<Option<&HeaderValue>, Unmaskable> {
    single(fields, &CONTENT_TYPE, "Content-Type")
}
