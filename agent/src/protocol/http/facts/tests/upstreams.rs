//! No path passes that any known kind of server would read as one that is forbidden.
//!
//! Readers of several kinds of servers stand here as small models, each with the quirk that it is known for. Paths are made of the
//! pieces that quirks work on; the rules allow one directory and refuse one below it.

use std::path::Path;

use proptest::prelude::*;

use super::{Body, asked};
use crate::config::parse_policy;
use crate::model::Effect;
use crate::policy::{Ruling, ServicePolicy};

/// What a server takes a path for; `None`: it answers with an error.
type Reader = fn(&str) -> Option<Vec<String>>;

const READERS: [(&str, Reader); 9] = [
    ("as it stands", plain),
    ("nginx: decode, join slashes, resolve dots", nginx),
    ("decode once, keep dots (WSGI, Go's URL.Path)", |raw| {
        Some(split(&decode(raw)?))
    }),
    ("Go's mux: part, then decode", |raw| {
        split(raw).iter().map(|part| decode(part)).collect()
    }),
    ("Tomcat: cut parameters, decode, resolve dots", |raw| {
        let bare: Vec<String> = split(raw)
            .iter()
            .map(|part| part.split(';').next().unwrap_or_default().to_owned())
            .collect();
        Some(resolve(&split(&decode(&format!("/{}", bare.join("/")))?)))
    }),
    ("decode, then cut parameters", |raw| {
        Some(
            split(&decode(raw)?)
                .iter()
                .map(|part| part.split(';').next().unwrap_or_default().to_owned())
                .collect(),
        )
    }),
    (
        "IIS: decode twice, backslashes are slashes, resolve dots, no case, no dots at the end",
        |raw| {
            let text = decode(&decode(raw)?)?.replace('\\', "/").to_lowercase();
            let joined: Vec<String> = resolve(&split(&text));
            Some(
                joined
                    .iter()
                    .map(|part| part.trim_end_matches(['.', ' ']).to_owned())
                    .collect(),
            )
        },
    ),
    ("Express: no case, no slash at the end", |raw| {
        let mut parts: Vec<String> = split(raw)
            .iter()
            .map(|part| decode(part).map(|part| part.to_lowercase()))
            .collect::<Option<_>>()?;
        if parts.last().is_some_and(String::is_empty) {
            parts.pop();
        }
        Some(parts)
    }),
    (
        "C strings: cut at NUL, a question mark that was encoded begins the query",
        |raw| {
            let text = decode_bytes(raw);
            let end = text
                .iter()
                .position(|b| matches!(b, 0 | b'?' | b'#'))
                .unwrap_or(text.len());
            let text = String::from_utf8(text[..end].to_vec()).ok()?;
            Some(resolve(&split(&text)))
        },
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "readers have one type")]
fn plain(raw: &str) -> Option<Vec<String>> {
    Some(split(raw))
}

fn nginx(raw: &str) -> Option<Vec<String>> {
    let text = decode(raw)?;
    if text.contains('\0') {
        return None;
    }
    Some(resolve(&split(&text)))
}

fn split(text: &str) -> Vec<String> {
    text.strip_prefix('/')
        .unwrap_or(text)
        .split('/')
        .map(str::to_owned)
        .collect()
}

fn decode(text: &str) -> Option<String> {
    String::from_utf8(decode_bytes(text)).ok()
}

/// Lenient: what is no escape stands for itself.
fn decode_bytes(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes
            .get(at + 1..at + 3)
            .and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    out
}

/// Joins slashes and resolves dots.
fn resolve(parts: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        match part.as_str() {
            "" if i + 1 != parts.len() => {}
            "." => {}
            ".." => {
                out.pop();
            }
            part => out.push(part.to_owned()),
        }
    }
    out
}

/// Whether rules that allow `/public/**` but not `/public/secret/**` forbid what a server reads.
fn forbidden(segments: &[String]) -> bool {
    // A server that does not tell case apart has told so already.
    let lower: Vec<String> = segments.iter().map(|part| part.to_lowercase()).collect();
    let full: Vec<&str> = lower
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    !matches!(full.as_slice(), ["public", ..]) || matches!(full.as_slice(), ["public", "secret", ..])
}

fn rules() -> ServicePolicy {
    let text = r#"
[workload]
name = "job"
cgroup = ["/job.slice"]
[[service]]
name = "api"
protocol = "http"
address = ["api.acme.test:443"]
[[service.rule]]
name = "public"
methods = ["GET"]
paths = ["/public/**"]
verdict = "allow"
[[service.rule]]
name = "secret"
paths = ["/public/secret/**"]
verdict = "deny"
"#;
    ServicePolicy::compile(&parse_policy(Path::new("p.toml"), text).unwrap().services[0])
}

fn passes(rules: &ServicePolicy, raw: &str) -> bool {
    if raw.parse::<http::Uri>().is_err() {
        return false;
    }
    let command = asked("GET", raw, &[], Body::Empty);
    matches!(rules.judge(&command), Ruling::Allow(_))
}

fn check(rules: &ServicePolicy, raw: &str) -> Result<(), String> {
    if !passes(rules, raw) {
        return Ok(());
    }
    for (name, reader) in READERS {
        if let Some(segments) = reader(raw)
            && forbidden(&segments)
        {
            return Err(format!(
                "{raw} passes, and is {segments:?} to a server of this kind: {name}"
            ));
        }
    }
    Ok(())
}

const PIECES: [&str; 44] = [
    "public",
    "secret",
    "Secret",
    "PUBLIC",
    "admin",
    "x",
    "/",
    "/",
    "/",
    "//",
    "%2f",
    "%2F",
    "%252f",
    "%5c",
    "\\",
    ".",
    "..",
    "%2e",
    "%2e%2e",
    "%252e%252e",
    "..;",
    ";",
    ";x=1",
    "%3b",
    "%3B",
    "%00",
    "%3f",
    "%23",
    "%20",
    "%09",
    "%c0%ae",
    "%c0%af",
    "%ef%bc%8f",
    "%e2%80%a5",
    "%73ecret",
    "%2573ecret",
    "s%65cret",
    "secret.",
    "secret%20",
    "%",
    "%25",
    "...",
    ":",
    "$DATA",
];

#[test]
fn nothing_forbidden_passes_of_short_paths() {
    let rules = rules();
    // Every path of three pieces below each of these.
    for start in ["/public/", "/public", "/", "/public/x/"] {
        for one in PIECES {
            for two in PIECES {
                for three in ["", "/", "secret", "/secret", "/x", "%2fsecret", "admin"] {
                    check(&rules, &format!("{start}{one}{two}{three}")).unwrap_or_else(|why| panic!("{why}"));
                }
            }
        }
    }
    assert!(
        passes(&rules, "/public/x%20y/z")
            && passes(&rules, "/public/")
            && passes(&rules, "/public/caf%C3%A9")
    );
    assert!(
        !passes(&rules, "/public/secret") && !passes(&rules, "/public/SECRET/x") && !passes(&rules, "/x")
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn nothing_forbidden_passes(pieces in prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..9)) {
        let raw = format!("/public/{}", pieces.concat());
        prop_assert_eq!(check(&rules(), &raw), Ok(()));
    }

    #[test]
    fn no_path_breaks_the_reader(raw in "/[ -~é]{0,60}") {
        if raw.parse::<http::Uri>().is_ok() {
            let command = asked("GET", &raw, &[], Body::Empty);
            prop_assert!(command.effects().contains(Effect::Read));
        }
    }
}
