//! A request in one line, for records and people: `GET https://api.acme.test/v1/users/7?key=[redacted]`.
//!
//! Secrets are replaced: values of parameters that are named as secrets are, and what detectors know by its looks, as it was sent
//! or decoded. A login before an `@` is left out with its host. Known limit: a secret in the path that looks like nothing (the
//! address of a webhook) stays.

use std::fmt::Write as _;

use crate::mask;

use super::query;

/// Longest line, in characters.
const LONGEST: usize = 4096;

const REDACTED: &str = "[redacted]";

/// Names of parameters whose values are secrets, compared without case, `-`, `_` and `.`.
const SECRET_NAMES: [&str; 24] = [
    "accesskey",
    "accesstoken",
    "apikey",
    "apitoken",
    "assertion",
    "auth",
    "authorization",
    "authtoken",
    "bearer",
    "clientassertion",
    "clientsecret",
    "code",
    "idtoken",
    "jwt",
    "key",
    "passphrase",
    "passwd",
    "password",
    "privatetoken",
    "pwd",
    "refreshtoken",
    "secret",
    "sig",
    "token",
];

/// Ends of names that say the same: `x-amz-signature`, `x-goog-credential`, `job_token`.
const SECRET_ENDS: [&str; 6] = ["signature", "credential", "token", "secret", "password", "apikey"];

/// The line of a request.
pub(super) fn line(method: &str, origin: &str, path: &str, query: Option<&str>) -> String {
    let mut line = format!("{method} {origin}{}", shown(path));
    if let Some(query) = query {
        line.push('?');
        line.push_str(&masked_query(query));
    }
    bounded(&line)
}

/// Whether the values of a parameter, a form field or a member of this name are secrets.
pub(in crate::protocol::http) fn names_a_secret(name: &str) -> bool {
    let bare: String = name
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.'))
        .flat_map(char::to_lowercase)
        .collect();
    SECRET_NAMES.contains(&bare.as_str()) || SECRET_ENDS.iter().any(|end| bare.ends_with(end))
}

/// A text with the secrets that detectors know replaced, and control characters made visible.
pub(in crate::protocol::http) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (_, hit) in mask::secrets(text.as_bytes()) {
        out.push_str(text.get(done..hit.start).unwrap_or_default());
        out.push_str(REDACTED);
        done = hit.end;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn masked_query(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for part in raw.split_inclusive(['&', ';']) {
        let (bare, separator) = match part.strip_suffix(['&', ';']) {
            Some(bare) => (bare, part.get(bare.len()..).unwrap_or_default()),
            None => (part, ""),
        };
        let (name, value) = bare.split_once('=').unwrap_or((bare, ""));
        let (read, _) = query::read(bare);
        let hidden = !value.is_empty()
            && (read.iter().any(|(name, _)| names_a_secret(name))
                || names_a_secret(name)
                || read
                    .iter()
                    .any(|(_, value)| !mask::secrets(value.as_bytes()).is_empty()));
        if hidden {
            let _ = write!(out, "{}={REDACTED}", shown(name));
        } else {
            out.push_str(&shown(bare));
        }
        out.push_str(separator);
    }
    out
}

fn bounded(line: &str) -> String {
    match line.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_stand_in_the_line() {
        let jwt =
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
        for query in [
            "access_token=hunter2",
            "a=1&KEY=hunter2",
            "X-Amz-Signature=hunter2",
            "%6bey=hunter2",
            "job-token=hunter2;b=2",
            "api.key=hunter2&",
        ] {
            let line = line("GET", "https://a", "/p", Some(query));
            assert!(!line.contains("hunter2") && line.contains(REDACTED), "{line}");
        }
        let encoded = jwt.replace('.', "%2E");
        for query in [format!("x={jwt}"), format!("x={encoded}")] {
            assert!(
                !line("GET", "https://a", "/p", Some(&query)).contains("eyJ"),
                "{query}"
            );
        }
        assert!(!line("GET", "https://a", &format!("/p/{jwt}/x"), None).contains("eyJ"));
        assert_eq!(
            line("GET", "https://a", "/p", Some("page=2&keyboard=x&code=&monkey=1")),
            "GET https://a/p?page=2&keyboard=x&code=&monkey=1"
        );
    }

    #[test]
    fn a_line_is_one_line_and_bounded() {
        let line = line("GET", "https://a", &"/é\u{85}".repeat(5000), None);
        assert!(line.chars().count() <= LONGEST + 1 && !line.chars().any(char::is_control));
    }
}
