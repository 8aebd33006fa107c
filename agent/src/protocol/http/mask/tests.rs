//! Heads and bodies together.

use std::io::{Read, Write};
use std::sync::Arc;

use http::{HeaderMap, Request, Response, StatusCode};

use super::testing::{TestMask, masks};
use super::*;

fn service(rules: &[TestMask<'_>]) -> HttpMasks {
    HttpMasks::new(masks(rules))
}

fn asked(masks: &HttpMasks, method: &str, fields: &[(&str, &str)]) -> (Asked, HeaderMap) {
    let mut request = Request::builder().method(method).uri("/");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let asked = masks.request(&mut parts);
    (asked, parts.headers)
}

type Head = Result<(Masking, HeaderMap), Unmaskable>;

fn answered(masks: &HttpMasks, asked: &Asked, status: u16, fields: &[(&str, &str)]) -> Head {
    let mut response = Response::builder().status(StatusCode::from_u16(status).unwrap());
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    let (mut parts, ()) = response.body(()).unwrap().into_parts();
    let masking = masks.response(asked, &mut parts)?;
    Ok((masking, parts.headers))
}

const RULES: &[TestMask<'_>] = &[
    TestMask::Key("email", "redact"),
    TestMask::Header("Set-Cookie", "redact"),
    TestMask::Header("X-*-Token", "partial"),
    TestMask::Detect("jwt", "redact"),
];
const JSON: &str = "{\"email\":\"alice@acme.test\",\"id\":7}";
const MASKED: &str = "{\"email\":\"[redacted]\",\"id\":7}";

#[test]
fn a_request_asks_for_what_can_be_masked() {
    let masks = service(RULES);
    let cases = [
        (Some("gzip;q=0.5, zstd, dcb, *"), "gzip;q=0.5, zstd"),
        (Some("compress"), "identity"),
        (Some("identity;q=0, br"), "identity;q=0, br"),
        (None, "identity"),
    ];
    for (sent, wanted) in cases {
        let sent: Vec<_> = sent.into_iter().map(|value| ("accept-encoding", value)).collect();
        assert_eq!(asked(&masks, "GET", &sent).1["accept-encoding"], wanted);
    }
    let (_, fields) = asked(
        &masks,
        "GET",
        &[
            ("range", "bytes=0-9"),
            ("if-range", "\"a\""),
            ("a-im", "vcdiff"),
            ("accept", "*/*"),
        ],
    );
    let names: Vec<&str> = fields.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, ["accept", "accept-encoding"]);
    let headers_alone = service(&[TestMask::Header("Set-Cookie", "redact")]);
    let (_, fields) = asked(&headers_alone, "GET", &[("range", "bytes=0-9")]);
    assert_eq!(fields.len(), 1, "bodies are not read: ranges are of no account");
}

#[test]
fn a_head_says_nothing_of_the_body_that_the_client_does_not_get() {
    let masks = service(RULES);
    let fields = [
        ("content-type", "application/json"),
        ("content-length", "33"),
        ("etag", "\"v1\""),
        ("content-md5", "x"),
        ("repr-digest", "sha-256=:x:"),
        ("x-amz-checksum-crc32", "x"),
        ("accept-ranges", "bytes"),
        ("last-modified", "Tue, 24 Nov 2026 10:00:00 GMT"),
    ];
    for method in ["GET", "HEAD"] {
        let (asked, _) = asked(&masks, method, &[]);
        let (masking, head) = answered(&masks, &asked, 200, &fields).unwrap();
        assert_eq!(masking.body.is_some(), method == "GET");
        let mut names: Vec<&str> = head.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept-ranges", "content-type", "etag", "last-modified"],
            "{method}"
        );
        assert_eq!(head["accept-ranges"], "none");
        let tag = head["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with("\"v1-tollgate-") && tag.ends_with('"'), "{tag}");

        // It comes back, and upstream knows it; so does the client when nothing has changed.
        let (again, sent) = self::asked(&masks, "GET", &[("if-none-match", &tag), ("if-match", &tag)]);
        assert_eq!(
            (sent["if-none-match"].as_bytes(), sent["if-match"].as_bytes()),
            (&b"\"v1\""[..], &b"\"v1\""[..])
        );
        let (masking, head) = answered(&masks, &again, 304, &[("etag", "\"v1\"")]).unwrap();
        assert!(masking.body.is_none() && head["etag"] == tag.as_str());
        // Other masks make another body.
        let others = service(&[TestMask::Key("id", "redact")]);
        let (_, sent) = self::asked(&others, "GET", &[("if-none-match", &tag), ("if-match", &tag)]);
        assert!(!sent.contains_key("if-none-match"));
        assert_eq!(
            sent["if-match"], "\"tollgate-other-masks\"",
            "a precondition stays one"
        );
    }
}

#[test]
fn what_cannot_be_read_is_refused_and_what_is_named_passes() {
    let masks = service(RULES);
    let get = Asked::default();
    let refused: &[(u16, &[(&str, &str)], Unmaskable)] = &[
        (101, &[("upgrade", "websocket")], Unmaskable::Tunnel),
        (
            200,
            &[("content-type", "image/png")],
            Unmaskable::Media("image/png".into()),
        ),
        (206, &[("content-type", "application/json")], Unmaskable::Part),
        (226, &[("content-type", "application/json")], Unmaskable::Part),
        (
            200,
            &[
                ("content-type", "application/json"),
                ("content-encoding", "compress"),
            ],
            Unmaskable::Coding("compress".into()),
        ),
        (
            200,
            &[
                ("content-type", "application/json"),
                ("content-type", "text/plain"),
            ],
            Unmaskable::Twice("Content-Type"),
        ),
        (
            500,
            &[("content-type", "application/grpc")],
            Unmaskable::Media("application/grpc".into()),
        ),
    ];
    for (status, fields, why) in refused {
        assert_eq!(answered(&masks, &get, *status, fields).unwrap_err(), *why);
    }
    for (status, fields) in [
        (204, &[][..]),
        (304, &[("content-type", "image/png")]),
        (200, &[("content-type", "image/png"), ("content-length", "0")]),
    ] {
        assert!(
            answered(&masks, &get, status, fields).unwrap().0.body.is_none(),
            "{status}"
        );
    }
    let patterns = testing::unmasked("image/*");
    let passing = HttpMasks::new(Arc::new(
        crate::mask::Masks::compile(&testing::rules(RULES), [7; 32]).passing(&patterns),
    ));
    let (masking, head) = answered(
        &passing,
        &get,
        206,
        &[
            ("content-type", "image/png"),
            ("content-length", "5"),
            ("etag", "\"a\""),
        ],
    )
    .unwrap();
    assert!(masking.body.is_none());
    assert_eq!(
        (head["content-length"].as_bytes(), head["etag"].as_bytes()),
        (&b"5"[..], &b"\"a\""[..])
    );
}

#[test]
fn header_fields_and_cookies_are_masked() {
    let masks = service(RULES);
    let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
    let location = format!("https://a.test/?token={jwt}&x=1");
    let (masking, head) = answered(
        &masks,
        &Asked::default(),
        302,
        &[
            ("set-cookie", "session=abc; Path=/; HttpOnly"),
            ("set-cookie", "bare"),
            ("x-api-token", "abcdefgh"),
            ("location", &location),
            ("content-length", "0"),
        ],
    )
    .unwrap();
    let cookies: Vec<&[u8]> = head
        .get_all("set-cookie")
        .iter()
        .map(http::HeaderValue::as_bytes)
        .collect();
    assert_eq!(
        cookies,
        [&b"session=[redacted]; Path=/; HttpOnly"[..], b"[redacted]"]
    );
    assert_eq!(head["x-api-token"], "a******h");
    assert_eq!(head["location"], "https://a.test/?token=[redacted:jwt]&x=1");
    let lines: Vec<(&str, u64)> = masking
        .masked
        .iter()
        .map(|line| (line.what.as_str(), line.values))
        .collect();
    assert_eq!(lines, [("Set-Cookie", 2), ("X-*-Token", 1), ("head", 1)]);
    let mut trailers = HeaderMap::new();
    trailers.insert("x-a-token", "abcdefgh".parse().unwrap());
    assert_eq!(masks.trailers(&mut trailers).len(), 1);
    assert_eq!(trailers["x-a-token"], "a******h");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coder.write_all(text).unwrap();
    coder.finish().unwrap()
}

fn gunzip(coded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(coded)
        .read_to_end(&mut out)
        .unwrap();
    out
}

fn body(
    masks: &HttpMasks,
    fields: &[(&str, &str)],
    bytes: &[u8],
    step: usize,
) -> Result<Vec<u8>, Unmaskable> {
    let (masking, _) = answered(masks, &Asked::default(), 200, fields)?;
    let mut mask = masking.body.unwrap();
    let mut out = Vec::new();
    for piece in bytes.chunks(step) {
        mask.push(piece, &mut out)?;
        mask.flush(&mut out)?;
    }
    mask.finish(&mut out)?;
    Ok(out)
}

#[test]
fn codings_are_undone_and_applied_again_in_their_order() {
    let masks = service(RULES);
    let json = ("content-type", "application/json");
    let fields = |coding| [json, ("content-encoding", coding)];
    for step in [1, 10, 10_000] {
        let out = body(&masks, &fields("gzip"), &gzip(JSON.as_bytes()), step).unwrap();
        assert_eq!(gunzip(&out), MASKED.as_bytes());
        let coded = gzip(&zstd::encode_all(JSON.as_bytes(), 1).unwrap());
        let out = body(&masks, &fields("zstd, gzip"), &coded, step).unwrap();
        assert_eq!(zstd::decode_all(&*gunzip(&out)).unwrap(), MASKED.as_bytes());
        assert_eq!(
            body(&masks, &fields("identity"), JSON.as_bytes(), step).unwrap(),
            MASKED.as_bytes()
        );
    }
    assert_eq!(body(&masks, &fields("gzip"), b"", 1).unwrap(), b"");
    let coded = gzip(JSON.as_bytes());
    let (short, _) = coded.split_at(coded.len() - 5);
    assert_eq!(
        body(&masks, &fields("gzip"), short, 9),
        Err(Unmaskable::Truncated("gzip"))
    );
    assert!(answered(&masks, &Asked::default(), 200, &fields("gzip, gzip, gzip, gzip")).is_err());
}

#[test]
fn an_event_under_a_coding_is_not_kept_waiting() {
    let masks = service(RULES);
    let fields = [
        ("content-type", "text/event-stream"),
        ("content-encoding", "gzip"),
    ];
    let (masking, _) = answered(&masks, &Asked::default(), 200, &fields).unwrap();
    let mut mask = masking.body.unwrap();
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut reader = flate2::write::GzDecoder::new(Vec::new());
    for _ in 0..3 {
        coder.write_all(format!("data: {JSON}\n\n").as_bytes()).unwrap();
        coder.flush().unwrap();
        let mut out = Vec::new();
        mask.push(&std::mem::take(coder.get_mut()), &mut out).unwrap();
        mask.flush(&mut out).unwrap();
        reader.write_all(&out).unwrap();
        reader.flush().unwrap();
        assert_eq!(
            std::mem::take(reader.get_mut()),
            format!("data: {MASKED}\n\n").into_bytes()
        );
    }
}

#[test]
fn a_body_that_expands_beyond_measure_is_refused() {
    let masks = service(RULES);
    let zeros = zstd::encode_all(&vec![b' '; 100 << 20][..], 1).unwrap();
    let fields = [("content-type", "application/json"), ("content-encoding", "zstd")];
    assert!(matches!(
        body(&masks, &fields, &zeros, 1 << 20),
        Err(Unmaskable::Bomb(_))
    ));
}

#[test]
fn json_under_another_name_is_json_all_the_same() {
    let masks = service(RULES);
    for kind in ["text/plain", "application/octet-stream"] {
        for step in [1, 1_000] {
            let out = body_whole(&masks, kind, JSON.as_bytes(), step).unwrap();
            assert_eq!(out, MASKED.as_bytes(), "{kind}");
        }
    }
    assert_eq!(
        body_whole(&masks, "text/plain", b"[2026-11-25] started", 3).unwrap(),
        b"[2026-11-25] started"
    );
    assert_eq!(
        body_whole(&masks, "application/octet-stream", b"\x7fELF", 3),
        Err(Unmaskable::Unknown)
    );
    assert!(matches!(
        body_whole(&masks, "text/plain", b"\xff\xfea\0", 4),
        Err(Unmaskable::Charset(_))
    ));
}

/// Without a look at what there is so far.
fn body_whole(masks: &HttpMasks, kind: &str, bytes: &[u8], step: usize) -> Result<Vec<u8>, Unmaskable> {
    let (masking, _) = answered(masks, &Asked::default(), 200, &[("content-type", kind)])?;
    let mut mask = masking.body.unwrap();
    let mut out = Vec::new();
    for piece in bytes.chunks(step) {
        mask.push(piece, &mut out)?;
    }
    mask.finish(&mut out)?;
    Ok(out)
}

#[test]
fn lines_of_a_text_are_given_on_when_nothing_more_comes() {
    let masks = service(RULES);
    let (masking, _) = answered(&masks, &Asked::default(), 200, &[("content-type", "text/css")]).unwrap();
    let mut mask = masking.body.unwrap();
    let mut out = Vec::new();
    mask.push(b"step 1\nstep 2\nste", &mut out).unwrap();
    mask.flush(&mut out).unwrap();
    assert_eq!(out, b"step 1\nstep 2\n");
    mask.finish(&mut out).unwrap();
    assert_eq!(out, b"step 1\nstep 2\nste");
}
