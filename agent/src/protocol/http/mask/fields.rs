//! Header and trailer fields.

use http::header::{HeaderMap, HeaderName, HeaderValue, SET_COOKIE};

use crate::mask::MaskId;
use crate::model::{ValueFormat, ValueType};

use super::HttpMasks;
use super::counts::{Counts, Masked};

/// Fields that say how the message is to be read or when it was made: no detector rewrites them.
const NOT_SCANNED: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "date",
    "etag",
    "expires",
    "keep-alive",
    "last-modified",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HttpMasks {
    /// Masks the trailers of an answer.
    pub fn trailers(&self, fields: &mut HeaderMap) -> Vec<Masked> {
        self.fields(fields).lines(&self.masks)
    }

    /// Masks the fields of a head before the last one (100, 103).
    pub fn informational(&self, fields: &mut HeaderMap) -> Vec<Masked> {
        self.fields(fields).lines(&self.masks)
    }

    pub(super) fn fields(&self, fields: &mut HeaderMap) -> Counts {
        let mut counts = Counts::default();
        if self.is_empty() {
            return counts;
        }
        for (name, value) in fields.iter_mut() {
            if let Some(masked) = self.field(name, value, &mut counts) {
                *value = masked;
            }
        }
        counts
    }

    /// The masked value of a field; `None`: it stays.
    fn field(&self, name: &HeaderName, value: &HeaderValue, counts: &mut Counts) -> Option<HeaderValue> {
        let mut out = Vec::new();
        if let Some(id) = self.masks.names().header(name.as_str()) {
            counts.named(id);
            if *name == SET_COOKIE {
                self.cookie(id, value.as_bytes(), &mut out);
            } else {
                self.text(id, value.as_bytes(), &mut out);
            }
        } else {
            if NOT_SCANNED.contains(&name.as_str()) || !self.masks.has_detectors() {
                return None;
            }
            let hits = self.masks.detect(value.as_bytes(), &mut out);
            if hits == 0 {
                return None;
            }
            counts.found("head", hits.into());
        }
        // What an operator gives is not always a field's value (a constant with a line break).
        Some(HeaderValue::from_bytes(&out).unwrap_or(HeaderValue::from_static("[redacted]")))
    }

    fn text(&self, id: MaskId, value: &[u8], out: &mut Vec<u8>) {
        // NULL has no form in a field but nothing.
        let _ = self
            .masks
            .mask(id, value, ValueType::Text, ValueFormat::Text, out);
    }

    /// `name=value; attributes`: the value alone (RFC 6265, 4.1).
    fn cookie(&self, id: MaskId, cookie: &[u8], out: &mut Vec<u8>) {
        let end = cookie
            .iter()
            .position(|byte| *byte == b';')
            .unwrap_or(cookie.len());
        let (pair, attributes) = cookie.split_at_checked(end).unwrap_or((cookie, &[]));
        let start = pair.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
        let (name, value) = pair.split_at_checked(start).unwrap_or((&[], pair));
        out.extend_from_slice(name);
        self.text(id, value, out);
        out.extend_from_slice(attributes);
    }
}
