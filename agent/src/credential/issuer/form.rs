//! Bodies in `application/x-www-form-urlencoded`.

use form_urlencoded::byte_serialize;

use crate::web::{HeaderMap, HeaderValue};

/// A form that is being filled in.
pub(in crate::credential) struct Form(String);

impl Form {
    pub(in crate::credential) fn new() -> Self {
        // Large enough for a token: a text that grows leaves copies of it behind.
        Self(String::with_capacity(ROOM))
    }

    pub(in crate::credential) fn add(&mut self, key: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(byte_serialize(key.as_bytes()));
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }

    pub(in crate::credential) fn add_some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.add(key, value);
        }
    }

    /// What is sent.
    pub(in crate::credential) fn body(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    /// The headers of a question with a form, to which the answer is to be `accept`.
    pub(in crate::credential) fn headers(accept: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static(accept));
        headers.insert(
            "content-type",
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        );
        headers
    }
}

const ROOM: usize = 32 * 1024;
