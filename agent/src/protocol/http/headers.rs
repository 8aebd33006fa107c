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
        chunked: headers.contains_key(TRANSFER_ENCODING),
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
    let accepts = headers.get(TE).is_some_and(accepts_trailers);
    remove(headers, |name| {
        [CONNECTION, KEEP_ALIVE, PROXY_CONNECTION, TRANSFER_ENCODING, TE].contains(name)
            || (*name == UPGRADE && !hop.upgrade)
            || (named.contains(name) && !is_of_the_message(name))
    });
    if accepts {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    hop
}

/// Removes fields, and leaves the others in the order in which they came, by which clients and servers are known and which some
/// of them go by. The map itself would put its last field in the place of one that is removed.
fn remove(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    if !headers.keys().any(&unwanted) {
        return;
    }
    let mut left = HeaderMap::with_capacity(headers.keys_len());
    let mut last = None;
    for (name, value) in std::mem::take(headers) {
        // Further values of a name come without it.
        last = name.or(last);
        if let Some(name) = last.as_ref().filter(|name| !unwanted(name)) {
            left.append(name, value);
        }
    }
    *headers = left;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(headers: &HeaderMap) -> Vec<&str> {
        headers.keys().map(HeaderName::as_str).collect()
    }

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn fields_that_are_left_stay_in_the_order_in_which_they_came() {
        let mut sent = headers(&[
            ("host", "a"),
            ("connection", "keep-alive, x-hop"),
            ("x-hop", "1"),
            ("user-agent", "curl"),
            ("accept", "*/*"),
            ("te", "gzip, trailers"),
            ("x-last", "1"),
        ]);
        let hop = take(&mut sent);
        assert!(hop.keep_alive && !hop.close && !hop.upgrade && !hop.chunked);
        assert_eq!(names(&sent), ["host", "user-agent", "accept", "x-last", "te"]);
        assert_eq!(sent["te"], "trailers");
    }

    #[test]
    fn every_value_of_a_field_goes_with_it_or_stays() {
        let mut sent = headers(&[("cookie", "a"), ("x-hop", "1"), ("accept", "*/*")]);
        sent.append("cookie", HeaderValue::from_static("b"));
        sent.append("x-hop", HeaderValue::from_static("2"));
        sent.insert(CONNECTION, HeaderValue::from_static("x-hop, cookie"));
        take(&mut sent);
        assert_eq!(names(&sent), ["cookie", "accept"]);
        let cookies: Vec<_> = sent.get_all("cookie").iter().collect();
        assert_eq!(cookies, ["a", "b"]);
    }

    #[test]
    fn an_upgrade_keeps_the_field_that_names_it() {
        let mut sent = headers(&[
            ("upgrade", "websocket"),
            ("connection", "upgrade"),
            ("origin", "x"),
        ]);
        assert!(take(&mut sent).upgrade);
        assert_eq!(names(&sent), ["upgrade", "origin"]);
        let mut sent = headers(&[("upgrade", "h2c"), ("origin", "x")]);
        assert!(!take(&mut sent).upgrade);
        assert_eq!(names(&sent), ["origin"]);
    }
}
