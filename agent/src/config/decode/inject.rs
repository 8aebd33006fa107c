//! `inject` and `placeholder` of `[service.credential]`, and which source's credential fits which protocol.

use crate::config::credential::CredentialKind;
use crate::config::glob::Glob;
use crate::config::inject::{HttpCredential, Inject, Placeholder};
use crate::config::keys;
use crate::config::policy::Protocol;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::vault::{KvFields, VaultEngine};

use super::or_default;

const LONGEST_NAME: usize = 128;
/// A placeholder that is shorter may be in a request by chance.
const LEAST_PLACEHOLDER: usize = 8;
const MOST_PLACEHOLDER: usize = 512;

/// Headers that say how a message is to be read or where it goes: what stands in them is not the policy's to choose.
const FRAMING: &[&str] = &[
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a source gives, as far as a policy tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// User and password.
    Login,
    /// User and password of a server of this kind, which the source makes them on.
    LoginOf(&'static str),
    /// One text.
    Token,
    /// A key and a certificate for TLS.
    TlsKey,
    /// A key and a certificate for SSH.
    SshKey,
    /// Keys of AWS.
    Aws,
    /// Whatever a program prints.
    Anything,
}

impl Gives {
    fn of(kind: &CredentialKind) -> Self {
        match kind {
            CredentialKind::Static { .. } => Self::Login,
            CredentialKind::StaticToken(_) => Self::Token,
            CredentialKind::StaticKey { .. } => Self::TlsKey,
            CredentialKind::Exec(_) => Self::Anything,
            CredentialKind::PostgresRole(_) => Self::LoginOf("a PostgreSQL server"),
            CredentialKind::MysqlUser(_) => Self::LoginOf("a MariaDB server"),
            CredentialKind::SshCa(_) => Self::SshKey,
            CredentialKind::Vault(spec) => match &spec.engine {
                VaultEngine::Kv {
                    fields: KvFields::Token(_),
                    ..
                } => Self::Token,
                VaultEngine::Kv { .. } | VaultEngine::Database { .. } | VaultEngine::StaticRole { .. } => {
                    Self::Login
                }
                VaultEngine::Ssh { .. } => Self::SshKey,
            },
            CredentialKind::Oauth2(spec) if spec.user.is_some() => Self::Login,
            CredentialKind::Oauth2(_) | CredentialKind::GithubApp(_) => Self::Token,
            CredentialKind::Aws(_) => Self::Aws,
        }
    }

    /// For messages.
    fn what(self) -> String {
        match self {
            Self::Login => "a user and a password".to_owned(),
            Self::LoginOf(server) => format!("a login to {server}"),
            Self::Token => "a token".to_owned(),
            Self::TlsKey => "a key and a certificate".to_owned(),
            Self::SshKey => "a key and a certificate for SSH".to_owned(),
            Self::Aws => "keys that sign requests to AWS".to_owned(),
            Self::Anything => "what its program prints".to_owned(),
        }
    }

    /// What a service of HTTP does with it where the policy does not say. `None`: the policy has to.
    fn usual(self) -> Option<Inject> {
        match self {
            Self::Login => Some(Inject::Basic { user: None }),
            Self::Token => Some(bearer()),
            Self::TlsKey => Some(Inject::Tls),
            Self::Aws => Some(Inject::SigV4 {
                service: None,
                region: None,
            }),
            Self::LoginOf(_) | Self::SshKey | Self::Anything => None,
        }
    }

    /// Whether a request can have it in this way.
    fn goes(self, inject: &Inject) -> bool {
        match self {
            Self::Anything => true,
            Self::LoginOf(_) | Self::SshKey => false,
            Self::Login => matches!(
                inject,
                Inject::Basic { user: None } | Inject::SigV4 { .. } | Inject::Placeholder
            ),
            Self::Token => matches!(
                inject,
                Inject::Header { .. }
                    | Inject::Query { .. }
                    | Inject::Cookie { .. }
                    | Inject::Basic { user: Some(_) }
                    | Inject::Placeholder
            ),
            Self::TlsKey => matches!(inject, Inject::Tls),
            Self::Aws => matches!(inject, Inject::SigV4 { .. }),
        }
    }

    /// The ways in which it goes, for messages.
    fn ways(self) -> &'static str {
        match self {
            Self::Login => {
                "write inject = \"basic\", or \"sigv4\" where the user is an access key id; a secret alone is source's \"token\""
            }
            Self::Token => {
                "write inject = \"bearer\", { header = \"X-Api-Key\" }, { query = \"key\" }, { cookie = \"session\" } or \
                 { basic = \"USER\" }"
            }
            Self::TlsKey => "write inject = \"tls\"",
            Self::Aws => "write inject = \"sigv4\"",
            Self::LoginOf(_) | Self::SshKey | Self::Anything => "name another source",
        }
    }
}

fn bearer() -> Inject {
    Inject::Header {
        name: "authorization".to_owned(),
        scheme: Some("Bearer".to_owned()),
    }
}

/// The table of protocol, what a source gives, and how it goes into a request: refuses what cannot work. `None`: it was
/// refused, or the service is none of HTTP's.
pub(super) fn fitting(
    table: &Table<'_>,
    (protocol, http): (Option<Protocol>, bool),
    kind: Option<&CredentialKind>,
) -> Option<HttpCredential> {
    if !http {
        if protocol.is_some() {
            for key in ["inject", "placeholder"] {
                table.refuse(
                    key,
                    &format!("\"{key}\" says how a request of HTTP gets a credential, and this service is none of HTTP's"),
                    "remove it, or write protocol = \"http\"",
                );
            }
        }
        if let (Some(Protocol::Postgres), Some(kind)) = (protocol, kind) {
            for_postgres(table, kind);
        }
        return None;
    }
    let inject = or_default(table.optional("inject"), None, |field| inject(field).map(Some));
    let placeholder = or_default(table.optional("placeholder"), None, |field| {
        placeholder(field).map(Some)
    });
    let kind = kind?;
    let gives = Gives::of(kind);
    // Sources that give no login have refused it themselves.
    if matches!(gives, Gives::Login | Gives::Anything)
        || matches!(
            kind,
            CredentialKind::Oauth2(_)
                | CredentialKind::StaticToken(_)
                | CredentialKind::StaticKey { .. }
                | CredentialKind::Vault(_)
        )
    {
        table.refuse(
            "database",
            "\"database\" is of a login to a database, which a request of HTTP has none of",
            "remove it",
        );
    }
    if matches!(gives, Gives::LoginOf(_) | Gives::SshKey) {
        table.error(
            format!(
                "\"{}\" makes {}, and no http service takes these",
                kind.name(),
                gives.what()
            ),
            "name another source",
        );
        return None;
    }
    let said = inject?;
    let Some(inject) = said.clone().or_else(|| gives.usual()) else {
        table.error(
            format!(
                "what a program prints may be anything, so the policy has to say how a request gets what \"{}\" gives",
                kind.name()
            ),
            "add inject = \"bearer\", \"basic\", { header = \"X-Api-Key\" } or another way",
        );
        return None;
    };
    if !gives.goes(&inject) {
        let message = format!(
            "\"{}\" gives {}, and inject = \"{}\" cannot put that into a request",
            kind.name(),
            gives.what(),
            inject.name()
        );
        match table.optional("inject") {
            Some(field) => field.error(message, gives.ways()),
            None => table.error(message, gives.ways()),
        }
        return None;
    }
    let placeholder = placeholder?;
    placeholder_fits(table, &inject, placeholder.as_ref())?;
    if inject == Inject::Tls {
        table.error(
            "certificates of clients are not shown to targets of HTTP yet",
            "name a source of a token or a login, which the target has to take in place of a certificate",
        );
        return None;
    }
    Some(HttpCredential { inject, placeholder })
}

/// What a PostgreSQL server cannot be logged in to with.
fn for_postgres(table: &Table<'_>, kind: &CredentialKind) {
    let gives = Gives::of(kind);
    let (message, help) = match gives {
        // Others have said already what is wrong with these, where they are.
        Gives::Login | Gives::Anything | Gives::LoginOf(_) => return,
        Gives::SshKey if matches!(kind, CredentialKind::Vault(_)) => return,
        Gives::Token if matches!(kind, CredentialKind::Vault(_) | CredentialKind::Oauth2(_)) => return,
        Gives::SshKey => (
            "\"ssh-ca\" makes a key and a certificate for SSH, and no postgres service takes these"
                .to_owned(),
            "name another source; protocol = \"ssh\" is for a later version",
        ),
        Gives::Token | Gives::TlsKey | Gives::Aws => (
            format!(
                "\"{}\" gives {}, and no postgres service takes these",
                kind.name(),
                gives.what()
            ),
            "write user and password, or name another source",
        ),
    };
    table.error(message, help);
}

fn placeholder_fits(table: &Table<'_>, inject: &Inject, placeholder: Option<&Placeholder>) -> Option<()> {
    match (inject, placeholder) {
        (Inject::Placeholder, None) => {
            table.error(
                "inject = \"placeholder\" puts the secret where the placeholder is, and there is none",
                "add placeholder = { text = \"…\", bodies = [\"/login\"] }",
            );
            None
        }
        (Inject::Placeholder, Some(placeholder)) if placeholder.bodies.is_empty() => {
            table.error(
                "inject = \"placeholder\" is for bodies alone, and the placeholder is replaced in none",
                "write placeholder = { text = \"…\", bodies = [\"/login\"] }",
            );
            None
        }
        (Inject::SigV4 { .. } | Inject::Tls, Some(placeholder)) if !placeholder.bodies.is_empty() => {
            table.error(
                format!(
                    "inject = \"{}\" sends no secret, so there is none to put into a body",
                    inject.name()
                ),
                "write the placeholder as a text alone",
            );
            None
        }
        _ => Some(()),
    }
}

fn inject(field: Field<'_>) -> Option<Inject> {
    if !field.is_table() {
        let words = [
            ("bearer", 0_u8),
            ("basic", 1),
            ("sigv4", 2),
            ("tls", 3),
            ("placeholder", 4),
        ];
        return field
            .one_of(&words, &["digest", "negotiate", "hmac"])
            .map(|word| match word {
                0 => bearer(),
                1 => Inject::Basic { user: None },
                2 => Inject::SigV4 {
                    service: None,
                    region: None,
                },
                3 => Inject::Tls,
                _ => Inject::Placeholder,
            });
    }
    let table = field.table(&keys::INJECT)?;
    let ways = ["header", "query", "cookie", "basic", "sigv4"];
    let given: Vec<Field<'_>> = ways.into_iter().filter_map(|way| table.optional(way)).collect();
    let [way] = given.as_slice() else {
        table.error(
            "\"inject\" has to say one place",
            "write { header = \"X-Api-Key\" }, { query = \"key\" }, { cookie = \"session\" }, { basic = \"USER\" } or \
             { sigv4 = \"s3\" }",
        );
        return None;
    };
    for (key, of) in [("scheme", "header"), ("region", "sigv4")] {
        if way.key() != of {
            table.refuse(
                key,
                &format!("\"{key}\" belongs to \"{of}\", and has no effect here"),
                "remove it",
            );
        }
    }
    match way.key() {
        "header" => {
            let scheme = or_default(table.optional("scheme"), None, |field| {
                field.parsed(scheme).map(Some)
            });
            let name = way.parsed(header);
            Some(Inject::Header {
                name: name?,
                scheme: scheme?,
            })
        }
        "query" => way.parsed(query).map(|name| Inject::Query { name }),
        "cookie" => way.parsed(token).map(|name| Inject::Cookie { name }),
        "basic" => way.parsed(user).map(|user| Inject::Basic { user: Some(user) }),
        _ => {
            let region = or_default(table.optional("region"), None, |field| {
                field
                    .parsed(|text| label(text, "region", "eu-central-1"))
                    .map(Some)
            });
            let service = way.parsed(|text| label(text, "service", "s3"));
            Some(Inject::SigV4 {
                service: Some(service?),
                region: region?,
            })
        }
    }
}

fn placeholder(field: Field<'_>) -> Option<Placeholder> {
    if !field.is_table() {
        return field.parsed(placeholder_text).map(|text| Placeholder {
            text,
            bodies: Vec::new(),
        });
    }
    let table = field.table(&keys::PLACEHOLDER)?;
    let text = table
        .required("text")
        .and_then(|field| field.parsed(placeholder_text));
    let bodies = or_default(table.optional("bodies"), Vec::new(), |field| {
        field.parsed_list("name the paths of the requests, or remove the key", body_path)
    });
    Some(Placeholder {
        text: text?,
        bodies: bodies?,
    })
}

fn placeholder_text(text: &str) -> Result<String, Wrong> {
    let fits = (LEAST_PLACEHOLDER..=MOST_PLACEHOLDER).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "a placeholder has to look the same wherever it stands, and be nothing that is there by chance",
        format!(
            "use {LEAST_PLACEHOLDER} to {MOST_PLACEHOLDER} letters, digits, \"-\", \".\", \"_\" and \"~\""
        ),
    ))
}

fn body_path(text: &str) -> Result<Glob, Wrong> {
    let wrong = |what: String| {
        Wrong::new(
            what,
            "write a path from /, such as \"/oauth/token\"; \"*\" stays within one part, \"**\" does not",
        )
    };
    if !text.starts_with('/') {
        return Err(wrong(format!(
            "\"{}\" is no path of a request",
            text.escape_debug()
        )));
    }
    Glob::path(text).map_err(|error| wrong(error.to_string()))
}

/// RFC 9110 §5.6.2.
fn is_token(text: &str) -> bool {
    (1..=LONGEST_NAME).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn token(text: &str) -> Result<String, Wrong> {
    if is_token(text) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" is no name of a cookie", text.escape_debug()),
        "write its name alone, such as \"session\"",
    ))
}

fn scheme(text: &str) -> Result<String, Wrong> {
    if is_token(text) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "the scheme is no single word",
        "write the word that stands before the secret, such as \"Bearer\"",
    ))
}

fn header(text: &str) -> Result<String, Wrong> {
    let help =
        "write the name of a header that is the API's own, such as \"X-Api-Key\", or \"Authorization\"";
    let name = text.to_ascii_lowercase();
    if !is_token(text) {
        return Err(Wrong::new(
            format!("\"{}\" is no name of a header", text.escape_debug()),
            help,
        ));
    }
    if FRAMING.contains(&name.as_str()) {
        return Err(Wrong::new(
            format!("\"{text}\" is a header that HTTP itself goes by"),
            if name == "cookie" {
                "write { cookie = \"NAME\" }"
            } else {
                help
            },
        ));
    }
    Ok(name)
}

fn query(text: &str) -> Result<String, Wrong> {
    if (1..=LONGEST_NAME).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "a parameter has to be a word of visible ASCII",
        "write its name alone, not encoded, such as \"key\"",
    ))
}

fn user(text: &str) -> Result<String, Wrong> {
    let fits = (1..=LONGEST_NAME).contains(&text.len())
        && !text.contains(':')
        && !text.chars().any(char::is_control);
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        "a user of basic authentication has no colon and no control character in it (RFC 7617)",
        "write the user whose password the token is, such as \"x-access-token\"",
    ))
}

fn label(text: &str, what: &str, example: &str) -> Result<String, Wrong> {
    let fits = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" is no {what} of AWS", text.escape_debug()),
        format!("write it as AWS signs it, such as \"{example}\""),
    ))
}
