//! `source = "oauth2"`.

use std::time::Duration;

use crate::config::issuer::{ClientAuth, Oauth2Grant, Oauth2Spec, SubjectToken};
use crate::config::policy::Protocol;
use crate::config::reader::{Table, Wrong};
use crate::config::scalar;

use super::credential::share;
use super::github_app::private_key;
use super::issuer::{self, address, text};
use super::{JobProof, or_default, source_spec};

const LEAST_TTL: Duration = Duration::from_secs(10);
const MOST_TTL: Duration = Duration::from_hours(24);
const LONGEST: usize = 2048;

/// The keys that it takes, besides `source` and `database`.
pub(super) const KEYS: &[&str] = &[
    "endpoint",
    "endpoint_ca",
    "timeout",
    "revocation_endpoint",
    "grant_type",
    "client_id",
    "client_auth",
    "client_secret",
    "client_key",
    "refresh_token",
    "subject_token_type",
    "scope",
    "audience",
    "resource",
    "user",
    "ttl",
    "share",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    Client,
    Refresh,
    Exchange,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Auth {
    Basic,
    Post,
    PrivateKey,
    None,
}

/// `proof`: what the policy asks jobs for.
pub(super) fn oauth2(table: &Table<'_>, protocol: Option<Protocol>, proof: JobProof) -> Option<Oauth2Spec> {
    let issuer = issuer::issuer(table, None);
    let revocation = or_default(table.optional("revocation_endpoint"), None, |field| {
        field.parsed(address).map(Some)
    });
    let which = table.required("grant_type").and_then(|field| {
        let grants = [
            ("client_credentials", Grant::Client),
            ("refresh_token", Grant::Refresh),
            ("token_exchange", Grant::Exchange),
        ];
        let which = field.one_of(&grants, &[])?;
        if which == Grant::Exchange && proof == JobProof::None {
            field.error(
                "the workload's own token is what an exchange trades, and this policy asks for none",
                "add [identity] with the issuer of the job's tokens, or name another grant_type",
            );
            return None;
        }
        Some(which)
    });
    let client_id = table
        .required("client_id")
        .and_then(|field| field.parsed(|text| scalar::line(text, LONGEST)));
    let auth = client_auth(table, which);
    let grant = which.and_then(|which| grant(table, which, proof));
    let scope = or_default(table.optional("scope"), Vec::new(), |field| {
        field.parsed_list("name at least one scope, or remove the key", one_scope)
    });
    let audience = or_default(table.optional("audience"), None, |field| {
        text(field, LONGEST).map(Some)
    });
    let resource = or_default(table.optional("resource"), None, |field| {
        text(field, LONGEST).map(Some)
    });
    let user = or_default(table.optional("user"), None, |field| {
        source_spec(field, true).map(Some)
    });
    if protocol == Some(Protocol::Postgres) && table.optional("user").is_none() {
        table.error(
            "a postgres service logs in with user and password: a token can be the password, and the user is missing",
            "add user = \"…\", the role whose password the server takes the token for",
        );
    }
    let ttl = or_default(table.optional("ttl"), None, |field| {
        field
            .parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
            .map(Some)
    });
    let share = share(table);
    Some(Oauth2Spec {
        issuer: issuer?,
        revocation: revocation?,
        grant: grant?,
        client_id: client_id?,
        auth: auth?,
        scope: scope?,
        audience: audience?,
        resource: resource?,
        user: user?,
        ttl: ttl?,
        share: share?,
    })
}

fn client_auth(table: &Table<'_>, grant: Option<Grant>) -> Option<ClientAuth> {
    let auths = [
        ("basic", Auth::Basic),
        ("post", Auth::Post),
        ("private_key_jwt", Auth::PrivateKey),
        ("none", Auth::None),
    ];
    let auth = or_default(table.optional("client_auth"), Auth::Basic, |field| {
        let auth = field.one_of(&auths, &[])?;
        if auth == Auth::None && grant.is_some_and(|grant| grant == Grant::Client) {
            field.error(
                "with \"client_credentials\" the client's own proof is all that the issuer goes by",
                "write \"basic\", \"post\" or \"private_key_jwt\"",
            );
            return None;
        }
        Some(auth)
    })?;
    if !matches!(auth, Auth::Basic | Auth::Post) {
        table.refuse(
            "client_secret",
            "\"client_secret\" has no effect with this client_auth",
            "remove it",
        );
    }
    if auth != Auth::PrivateKey {
        table.refuse(
            "client_key",
            "\"client_key\" has a meaning with client_auth = \"private_key_jwt\" alone",
            "remove it, or name that client_auth",
        );
    }
    let secret = |key: &'static str| table.required(key).and_then(|field| source_spec(field, false));
    match auth {
        Auth::Basic => secret("client_secret").map(ClientAuth::Basic),
        Auth::Post => secret("client_secret").map(ClientAuth::Post),
        Auth::PrivateKey => table
            .required("client_key")
            .and_then(private_key)
            .map(ClientAuth::PrivateKey),
        Auth::None => Some(ClientAuth::None),
    }
}

fn grant(table: &Table<'_>, grant: Grant, proof: JobProof) -> Option<Oauth2Grant> {
    if grant != Grant::Refresh {
        table.refuse(
            "refresh_token",
            "\"refresh_token\" has a meaning with that grant_type alone",
            "remove it, or write grant_type = \"refresh_token\"",
        );
    }
    if grant == Grant::Refresh {
        table.refuse(
            "revocation_endpoint",
            "an issuer that voids an access token may void the refresh token with it (RFC 7009, 2.1), and every later session needs that",
            "remove it: the token ends by itself",
        );
    }
    if grant != Grant::Exchange {
        table.refuse(
            "subject_token_type",
            "\"subject_token_type\" has a meaning with grant_type = \"token_exchange\" alone",
            "remove it",
        );
    }
    match grant {
        Grant::Client => Some(Oauth2Grant::ClientCredentials),
        Grant::Refresh => table
            .required("refresh_token")
            .and_then(|field| source_spec(field, false))
            .map(Oauth2Grant::RefreshToken),
        Grant::Exchange => {
            if proof == JobProof::Assertion {
                table.refuse(
                    "subject_token_type",
                    "this policy asks jobs for a SAML assertion, and that is of one type",
                    "remove it: the assertion is shown as urn:ietf:params:oauth:token-type:saml2",
                );
            }
            let kinds = [
                ("jwt", SubjectToken::Jwt),
                ("id_token", SubjectToken::IdToken),
                ("access_token", SubjectToken::AccessToken),
            ];
            or_default(table.optional("subject_token_type"), SubjectToken::Jwt, |field| {
                field.one_of(&kinds, &[])
            })
            .map(Oauth2Grant::TokenExchange)
        }
    }
}

/// RFC 6749 §3.3.
fn one_scope(text: &str) -> Result<String, Wrong> {
    let fits = (1..=255).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\');
    if fits {
        return Ok(text.into());
    }
    Err(Wrong::new(
        format!("\"{}\" is no scope", text.escape_debug()),
        "write each scope as a text of its own, such as [\"orders.read\", \"orders.list\"]",
    ))
}
