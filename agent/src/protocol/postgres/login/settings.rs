//! Which settings of its start-up packet a client may pass on to the target.
//!
//! An allow-list: how long things may take, how values look, how a transaction behaves by default. Whatever changes
//! who acts (`role`, `session_authorization`), what the server runs (`session_preload_libraries`), or how text is
//! read (`standard_conforming_strings = off`, an encoding in which a quote can be half of a character) is not on it
//! and is refused. `search_path` is on it and is told to the caller, since it changes what names mean.
//!
//! `options` is taken apart and passed on as single parameters, so the server never parses it a second time.

use super::super::startup::{Fatal, Startup};

/// Settings that pass, in lower case, with what their values may be.
const ALLOWED: &[(&str, Values)] = &[
    ("application_name", Values::Any),
    ("bytea_output", Values::Any),
    ("client_encoding", Values::SafeEncoding),
    (
        "client_min_messages",
        Values::OneOf(&["notice", "warning", "error"]),
    ),
    ("datestyle", Values::Any),
    ("default_transaction_deferrable", Values::Any),
    ("default_transaction_isolation", Values::Any),
    ("default_transaction_read_only", Values::Any),
    ("extra_float_digits", Values::Any),
    ("geqo", Values::Any),
    ("idle_in_transaction_session_timeout", Values::Any),
    ("idle_session_timeout", Values::Any),
    ("intervalstyle", Values::Any),
    ("jit", Values::Any),
    ("lock_timeout", Values::Any),
    ("search_path", Values::Any),
    (
        "standard_conforming_strings",
        Values::OneOf(&["on", "true", "yes", "1"]),
    ),
    ("statement_timeout", Values::Any),
    ("tcp_keepalives_count", Values::Any),
    ("tcp_keepalives_idle", Values::Any),
    ("tcp_keepalives_interval", Values::Any),
    ("tcp_user_timeout", Values::Any),
    ("timezone", Values::Any),
];

/// Encodings in which a byte below 0x80 is always that ASCII character, as PostgreSQL compares their names: lower
/// case, letters and digits alone. Not among them, on purpose: Big5, GB18030, GBK, Johab, Shift JIS, UHC.
const SAFE_ENCODINGS: &[&str] = &[
    "unicode",
    "utf8",
    "sqlascii",
    "latin1",
    "latin2",
    "latin3",
    "latin4",
    "latin5",
    "latin6",
    "latin7",
    "latin8",
    "latin9",
    "latin10",
    "iso88591",
    "iso88592",
    "iso88593",
    "iso88594",
    "iso88595",
    "iso88596",
    "iso88597",
    "iso88598",
    "iso88599",
    "iso885910",
    "iso885913",
    "iso885914",
    "iso885915",
    "iso885916",
    "koi8",
    "koi8r",
    "koi8u",
    "windows866",
    "windows874",
    "windows1250",
    "windows1251",
    "windows1252",
    "windows1253",
    "windows1254",
    "windows1255",
    "windows1256",
    "windows1257",
    "windows1258",
    "win866",
    "win874",
    "win1250",
    "win1251",
    "win1252",
    "win1253",
    "win1254",
    "win1255",
    "win1256",
    "win1257",
    "win1258",
    "win",
    "alt",
    "abc",
    "tcvn",
    "tcvn5712",
    "vscii",
    "euccn",
    "eucjp",
    "eucjis2004",
    "euckr",
    "euctw",
];

/// Settings for the target, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: Vec<(String, String)>,
}

/// Why a client's settings are refused: policy, or its own mistake. Names settings, never their values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// The setting is not on the list.
    #[error("tollgate: the setting \"{0}\" may not be made at the start of a session")]
    NotAllowed(String),
    /// The setting is on the list, but not with this value.
    #[error("tollgate: the setting \"{0}\" may not have this value at the start of a session")]
    NotThisValue(String),
    /// A switch in `options` other than `-c name=value` and `--name=value`.
    #[error("tollgate: the switch \"{0}\" may not be used in the connection option \"options\"")]
    Switch(String),
    /// A switch in `options` without its value.
    #[error("tollgate: a setting in the connection option \"options\" has no value: write \"-c name=value\"")]
    NoValue,
}

enum Values {
    Any,
    OneOf(&'static [&'static str]),
    SafeEncoding,
}

impl Settings {
    /// Takes the settings out of `startup`, those in its `options` included. A setting of its own counts more than
    /// one in `options`, and a later one in `options` more than an earlier one, as in PostgreSQL.
    ///
    /// # Errors
    /// A setting, its value or a switch is not on the list.
    pub fn of(startup: &Startup) -> Result<Self, SettingsError> {
        let mut settings = Self::default();
        for (name, value) in split_options(startup.options.as_deref().unwrap_or_default())? {
            settings.put(&name, value)?;
        }
        for (name, value) in &startup.settings {
            settings.put(name, value.clone())?;
        }
        Ok(settings)
    }

    /// Name and value of each, names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The `search_path` that the session starts with, where the client set one: it changes what names mean.
    pub fn search_path(&self) -> Option<&str> {
        self.iter()
            .find_map(|(name, value)| (name == "search_path").then_some(value))
    }

    /// Settings of the agent's own sessions.
    pub fn own(values: &[(&str, &str)]) -> Self {
        Self {
            values: values
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn put(&mut self, name: &str, value: String) -> Result<(), SettingsError> {
        let folded = name.to_ascii_lowercase();
        let Some((_, values)) = ALLOWED.iter().find(|(allowed, _)| *allowed == folded) else {
            return Err(SettingsError::NotAllowed(name.to_owned()));
        };
        let fits = match values {
            Values::Any => true,
            Values::OneOf(list) => list.iter().any(|known| value.eq_ignore_ascii_case(known)),
            Values::SafeEncoding => is_safe_encoding(&value),
        };
        if !fits {
            return Err(SettingsError::NotThisValue(name.to_owned()));
        }
        match self.values.iter_mut().find(|(known, _)| *known == folded) {
            Some((_, old)) => *old = value,
            None => self.values.push((folded, value)),
        }
        Ok(())
    }
}

impl SettingsError {
    /// What the client is told.
    pub fn to_client(&self) -> Fatal {
        Fatal::new("42501", self.to_string()).with_hint(
            "Leave it out of the connection string, PGOPTIONS and the driver's settings; SET it in the session, where a rule allows that.",
        )
    }
}

/// Whether text in this client encoding can be read byte by byte as far as quotes and names in ASCII go. A session
/// whose `client_encoding` is another must not be judged by its text.
pub fn is_safe_encoding(name: &str) -> bool {
    let folded: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|letter| letter.to_ascii_lowercase())
        .collect();
    SAFE_ENCODINGS.contains(&folded.as_str())
}

fn split_options(options: &str) -> Result<Vec<(String, String)>, SettingsError> {
    let mut settings = Vec::new();
    let mut words = words(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if let Some(long) = word.strip_prefix("--") {
            long.to_owned()
        } else if word == "-c" {
            words.next().ok_or(SettingsError::NoValue)?
        } else if let Some(joined) = word.strip_prefix("-c") {
            joined.to_owned()
        } else {
            return Err(SettingsError::Switch(word));
        };
        let (name, value) = assignment.split_once('=').ok_or(SettingsError::NoValue)?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Splits as `pg_split_opts` does: at white space; a backslash takes the next character as it is.
fn words(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut letters = options.chars();
    while let Some(letter) = letters.next() {
        match letter {
            // What C's isspace() knows, the vertical tab included.
            ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(letters.next()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::{Settings, SettingsError, is_safe_encoding};
    use crate::protocol::postgres::startup::Startup;

    fn settings(options: &str, own: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::of(&Startup {
            user: "ann".to_owned(),
            database: None,
            options: Some(options.to_owned()),
            settings: own
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            minor: 0,
            extensions: Vec::new(),
        })
    }

    #[test]
    fn options_are_taken_apart_as_the_server_would() {
        let found = settings(
            r"-c statement_timeout=5s  --lock-timeout=1s -cTimeZone=Europe/Berlin -c application_name=my\ job\\",
            &[],
        )
        .unwrap();
        let pairs: Vec<_> = found.iter().collect();
        assert_eq!(
            pairs,
            [
                ("statement_timeout", "5s"),
                ("lock_timeout", "1s"),
                ("timezone", "Europe/Berlin"),
                ("application_name", "my job\\"),
            ]
        );
    }

    #[test]
    fn a_parameter_of_its_own_counts_more_than_one_in_options() {
        let found = settings(
            "-c search_path=a -c search_path=b -c timezone=UTC",
            &[("TimeZone", "CET"), ("DateStyle", "ISO")],
        )
        .unwrap();
        let pairs: Vec<_> = found.iter().collect();
        assert_eq!(
            pairs,
            [("search_path", "b"), ("timezone", "CET"), ("datestyle", "ISO")]
        );
        assert_eq!(found.search_path(), Some("b"));
    }

    #[test]
    fn what_changes_who_acts_or_how_text_is_read_is_refused() {
        for options in [
            "-c role=postgres",
            "-cROLE=postgres",
            "--role=postgres",
            "--session-authorization=postgres",
            "-c session_preload_libraries=x",
            "-c session_replication_role=replica",
            "-c row_security=off",
            "-c standard_conforming_strings=off",
            "-c client_encoding=SJIS",
            "-c client_encoding=big5",
            "-c client_min_messages=debug5",
            "-c timezone=UTC -c role=postgres",
            r"-c ro\le=postgres",
        ] {
            assert!(settings(options, &[]).is_err(), "{options}");
        }
        for own in [
            ("role", "postgres"),
            ("Session_Authorization", "x"),
            ("client_encoding", "GBK"),
        ] {
            assert!(settings("", &[own]).is_err(), "{own:?}");
        }
    }

    #[test]
    fn switches_other_than_settings_are_refused() {
        for options in ["-d 5", "-O", "-W 10", "-t planner", "-v 2", "word", "-", "-f n"] {
            assert!(
                matches!(settings(options, &[]), Err(SettingsError::Switch(_))),
                "{options}"
            );
        }
        for options in ["-c", "-c timezone", "--timezone", "--"] {
            assert_eq!(settings(options, &[]), Err(SettingsError::NoValue), "{options}");
        }
    }

    #[test]
    fn a_refusal_names_the_setting_and_not_its_value() {
        let told = settings("-c role=hidden", &[]).unwrap_err().to_client();
        assert!(told.message.contains("\"role\"") && !told.message.contains("hidden"));
        assert_eq!(told.code, "42501");
    }

    #[test]
    fn encodings_are_compared_as_the_server_does() {
        for safe in [
            "UTF8",
            "utf-8",
            "Unicode",
            "LATIN1",
            "ISO_8859-5",
            "SQL_ASCII",
            "EUC_JP",
            "WIN1252",
        ] {
            assert!(is_safe_encoding(safe), "{safe}");
        }
        for unsafe_ in [
            "SJIS",
            "Shift_JIS_2004",
            "mskanji",
            "BIG5",
            "GBK",
            "GB18030",
            "UHC",
            "JOHAB",
            "",
            "klingon",
        ] {
            assert!(!is_safe_encoding(unsafe_), "{unsafe_}");
        }
    }
}
