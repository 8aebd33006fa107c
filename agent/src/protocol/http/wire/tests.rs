use proptest::prelude::*;

use super::{Fault, Wire};

/// All bytes that pass of what comes in pieces of `size`.
fn passed(bytes: &[u8], size: usize) -> Result<Vec<u8>, Fault> {
    let (mut wire, mut held, mut out) = (Wire::new(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size) {
        held.extend_from_slice(piece);
        loop {
            let taken = wire.check(&held)?;
            out.extend(held.drain(..taken));
            if taken == 0 || held.is_empty() {
                break;
            }
        }
    }
    Ok(out)
}

#[test]
fn what_has_one_meaning_passes_as_it_came_in_whatever_pieces() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nhost:a\r\n\r\nGET http://a/x?y HTTP/1.1\r\nHOST:\ta \r\nX-Empty:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\n\r\na;x=\"y\"\r\n0123456789\r\n00\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        "QUERY /\" HTTP/1.1\r\nHost: a\r\nX: \u{e4}\r\n\r\n",
    ] {
        for size in [1, 2, 3, 7, 1000] {
            assert_eq!(
                passed(request.as_bytes(), size).as_deref(),
                Ok(request.as_bytes()),
                "{request:?}"
            );
        }
    }
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(70_000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(201));
    let cases: &[(&str, &str)] = &[
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "a length and a transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "a length and a transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "two lengths",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\n",
            "no number",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
            "transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            "transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
            "transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "transfer coding",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\u{b}chunked\r\n\r\n",
            "control characters",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
            "name of a field",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n",
            "next line",
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tTransfer-Encoding: chunked\r\n\r\n",
            "next line",
        ),
        (
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "needs HTTP/1.1",
        ),
        ("GET / HTTP/1.1\nHost: a\n\n", "bare line feed"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\nContent-Length: 5\r\n\r\nhello",
            "bare line feed",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\nhello",
            "control characters",
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
            "control characters",
        ),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "two hosts"),
        ("GET / HTTP/1.1\r\nX: a\r\n\r\n", "no host"),
        ("GET / HTTP/1.1\r\nHost: a\r\nnot a field\r\n\r\n", "no colon"),
        ("GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n", "name of a field"),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "method, target and version"),
        (
            "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
            "method, target and version",
        ),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", "its target"),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "method, target and version"),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "its method"),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "neither HTTP/1.1"),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", "neither HTTP/1.1"),
        ("GET /\r\n\r\n", "method, target and version"),
        (
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "method, target and version",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "neither HTTP/1.1"),
        (&long, "longer than may be"),
        (&many, "longer than may be"),
    ];
    for (request, why) in cases {
        for size in [1, 5, 100_000] {
            let fault = passed(request.as_bytes(), size).expect_err(request);
            assert!(fault.to_string().contains(why), "{request:?}: {fault}");
        }
    }
}

#[test]
fn chunks_that_two_readers_could_read_differently_are_refused() {
    const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (body, why) in [
        ("5 \r\nhello\r\n0\r\n\r\n", "two ways"),
        ("5 ;x\r\nhello\r\n0\r\n\r\n", "two ways"),
        ("0x5\r\nhello\r\n0\r\n\r\n", "two ways"),
        ("-5\r\nhello\r\n0\r\n\r\n", "no size"),
        ("\r\nhello\r\n0\r\n\r\n", "no size"),
        ("fffffffffffffffff\r\nhello", "no size"),
        ("5\nhello\r\n0\r\n\r\n", "bare line feed"),
        ("5;x\ny\r\nhello\r\n0\r\n\r\n", "bare line feed"),
        ("5;x\ry\r\nhello\r\n0\r\n\r\n", "two ways"),
        ("5\r\nhelloo\r\n0\r\n\r\n", "as long as it says"),
        ("5\r\nhello0\r\n\r\n", "as long as it says"),
        ("0\r\nContent-Length: 5\r\n\r\n", "belongs before it"),
        ("0\r\nHost: b\r\n\r\n", "belongs before it"),
        ("0\r\nX : b\r\n\r\n", "name of a field"),
    ] {
        let request = format!("{HEAD}{body}");
        for size in [1, 5, 1000] {
            let fault = passed(request.as_bytes(), size).expect_err(&request);
            assert!(fault.to_string().contains(why), "{body:?}: {fault}");
        }
    }
}

proptest! {
    /// However bytes are cut into pieces, the same of them passes, or they are refused.
    #[test]
    fn pieces_do_not_matter(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("GET / HTTP/1.1\r\n".to_owned()), Just("Host: a\r\n".to_owned()), Just("\r\n".to_owned()),
                Just("Content-Length: 3\r\n".to_owned()), Just("Transfer-Encoding: chunked\r\n".to_owned()),
                Just("3\r\nabc\r\n".to_owned()), Just("0\r\n\r\n".to_owned()), Just("abc".to_owned()), Just("\n".to_owned()),
                "[ -~\r\n]{0,6}",
            ],
            0..12,
        ),
        size in 1_usize..40,
    ) {
        let bytes = parts.concat().into_bytes();
        // Which of several faults is named depends on what has come when the first is seen.
        prop_assert_eq!(passed(&bytes, size).ok(), passed(&bytes, 10_000).ok());
    }
}
