//! What a request must not ask for, so that its answer can be masked.

use http::header::{
    ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE,
};
use http::{Method, request};

use super::coding::Coding;
use super::{HttpMasks, etag};

/// What was asked, as far as the answer has to be read by it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub(super) head: bool,
    pub(super) connect: bool,
    /// The entity tags of `If-None-Match` that are of masked bodies, as upstream knows them.
    pub(super) tags: Vec<String>,
}

/// Asks for a difference to what the client has (RFC 3229), and names a dictionary for the coding of the answer (RFC 9842).
const NEVER_ASKED: [HeaderName; 4] = [
    HeaderName::from_static("a-im"),
    HeaderName::from_static("available-dictionary"),
    HeaderName::from_static("dictionary-id"),
    HeaderName::from_static("want-content-digest"),
];
const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

impl HttpMasks {
    /// Takes out of a request what would make its answer impossible to mask: ranges, codings that are not known,
    /// differences; and gives validators back to upstream as it knows them.
    pub fn request(&self, parts: &mut request::Parts) -> Asked {
        let mut asked = Asked {
            head: parts.method == Method::HEAD,
            connect: parts.method == Method::CONNECT,
            tags: Vec::new(),
        };
        if !self.reads_bodies() {
            return asked;
        }
        let fields = &mut parts.headers;
        for name in NEVER_ASKED.iter().chain([&RANGE, &IF_RANGE, &WANT_REPR_DIGEST]) {
            fields.remove(name);
        }
        accept_known_codings(fields);
        asked.tags = self.give_back(fields, &IF_NONE_MATCH);
        self.give_back(fields, &IF_MATCH);
        asked
    }

    fn give_back(&self, fields: &mut HeaderMap, name: &HeaderName) -> Vec<String> {
        if !fields.contains_key(name) {
            return Vec::new();
        }
        let Some(list) = joined(fields, name) else {
            // A tag with bytes that are no text: nothing that was given out.
            return Vec::new();
        };
        let (list, ours) = etag::unmarked(&list, &self.mark);
        fields.remove(name);
        match list.map(|list| HeaderValue::from_str(&list)) {
            Some(Ok(list)) => {
                fields.insert(name, list);
            }
            // A precondition that cannot hold must not become none: the client would overwrite what it has not seen.
            Some(Err(_)) | None if name == IF_MATCH => {
                fields.insert(name, HeaderValue::from_static("\"tollgate-other-masks\""));
            }
            Some(Err(_)) | None => {}
        }
        ours
    }
}

/// Narrows `Accept-Encoding` to what can be decoded. Without the field the client takes anything, and upstream has to be told
/// what is known.
fn accept_known_codings(fields: &mut HeaderMap) {
    let kept = joined(fields, &ACCEPT_ENCODING).map(|list| {
        let known = list.split(',').map(str::trim).filter(|item| {
            let name = item.split(';').next().unwrap_or_default().trim();
            name.eq_ignore_ascii_case("identity") || Coding::named(name).is_some()
        });
        known.collect::<Vec<_>>().join(", ")
    });
    let kept = kept
        .filter(|list| !list.is_empty())
        .unwrap_or_else(|| "identity".into());
    let kept = HeaderValue::from_str(&kept).unwrap_or(HeaderValue::from_static("identity"));
    fields.insert(ACCEPT_ENCODING, kept);
}

/// All values of a field, as one list; `None`: there is none, or one is no text.
pub(super) fn joined(fields: &HeaderMap, name: &HeaderName) -> Option<String> {
    let values: Vec<&str> = fields
        .get_all(name)
        .iter()
        .map(|value| value.to_str().ok())
        .collect::<Option<_>>()?;
    (!values.is_empty()).then(|| values.join(", "))
}
