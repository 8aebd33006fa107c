//! Secrets on command lines and in variables: where they stand, by their name or by their looks. On command lines they
//! are replaced before anybody sees the line.
//!
//! Known limit: a secret that neither its name nor its looks give away (`backup hunter2`) stays. It was readable in
//! `/proc` for every user of the host before it came here.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use regex_automata::meta::Regex;
use zeroize::Zeroizing;

/// What a secret looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// A password.
    Password,
    /// A token.
    Token,
    /// A private key.
    PrivateKey,
    /// Something else that is called a secret.
    Named,
}

/// Where a secret stands in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretPlace {
    /// What it looks like.
    pub looks: Looks,
    range: Range<usize>,
    /// Its end is certain; otherwise more than the secret is hidden, to be safe.
    exact: bool,
    /// It is part of a URL, where characters may be written as `%40`.
    in_url: bool,
}

impl SecretPlace {
    fn new(looks: Looks, range: Range<usize>) -> Self {
        Self {
            looks,
            range,
            exact: true,
            in_url: false,
        }
    }

    /// The secret as its program reads it: without quotes, `%40` decoded in a URL.
    pub fn secret(&self, text: &str) -> Zeroizing<Vec<u8>> {
        let text = text.get(self.range.clone()).unwrap_or_default();
        let unquoted = ['\'', '"']
            .iter()
            .find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
        let text = unquoted.unwrap_or(text).as_bytes();
        if !self.in_url {
            return Zeroizing::new(text.to_vec());
        }
        let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            let digits = after.get(..2).filter(|_| byte == b'%');
            let octet = digits.and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok()?;
                u8::from_str_radix(digits, 16).ok()
            });
            decoded.push(octet.unwrap_or(byte));
            rest = if octet.is_some() {
                after.get(2..).unwrap_or_default()
            } else {
                after
            };
        }
        decoded
    }
}

/// The arguments of a command line, from `/proc/PID/cmdline`, with what looks like a secret replaced by `***`.
///
/// Arguments that are not UTF-8 are shown with escapes. The whole is cut at [`LONGEST`] bytes, after scrubbing.
pub(super) fn command_line(raw: &[u8]) -> Vec<String> {
    let mut scrubber = Scrubber::default();
    let mut left = LONGEST;
    let mut shown = Vec::new();
    for argument in arguments(raw) {
        let places = scrubber.places(&argument);
        let mut text = hidden(&argument, places);
        if text.len() > left {
            text.truncate(text.floor_char_boundary(left));
            text.push('…');
            shown.push(text);
            break;
        }
        left -= text.len();
        shown.push(text);
    }
    shown
}

/// The arguments of a command line, each with its number and the secrets in it.
pub fn secrets_in_arguments(raw: &[u8]) -> Vec<(usize, Zeroizing<String>, Vec<SecretPlace>)> {
    let mut scrubber = Scrubber::default();
    arguments(raw)
        .enumerate()
        .map(|(number, argument)| {
            let mut places = scrubber.places(&argument);
            places.retain(|place| place.exact);
            (number, Zeroizing::new(argument.into_owned()), places)
        })
        .collect()
}

/// What the whole value of a variable is, going by the variable's name; `None`: its name says nothing, or the value is
/// none that a secret has: a switch, a small number, a path.
pub fn secret_variable(name: &str, value: &str) -> Option<Looks> {
    let value = value.trim();
    let switch = SWITCHES.iter().any(|word| value.eq_ignore_ascii_case(word));
    let number = value.len() < 6 && value.bytes().all(|byte| byte.is_ascii_digit());
    let path_byte = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/._-".contains(&byte);
    let path = value.starts_with('/') && value.bytes().all(path_byte);
    let secret = value.len() >= SHORTEST && !switch && !number && !path && names_secret(name);
    secret.then(|| looks_by_name(name))
}

/// The secrets in a text that their looks give away: URLs with a password, `password=…` of a connection string or of a shell
/// command, authorization headers, tokens.
pub fn secrets_by_looks(text: &str) -> Vec<SecretPlace> {
    let Some(patterns) = PATTERNS.as_ref() else {
        return vec![SecretPlace::new(Looks::Named, 0..text.len())];
    };
    let mut places = Vec::new();
    for (pattern, shape) in patterns {
        for found in pattern.captures_iter(text) {
            // Group 1 is the secret, the rest is context that stays.
            let (Some(whole), Some(secret)) = (found.get_match(), found.get_group(1)) else {
                continue;
            };
            let context = || text.get(whole.start()..secret.start).unwrap_or_default();
            let looks = match shape {
                Shape::Url | Shape::Sql => Looks::Password,
                Shape::Assigned => looks_by_name(context()),
                Shape::Token => Looks::Token,
                Shape::PrivateKey => Looks::PrivateKey,
            };
            places.push(SecretPlace {
                in_url: matches!(shape, Shape::Url),
                ..SecretPlace::new(looks, secret.start..secret.end)
            });
        }
    }
    places
}

/// Each argument as text; what is not UTF-8 with escapes.
fn arguments(raw: &[u8]) -> impl Iterator<Item = Cow<'_, str>> {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    let arguments = (!raw.is_empty()).then(|| raw.split(|byte| *byte == 0));
    arguments
        .into_iter()
        .flatten()
        .map(|argument| match std::str::from_utf8(argument) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(argument.escape_ascii().to_string()),
        })
}

/// The text with `***` in the place of secrets.
fn hidden(text: &str, mut places: Vec<SecretPlace>) -> String {
    places.sort_by_key(|place| place.range.start);
    let mut out = String::with_capacity(text.len());
    // Up to where the text was copied or hidden.
    let mut done = 0;
    let mut after_secret = false;
    for SecretPlace { range, .. } in places {
        if range.start > done || !after_secret {
            out.push_str(text.get(done..range.start).unwrap_or_default());
            out.push_str(HIDDEN);
        }
        done = done.max(range.end);
        after_secret = true;
    }
    out.push_str(text.get(done..).unwrap_or_default());
    out
}

#[derive(Default)]
struct Scrubber {
    /// Program whose short options are known, by its base name.
    program: Option<String>,
    /// What the next argument is: the value of an option that names a secret.
    next_is: Option<Looks>,
    /// The next argument is `user:password`.
    next_is_login: bool,
}

impl Scrubber {
    /// Where secrets stand in the next argument.
    fn places(&mut self, argument: &str) -> Vec<SecretPlace> {
        let Some(program) = &self.program else {
            self.program = Some(argument.rsplit('/').next().unwrap_or(argument).to_owned());
            return secrets_by_looks(argument);
        };
        let from = |looks, start: usize| vec![SecretPlace::new(looks, start..argument.len())];
        if let Some(looks) = self.next_is.take() {
            return from(looks, 0);
        }
        // What stands behind the colon of `user:password`, which begins at `start`.
        let login = |start: usize| match argument.get(start..).and_then(|login| login.find(':')) {
            Some(colon) => from(Looks::Password, start + colon + 1),
            None => Vec::new(),
        };
        if std::mem::take(&mut self.next_is_login) {
            return login(0);
        }
        let is_mysql = ["mysql", "mariadb"]
            .iter()
            .any(|family| program.starts_with(family));
        let is_curl = matches!(program.as_str(), "curl" | "wget");
        match argument {
            "-p" if program == "sshpass" => self.next_is = Some(Looks::Password),
            "-u" | "-U" | "--user" | "--proxy-user" if is_curl => self.next_is_login = true,
            "-a" if program == "redis-cli" => self.next_is = Some(Looks::Password),
            _ => {}
        }
        if argument.len() > 2 && argument.starts_with("-p") && (is_mysql || program == "sshpass") {
            return from(Looks::Password, 2);
        }
        if argument.starts_with("-u") && is_curl && argument.contains(':') {
            return login(2);
        }
        match argument.split_once('=') {
            Some((name, value)) if is_word(name) && names_secret(name) => {
                let mut places = from(looks_by_name(name), name.len() + 1);
                if value.contains(char::is_whitespace) {
                    // A line for a shell: the secret ends somewhere in it. Its looks may tell where.
                    for place in &mut places {
                        place.exact = false;
                    }
                    places.extend(secrets_by_looks(argument));
                }
                places
            }
            Some(("--user" | "--proxy-user", _)) if is_curl => {
                login(argument.find('=').map_or(0, |equals| equals + 1))
            }
            None if argument.starts_with('-') && is_word(argument) && names_secret(argument) => {
                self.next_is = Some(looks_by_name(argument));
                Vec::new()
            }
            _ => secrets_by_looks(argument),
        }
    }
}

fn is_word(name: &str) -> bool {
    name.bytes()
        .all(|letter| letter.is_ascii_alphanumeric() || b"-_.".contains(&letter))
}

fn names_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let name = name.trim_start_matches('-');
    // `--no-password`, `--password-file`: they carry no secret.
    let harmless = name.starts_with("no-")
        || ["file", "path", "dir", "command", "url", "stdin", "fd"]
            .iter()
            .any(|end| name.ends_with(end));
    !harmless && SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// What is called so.
fn looks_by_name(name: &str) -> Looks {
    let name = name.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
    if has(&["token"]) {
        Looks::Token
    } else if has(&["password", "passwd", "passphrase", "pwd"]) {
        Looks::Password
    } else {
        Looks::Named
    }
}

/// What a pattern recognises.
#[derive(Clone, Copy, Debug)]
enum Shape {
    Url,
    Assigned,
    Sql,
    Token,
    PrivateKey,
}

/// `None` if a pattern did not compile, which a test rules out; then whole arguments are hidden.
static PATTERNS: LazyLock<Option<Vec<(Regex, Shape)>>> = LazyLock::new(|| {
    [
        // scheme://user:SECRET@host, to the last @ of the word: a password may hold one, and clients differ in
        // where they end it.
        (r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:(\S+)@", Shape::Url),
        // password=SECRET, "token": "SECRET", PGPASSWORD='SECRET'
        (r#"(?i)[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*["']?\s*[=:]\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&;,"']+)"#, Shape::Assigned),
        // --password SECRET inside a shell command
        (r#"(?i)--?(?:password|passwd|passphrase|secret|token|api-key|access-key)\s+('[^']*'|"[^"]*"|[^\s&;,"'-][^\s&;,"']*)"#, Shape::Assigned),
        // SQL on a command line: PASSWORD 'SECRET', IDENTIFIED BY 'SECRET'
        (r"(?i)\b(?:password|identified\s+by)\s+(?:e|u&)?('(?:[^'\\]|\\.|'')*'|\$(?:\w*)\$[^$]*\$\w*\$)", Shape::Sql),
        // Authorization: Bearer SECRET
        (r#"(?i)authorization["']?\s*[:=]\s*["']?(?:(?:basic|bearer|token|digest)\s+)?([^\s"']+)"#, Shape::Token),
        (r"\b(eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*)", Shape::Token),
        (r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}|AGE-SECRET-KEY-1[0-9A-Z]{20,})", Shape::Token),
        (r"(-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?)", Shape::PrivateKey),
    ]
    .into_iter()
    .map(|(pattern, shape)| Some((Regex::new(pattern).ok()?, shape)))
    .collect()
});

const HIDDEN: &str = "***";
/// Longest command line that is shown, in bytes.
const LONGEST: usize = 4096;
/// Fewest characters of a variable's value that is taken for a secret.
const SHORTEST: usize = 4;
const SWITCHES: &[&str] = &[
    "true", "false", "yes", "none", "null", "enabled", "disabled", "required", "optional",
];
const SECRET_WORDS: &[&str] = &[
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "api-key",
    "api_key",
    "apikey",
    "access-key",
    "access_key",
    "accesskey",
    "private-key",
    "private_key",
    "credential",
];

#[cfg(test)]
mod tests {
    use super::{HIDDEN, PATTERNS, command_line};

    fn shown(arguments: &[&str]) -> String {
        command_line(arguments.join("\0").as_bytes()).join(" ")
    }

    #[test]
    fn a_password_in_sql_on_a_command_line_is_hidden() {
        for sql in [
            "ALTER ROLE x PASSWORD 's3cr''et'",
            "alter user x with encrypted password E's3cr\\'et' valid until 'infinity'",
            "CREATE USER x IDENTIFIED BY 's3cret'",
            "ALTER ROLE x PASSWORD $a$s3cret$a$",
        ] {
            let line = command_line(format!("psql\0-c\0{sql}\0").as_bytes()).join(" ");
            assert!(
                line.contains(HIDDEN) && !line.contains("s3cr") && !line.contains("et'"),
                "{line}"
            );
        }
    }

    #[test]
    fn all_patterns_compile() {
        assert!(PATTERNS.is_some());
    }

    #[test]
    fn secrets_are_hidden_wherever_a_command_line_carries_them() {
        for arguments in [
            &["psql", "postgres://app:hunter2@db/orders"][..],
            &["psql", "postgresql://:hunter2@db/orders?x=1"],
            &["psql", "postgres://app:hunter2/with@slash@db/orders"],
            &["psql", "postgres://app:p@hunter2@db/orders"],
            &["psql", "host=db password=hunter2 user=app"],
            &["psql", "host=db password='hunter2 \\' hunter2' user=app"],
            &["psql", "postgres://db/orders?user=app&password=hunter2&x=1"],
            &["tool", "--password=hunter2"],
            &["tool", "--password", "hunter2"],
            &["tool", "-password", "hunter2"],
            &["tool", "--db-password", "hunter2"],
            &["tool", "--api-key=hunter2"],
            &["tool", "--client_secret", "hunter2"],
            &["env", "PGPASSWORD=hunter2", "psql"],
            &[
                "sh",
                "-c",
                "PGPASSWORD=hunter2 psql; export TOKEN='hunter2 hunter2'",
            ],
            &["sh", "-c", "tool --password hunter2 --host db"],
            &["mysql", "-phunter2", "orders"],
            &["/usr/bin/mariadb-dump", "-phunter2"],
            &["sshpass", "-p", "hunter2", "ssh", "host"],
            &["curl", "-u", "app:hunter2", "https://host"],
            &["curl", "-uapp:hunter2", "https://host"],
            &["curl", "-H", "Authorization: Bearer hunter2"],
            &["curl", "-d", "{\"token\": \"hunter2\"}"],
            &["tool", "eyJhbGciOi.hunter2.hunter2"],
            &["tool", "ghp_hunter2hunter2hunter2hunter2"],
        ] {
            let shown = shown(arguments);
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains(HIDDEN), "{shown}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_password_of_any_letters_is_hidden(secret in "[!-~]{6,24}") {
            for line in [
                format!("tool\0--password={secret}"),
                format!("tool\0--password\0{secret}"),
                format!("psql\0postgres://app:{secret}@db/orders"),
            ] {
                let shown = command_line(line.as_bytes());
                proptest::prop_assert!(!shown.iter().any(|argument| argument.contains(&secret)), "{shown:?}");
            }
        }

        #[test]
        fn no_command_line_stops_it(raw in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            command_line(&raw);
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for arguments in [
            &["psql", "-h", "db", "-p", "5432", "-c", "SELECT 1"][..],
            &["psql", "--no-password", "orders"],
            &[
                "pg_dump",
                "--file=/backup/orders.dump",
                "postgres://app@db/orders",
            ],
            &["tool", "--password-file", "/run/secret-file"],
            &["ssh", "user@host", "ls", "-p"],
        ] {
            assert_eq!(shown(arguments), arguments.join(" "));
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_bytes_that_are_no_text_are_escaped() {
        let long = shown(&["tool", &"x".repeat(10_000)]);
        assert!(long.len() < 5_000 && long.ends_with('…'));
        assert_eq!(command_line(b"tool\0\xff\x1b\0"), ["tool", "\\xff\\x1b"]);
        assert!(command_line(b"").is_empty());
    }
}
