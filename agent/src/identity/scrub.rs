//! Secrets on command lines, replaced before anybody sees the line.
//!
//! Known limit: a secret that neither its name nor its looks give away (`backup hunter2`) stays. It was readable in
//! `/proc` for every user of the host before it came here.

use std::sync::LazyLock;

use regex_automata::meta::Regex;

/// The arguments of a command line, from `/proc/PID/cmdline`, with what looks like a secret replaced by `***`.
///
/// Arguments that are not UTF-8 are shown with escapes. The whole is cut at [`LONGEST`] bytes, after scrubbing.
pub(super) fn command_line(raw: &[u8]) -> Vec<String> {
    let raw = raw.strip_suffix(b"\0").unwrap_or(raw);
    if raw.is_empty() {
        return Vec::new();
    }
    let mut scrubber = Scrubber::default();
    let mut left = LONGEST;
    let mut shown = Vec::new();
    for argument in raw.split(|byte| *byte == 0) {
        let text = match std::str::from_utf8(argument) {
            Ok(text) => text.to_owned(),
            Err(_) => argument.escape_ascii().to_string(),
        };
        let mut text = scrubber.argument(&text);
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

#[derive(Default)]
struct Scrubber {
    /// Program whose short options are known, by its base name.
    program: Option<String>,
    /// The next argument is the value of an option that names a secret.
    next_is_secret: bool,
    /// The next argument is `user:password`.
    next_is_login: bool,
}

impl Scrubber {
    fn argument(&mut self, argument: &str) -> String {
        let Some(program) = &self.program else {
            self.program = Some(argument.rsplit('/').next().unwrap_or(argument).to_owned());
            return by_looks(argument);
        };
        if std::mem::take(&mut self.next_is_secret) {
            return HIDDEN.to_owned();
        }
        if std::mem::take(&mut self.next_is_login) {
            return hide_after_colon(argument);
        }
        let is_mysql = ["mysql", "mariadb"]
            .iter()
            .any(|family| program.starts_with(family));
        let is_curl = matches!(program.as_str(), "curl" | "wget");
        match argument {
            "-p" if program == "sshpass" => self.next_is_secret = true,
            "-u" | "-U" | "--user" | "--proxy-user" if is_curl => self.next_is_login = true,
            "-a" if program == "redis-cli" => self.next_is_secret = true,
            _ => {}
        }
        if let Some(value) = argument.strip_prefix("-p")
            && !value.is_empty()
            && (is_mysql || program == "sshpass")
        {
            return format!("-p{HIDDEN}");
        }
        if let Some(login) = argument.strip_prefix("-u")
            && is_curl
            && login.contains(':')
        {
            return format!("-u{}", hide_after_colon(login));
        }
        match argument.split_once('=') {
            Some((name, _)) if is_word(name) && names_secret(name) => format!("{name}={HIDDEN}"),
            Some((name @ ("--user" | "--proxy-user"), login)) if is_curl => {
                format!("{name}={}", hide_after_colon(login))
            }
            None if argument.starts_with('-') && is_word(argument) && names_secret(argument) => {
                self.next_is_secret = true;
                argument.to_owned()
            }
            _ => by_looks(argument),
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

fn hide_after_colon(login: &str) -> String {
    login
        .split_once(':')
        .map_or_else(|| login.to_owned(), |(user, _)| format!("{user}:{HIDDEN}"))
}

/// Replaces secrets inside an argument: URLs with a password, `password=…` of a connection string or of a shell
/// command, authorization headers, tokens known by their looks.
fn by_looks(argument: &str) -> String {
    let Some(patterns) = PATTERNS.as_ref() else {
        return HIDDEN.to_owned();
    };
    let mut text = argument.to_owned();
    for pattern in patterns {
        let mut out = String::with_capacity(text.len());
        let mut copied = 0;
        for found in pattern.captures_iter(&text) {
            // Group 1 is the secret, the rest is context that stays.
            let Some(secret) = found.get_group(1) else {
                continue;
            };
            out.push_str(text.get(copied..secret.start).unwrap_or_default());
            out.push_str(HIDDEN);
            copied = secret.end;
        }
        out.push_str(text.get(copied..).unwrap_or_default());
        text = out;
    }
    text
}

/// `None` if a pattern did not compile, which a test rules out; then whole arguments are hidden.
static PATTERNS: LazyLock<Option<Vec<Regex>>> = LazyLock::new(|| {
    [
        // scheme://user:SECRET@host, to the last @ of the word: a password may hold one, and clients differ in
        // where they end it.
        r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*:(\S+)@",
        // password=SECRET, "token": "SECRET", PGPASSWORD='SECRET'
        r#"(?i)[\w.-]*(?:password|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential)[\w.-]*["']?\s*[=:]\s*('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&;,"']+)"#,
        // --password SECRET inside a shell command
        r#"(?i)--?(?:password|passwd|passphrase|secret|token|api-key|access-key)\s+('[^']*'|"[^"]*"|[^\s&;,"'-][^\s&;,"']*)"#,
        // SQL on a command line: PASSWORD 'SECRET', IDENTIFIED BY 'SECRET'
        r"(?i)\b(?:password|identified\s+by)\s+(?:e|u&)?('(?:[^'\\]|\\.|'')*'|\$(?:\w*)\$[^$]*\$\w*\$)",
        // Authorization: Bearer SECRET
        r#"(?i)authorization["']?\s*[:=]\s*["']?((?:basic|bearer|token|digest)?\s*[^\s"']+)"#,
        r"\b(eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*)",
        r"\b(gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abprs]-[\w-]{10,}|sk-[\w-]{20,}|AGE-SECRET-KEY-1[0-9A-Z]{20,})",
        r"(-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?)",
    ]
    .into_iter()
    .map(|pattern| Regex::new(pattern).ok())
    .collect()
});

const HIDDEN: &str = "***";
/// Longest command line that is shown, in bytes.
const LONGEST: usize = 4096;
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
