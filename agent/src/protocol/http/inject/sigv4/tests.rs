//! Signatures, against AWS' own published examples.

use std::time::{Duration, UNIX_EPOCH};

use http::Request;
use http::request::Parts;

use super::super::{BodyWork, InjectError, Injection, Read, Way};
use crate::config::{HttpCredential, Inject, Placeholder};
use crate::model::{AwsKeys, Material, Secret};

/// 2013-05-24T00:00:00Z.
const THEN: Duration = Duration::from_hours(380_376);
const WORTHLESS: &str = "Credential=AKIDWORTHLESS/20130524/us-east-1/s3/aws4_request, SignedHeaders=";

fn keys() -> Material {
    Material::Aws(AwsKeys {
        id: Secret::new(b"AKIAIOSFODNN7EXAMPLE".to_vec()),
        secret: Secret::new(b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_vec()),
        token: None,
        region: "us-east-1".to_owned(),
    })
}

fn injection(service: Option<&str>) -> Injection {
    let spec = HttpCredential {
        inject: Inject::SigV4 {
            service: service.map(str::to_owned),
            region: None,
        },
        placeholder: Some(Placeholder {
            text: "AKIDWORTHLESS".to_owned(),
            bodies: Vec::new(),
        }),
    };
    Injection::new(Some(spec), false)
}

fn way(encrypted: bool) -> Way<'static> {
    Way {
        encrypted,
        authority: "s3.amazonaws.com",
        now: UNIX_EPOCH + THEN,
    }
}

fn parts(method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn signature(parts: &Parts) -> &str {
    let value = parts.headers["authorization"].to_str().unwrap();
    value.split_once("Signature=").unwrap().1
}

#[test]
fn what_was_signed_with_worthless_keys_is_signed_as_aws_documents_it() {
    let signed =
        format!("AWS4-HMAC-SHA256 {WORTHLESS}host;range;x-amz-content-sha256;x-amz-date, Signature=00");
    let mut parts = parts(
        "GET",
        "/test.txt",
        &[
            ("host", "examplebucket.s3.amazonaws.com"),
            ("range", "bytes=0-9"),
            ("authorization", &signed),
            ("x-amz-date", "20130524T000001Z"),
            ("x-amz-security-token", "worthless"),
            (
                "x-amz-content-sha256",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            ),
        ],
    );
    let injection = injection(None);
    let stripped = injection.strip(&mut parts);
    assert!(
        stripped.found.is_empty(),
        "the worthless id is the placeholder: {stripped:?}"
    );
    assert!(!parts.headers.contains_key("x-amz-security-token"));
    assert!(!injection.wants_body(&parts, &stripped, way(true)));
    let work = injection
        .inject(&mut parts, &stripped, &keys(), Read::Whole(b""), way(true))
        .unwrap();
    assert!(work.is_none());
    assert_eq!(
        signature(&parts),
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
}

const SEED_HEADERS: &[(&str, &str)] = &[
    ("host", "s3.amazonaws.com"),
    ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ("content-encoding", "aws-chunked"),
    ("x-amz-decoded-content-length", "66560"),
    ("content-length", "66824"),
    ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"),
    ("x-amz-date", "20130524T000000Z"),
];

fn chunked() -> (Injection, Parts, BodyWork) {
    let signed = format!(
        "AWS4-HMAC-SHA256 {WORTHLESS}content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class, Signature=00"
    );
    let mut headers = SEED_HEADERS.to_vec();
    headers.push(("authorization", &signed));
    let mut parts = parts("PUT", "/examplebucket/chunkObject.txt", &headers);
    let injection = injection(None);
    let stripped = injection.strip(&mut parts);
    let work = injection
        .inject(&mut parts, &stripped, &keys(), Read::Not, way(true))
        .unwrap();
    (injection, parts, work)
}

#[test]
fn a_body_that_is_signed_chunk_by_chunk_is_signed_again_whatever_it_arrives_in() {
    let worthless = "f".repeat(64);
    let mut body = Vec::new();
    for length in [65536, 1024, 0] {
        body.extend_from_slice(format!("{length:x};chunk-signature={worthless}\r\n").as_bytes());
        body.extend_from_slice(&vec![b'a'; length]);
        body.extend_from_slice(b"\r\n");
    }
    let mut wanted = Vec::new();
    for (length, signature) in [
        (
            65536,
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        ),
        (
            1024,
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        ),
        (
            0,
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ),
    ] {
        wanted.extend_from_slice(format!("{length:x};chunk-signature={signature}\r\n").as_bytes());
        wanted.extend_from_slice(&vec![b'a'; length]);
        wanted.extend_from_slice(b"\r\n");
    }
    for size in [1, 7, 1000, body.len()] {
        let (_, parts, mut work) = chunked();
        assert_eq!(
            signature(&parts),
            "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
        );
        assert!(work.keeps_length());
        let mut out = Vec::new();
        for piece in body.chunks(size) {
            out.extend(work.push(piece).unwrap());
        }
        out.extend(work.finish().unwrap());
        assert!(out == wanted, "pieces of {size}");
    }
}

#[test]
fn a_body_that_is_not_as_its_head_says_is_refused() {
    let signature = "0".repeat(64);
    for body in [
        "zz;chunk-signature=00\r\n".to_owned(),
        format!("ffffffff;chunk-signature={signature}\r\n"),
        "1;chunk-signature=00\r\na\r\n".to_owned(),
        format!("1;chunk-signature={signature}\r\nab\r\n"),
        "1\r\na\r\n".to_owned(),
        "x".repeat(20_000),
    ] {
        let (_, _, mut work) = chunked();
        let refused = work.push(body.as_bytes()).and_then(|_| work.finish());
        assert!(matches!(refused, Err(InjectError::Body { .. })), "{body:.60}");
    }
    let (_, _, mut work) = chunked();
    work.push(format!("1;chunk-signature={signature}\r\na\r\n").as_bytes())
        .unwrap();
    assert!(
        matches!(work.finish(), Err(InjectError::Body { .. })),
        "it was cut short"
    );
}

#[test]
fn a_body_nobody_hashed_is_hashed_here_and_travels_unsigned_only_where_that_is_safe() {
    let injection = injection(None);
    for (host, encrypted, hashed) in [
        ("acme.s3.eu-central-1.amazonaws.com", true, false),
        ("acme.s3.eu-central-1.amazonaws.com", false, true),
        ("dynamodb.eu-central-1.amazonaws.com", true, true),
    ] {
        let mut parts = parts("POST", "/", &[("host", host)]);
        let stripped = injection.strip(&mut parts);
        assert_eq!(
            injection.wants_body(&parts, &stripped, way(encrypted)),
            hashed,
            "{host}"
        );
        let asked = injection.inject(&mut parts, &stripped, &keys(), Read::Not, way(encrypted));
        assert_eq!(asked.is_ok(), !hashed, "{host} {encrypted}");
    }
    for said in ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        let head = [
            ("host", "s3.eu-central-1.amazonaws.com"),
            ("x-amz-content-sha256", said),
        ];
        for encrypted in [true, false] {
            let mut parts = parts("PUT", "/a/b", &head);
            let stripped = injection.strip(&mut parts);
            let asked = injection.inject(&mut parts, &stripped, &keys(), Read::Not, way(encrypted));
            assert_eq!(asked.is_ok(), encrypted, "{said}");
        }
    }
}

#[test]
fn a_presigned_url_loses_its_signature_and_its_key_is_a_finding() {
    let url = "/b/k?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAREAL00000000EXAM%2F20130524%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&versionId=7&X-Amz-Signature=00";
    let mut parts = parts("GET", url, &[("host", "minio.acme.test:9000")]);
    let injection = injection(None);
    let stripped = injection.strip(&mut parts);
    assert_eq!(parts.uri.to_string(), "/b/k?versionId=7");
    let [found] = stripped.found.as_slice() else {
        panic!("{stripped:?}");
    };
    assert_eq!(found.secret.expose(), b"AKIAREAL00000000EXAM");
    injection
        .inject(&mut parts, &stripped, &keys(), Read::Whole(b""), way(true))
        .unwrap();
    let value = parts.headers["authorization"].to_str().unwrap();
    assert!(value.contains("/eu-west-1/s3/aws4_request"), "{value}");
}

#[test]
fn who_neither_names_service_nor_region_is_told_so() {
    let injection = injection(None);
    let mut parts = parts("GET", "/", &[("host", "api.acme.test")]);
    let stripped = injection.strip(&mut parts);
    let why = injection
        .inject(&mut parts, &stripped, &keys(), Read::Whole(b""), way(true))
        .unwrap_err();
    assert!(
        why.to_string().contains("inject = { sigv4 = \"SERVICE\" }"),
        "{why}"
    );
    let login = Material::Login {
        user: Secret::new(b"AKIA".to_vec()),
        password: Secret::new(b"secret".to_vec()),
    };
    let injection = self::injection(Some("execute-api"));
    let why = injection
        .inject(&mut parts, &stripped, &login, Read::Whole(b""), way(true))
        .unwrap_err();
    assert!(why.to_string().contains("the region is not known"), "{why}");
}
