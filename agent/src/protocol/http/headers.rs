//! Fields that are of one connection, and not of the message.

use http::header::{CONNECTION, HeaderName, PROXY_AUTHENTICATE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What a message says of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// `Connection: close`.
    pub(super) close: bool,
    /// `Connection: keep-alive`.
    pub(super) keep_alive: bool,
    /// `Connection: upgrade`, with an `Upgrade`.
    pub(super) upgrade: bool,
    /// `Transfer-Encoding`.
    pub(super) chunked: bool,
}

/// Takes out what is of the connection: it is another one beyond the agent. A field that `Connection` names goes with it.
pub(super) fn take(headers: &mut HeaderMap) -> Hop {
    let mut hop = Hop {
        chunked: headers.remove(TRANSFER_ENCODING).is_some(),
        ..Hop::default()
    };
    let mut named: Vec<HeaderName> = Vec::new();
    for value in headers.get_all(CONNECTION) {
        for option in value.as_bytes().split(|byte| *byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                hop.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                hop.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                hop.upgrade = headers.contains_key(UPGRADE);
            } else if let Ok(name) = HeaderName::from_bytes(option) {
                named.push(name);
            }
        }
    }
    headers.remove(CONNECTION);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    if !hop.upgrade {
        headers.remove(UPGRADE);
    }
    for name in named {
        if !is_of_the_message(&name) {
            headers.remove(name);
        }
    }
    if let Some(accepted) = headers.remove(TE)
        && accepts_trailers(&accepted)
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    hop
}

/// Fields that a client must not be able to take away from a server by naming them in `Connection`.
fn is_of_the_message(name: &HeaderName) -> bool {
    use http::header::{
        AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE,
        HOST, SET_COOKIE, TRAILER,
    };
    [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        HOST,
        PROXY_AUTHENTICATE,
        SET_COOKIE,
        TE,
        TRAILER,
    ]
    .contains(name)
}

fn accepts_trailers(te: &HeaderValue) -> bool {
    te.as_bytes()
        .split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}
