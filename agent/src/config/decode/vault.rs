//! `source = "vault"` in `[service.credential]`.

use std::time::Duration;

use crate::config::credential::{CredentialKind, Share};
use crate::config::keys;
use crate::config::load::locate;
use crate::config::policy::{IdentitySpec, Proof, Protocol, ServiceDoc};
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;
use crate::config::vault::{KvFields, KvVersion, VaultAuth, VaultEngine, VaultServer, VaultSpec};

use super::credential::share;
use super::{or_default, source_spec};

pub(super) const KEYS: &[&str] = &["vault", "engine", "max_ttl", "share"];

const MAX_TTL: Duration = Duration::from_hours(24);
const LEAST_TTL: Duration = Duration::from_mins(1);
const MOST_TTL: Duration = Duration::from_hours(7 * 24);
const SSH_TTL: Duration = Duration::from_mins(5);
const LEAST_SSH_TTL: Duration = Duration::from_mins(1);
const MOST_SSH_TTL: Duration = Duration::from_hours(1);
const LONGEST_PATH: usize = 512;

pub(super) fn vault(table: &Table<'_>, protocol: Option<Protocol>) -> Option<VaultSpec> {
    let server = table
        .required("vault")
        .and_then(|field| field.table(&keys::VAULT))
        .and_then(|table| {
            let server = server(&table);
            let auth = table
                .required("auth")
                .and_then(|field| auth(field.table(&keys::VAULT_AUTH)?));
            server.zip(auth)
        });
    let engine = table
        .required("engine")
        .and_then(|field| engine(field.table(&keys::VAULT_ENGINE)?, protocol));
    let max_ttl = or_default(table.optional("max_ttl"), MAX_TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_TTL, MOST_TTL))
    });
    let share = share(table);
    if engine
        .as_ref()
        .is_some_and(|engine| !matches!(engine, VaultEngine::Database { .. }))
    {
        table.refuse(
            "max_ttl",
            "\"max_ttl\" is how long a lease is renewed, and this engine gives none",
            "remove it",
        );
        if share == Some(Share::Workload) {
            table.refuse(
                "share",
                "this engine makes nothing that sessions could share: each asks anew, so that a change counts at once",
                "remove it",
            );
        }
    }
    let (server, auth) = server?;
    Some(VaultSpec {
        server,
        auth,
        engine: engine?,
        max_ttl: max_ttl?,
        share: share?,
    })
}

/// A login with the job's own JWT needs a policy that asks jobs for one.
pub(super) fn check_identity(
    root: &Table<'_>,
    text: &str,
    services: &[ServiceDoc],
    identity: Option<&IdentitySpec>,
) {
    if identity.is_some_and(|identity| matches!(identity.proof, Proof::Oidc)) {
        return;
    }
    for (i, service) in services.iter().enumerate() {
        let kind = service.credential.as_ref().map(|credential| &credential.kind);
        let Some(CredentialKind::Vault(vault)) = kind else {
            continue;
        };
        if matches!(vault.auth, VaultAuth::Jwt { .. }) {
            let at = locate(text, &format!("/service/{i}/credential/vault/auth"));
            root.error_at(
                at.unwrap_or_default(),
                "Vault is to be logged in to with the job's own JWT, and the policy asks jobs for none",
                "add [identity.oidc], or log in with token or role_id",
            );
        }
    }
}

fn server(table: &Table<'_>) -> Option<VaultServer> {
    let address = table.required("address").and_then(|field| field.parsed(address));
    let namespace = or_default(table.optional("namespace"), None, |field| {
        field.parsed(path).map(Some)
    });
    let ca = or_default(table.optional("ca"), None, |field| field.path().map(Some));
    Some(VaultServer {
        address: address?,
        namespace: namespace?,
        ca: ca?,
    })
}

/// Each way to log in has a key that names it.
fn auth(table: Table<'_>) -> Option<VaultAuth> {
    let ways = [
        ("token", table.optional("token")),
        ("role_id", table.optional("role_id")),
        ("jwt", table.optional("jwt")),
    ];
    let given: Vec<(&str, Field<'_>)> = ways
        .into_iter()
        .filter_map(|(way, field)| Some((way, field?)))
        .collect();
    let [(way, field)] = given.as_slice() else {
        table.error(
            "\"auth\" has to say one way to log in",
            "write { token = { … } }, { role_id = \"…\", secret_id = { … } } or { jwt = \"role\" }",
        );
        return None;
    };
    let only = |key, of: &str| {
        table.refuse(
            key,
            &format!("\"{key}\" belongs to \"{of}\", and has no effect here"),
            "remove it",
        );
    };
    match *way {
        "token" => {
            only("secret_id", "role_id");
            only("cleanup", "jwt");
            table.refuse("mount", "a token is mounted nowhere", "remove it");
            source_spec(*field, false).map(VaultAuth::Token)
        }
        "role_id" => {
            only("cleanup", "jwt");
            let role_id = source_spec(*field, true);
            let secret_id = table
                .required("secret_id")
                .and_then(|field| source_spec(field, false));
            let mount = mount(&table, "approle");
            Some(VaultAuth::AppRole {
                mount: mount?,
                role_id: role_id?,
                secret_id: secret_id?,
            })
        }
        _ => {
            only("secret_id", "role_id");
            let role = field.parsed(name);
            let cleanup = or_default(table.optional("cleanup"), None, |field| {
                source_spec(field, false).map(Some)
            });
            let mount = mount(&table, "jwt");
            Some(VaultAuth::Jwt {
                mount: mount?,
                role: role?,
                cleanup: cleanup?,
            })
        }
    }
}

/// What each engine takes besides `mount` and the key that names it.
const ENGINES: &[(&str, &[&str])] = &[
    ("kv", &["version", "pin", "user", "password", "token"]),
    ("database", &[]),
    ("static_role", &[]),
    ("ssh", &["principals", "ttl"]),
];

fn engine(table: Table<'_>, protocol: Option<Protocol>) -> Option<VaultEngine> {
    let given: Vec<(&str, &[&'static str], Field<'_>)> = ENGINES
        .iter()
        .filter_map(|(engine, keys)| Some((*engine, *keys, table.optional(engine)?)))
        .collect();
    let [(engine, mine, field)] = given.as_slice() else {
        table.error(
            "\"engine\" has to say one thing that is asked for",
            "write { kv = \"path\" }, { database = \"role\" }, { static_role = \"role\" } or { ssh = \"role\", principals = [\"…\"] }",
        );
        return None;
    };
    for (other, keys) in ENGINES {
        for key in keys.iter().filter(|key| !mine.contains(key)) {
            table.refuse(
                key,
                &format!("\"{key}\" belongs to \"{other}\", and has no effect here"),
                "remove it",
            );
        }
    }
    match *engine {
        "kv" => kv(&table, *field, protocol),
        "database" | "static_role" => {
            let role = field.parsed(name);
            let (mount, role) = mount(&table, "database").zip(role)?;
            Some(if *engine == "database" {
                VaultEngine::Database { mount, role }
            } else {
                VaultEngine::StaticRole { mount, role }
            })
        }
        _ => {
            if protocol == Some(Protocol::Postgres) {
                field.error(
                    "Vault signs a key for SSH here, and no postgres service takes one",
                    "name another engine; protocol = \"ssh\" is for a later version",
                );
            }
            ssh(&table, *field)
        }
    }
}

fn kv(table: &Table<'_>, field: Field<'_>, protocol: Option<Protocol>) -> Option<VaultEngine> {
    let path = field.parsed(path);
    let version = or_default(table.optional("version"), 2, |field| field.integer(1, 2));
    let pin = or_default(table.optional("pin"), None, |field| {
        Some(u32::try_from(field.integer(1, u64::from(u32::MAX))?).ok())
    });
    if version == Some(1) {
        table.refuse(
            "pin",
            "version 1 of the engine keeps one version of a secret alone",
            "remove it",
        );
    }
    let fields = if let Some(token) = table.optional("token") {
        for key in ["user", "password"] {
            table.refuse(
                key,
                "a secret is a login or a token, and \"token\" is given",
                "remove one of them",
            );
        }
        if protocol == Some(Protocol::Postgres) {
            token.error(
                "a postgres service logs in with user and password, and takes no token",
                "name the fields: user = \"username\", password = \"password\"",
            );
        }
        token.parsed(key_name).map(KvFields::Token)
    } else {
        let name =
            |key, usual: &str| or_default(table.optional(key), usual.to_owned(), |f| f.parsed(key_name));
        let user = name("user", "username");
        let password = name("password", "password");
        user.zip(password)
            .map(|(user, password)| KvFields::Login { user, password })
    };
    let mount = mount(table, "secret");
    let pin = pin?;
    Some(VaultEngine::Kv {
        mount: mount?,
        path: path?,
        version: match version? {
            1 => KvVersion::One,
            _ => KvVersion::Two(pin),
        },
        fields: fields?,
    })
}

fn ssh(table: &Table<'_>, field: Field<'_>) -> Option<VaultEngine> {
    let role = field.parsed(name);
    let principals = table.required("principals").and_then(|field| {
        field.parsed_list(
            "name at least one: a certificate without any would be good for every user",
            principal,
        )
    });
    let ttl = or_default(table.optional("ttl"), SSH_TTL, |field| {
        field.parsed(|text| scalar::duration(text, LEAST_SSH_TTL, MOST_SSH_TTL))
    });
    let mount = mount(table, "ssh");
    Some(VaultEngine::Ssh {
        mount: mount?,
        role: role?,
        principals: principals?,
        ttl: ttl?,
    })
}

fn mount(table: &Table<'_>, usual: &str) -> Option<String> {
    or_default(table.optional("mount"), usual.to_owned(), |field| {
        field.parsed(path)
    })
}

/// `https://host:port`. The token goes there: nothing in it may lead elsewhere.
fn address(text: &str) -> Result<String, Wrong> {
    let wrong = |what: &str| {
        Wrong::new(
            format!("\"{}\" {what}", text.escape_debug()),
            "write scheme, host and port alone, such as \"https://vault.acme.test:8200\"",
        )
    };
    let url = reqwest::Url::parse(text).map_err(|_| wrong("is no address of a Vault"))?;
    let host = url.host_str().unwrap_or_default();
    let literal = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host == "localhost"
        || literal
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    match url.scheme() {
        "https" => {}
        "http" if loopback => {}
        "http" => {
            return Err(wrong(
                "would send tokens in clear: plain http is for loopback alone",
            ));
        }
        _ => return Err(wrong("is neither https:// nor http://")),
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if host.is_empty() || !bare || !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("has more in it than an address"));
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// A path of Vault's. It becomes part of a URL as it stands, so it has nothing that means something there.
fn path(text: &str) -> Result<String, Wrong> {
    let fits = text.len() <= LONGEST_PATH
        && text.split('/').all(|part| {
            !part.is_empty()
                && part != "."
                && part != ".."
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"._-@:+=".contains(&b))
        });
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" is no path in a Vault", text.escape_debug()),
        "write it without a slash at either end, in letters, digits and \"._-@:+=\", such as \"apps/orders\"",
    ))
}

/// A role: one part of a path.
fn name(text: &str) -> Result<String, Wrong> {
    match path(text) {
        Ok(name) if !name.contains('/') => Ok(name),
        _ => Err(Wrong::new(
            format!("\"{}\" is no name of a role", text.escape_debug()),
            "write the name alone; what comes before it is \"mount\"",
        )),
    }
}

fn key_name(text: &str) -> Result<String, Wrong> {
    scalar::line(text, 255)
}

/// A name, without the comma that separates several.
fn principal(text: &str) -> Result<String, Wrong> {
    let fits = (1..=64).contains(&text.len())
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b));
    if fits {
        return Ok(text.to_owned());
    }
    Err(Wrong::new(
        format!("\"{}\" is no principal", text.escape_debug()),
        "use up to 64 letters, digits, \".\", \"_\", \"@\" and \"-\"",
    ))
}

#[cfg(test)]
mod tests {
    use super::{address, path};

    #[test]
    fn tokens_travel_in_clear_to_loopback_alone() {
        for (text, taken) in [
            (
                "https://vault.acme.test:8200",
                Some("https://vault.acme.test:8200"),
            ),
            (
                "https://vault.acme.test:8200/",
                Some("https://vault.acme.test:8200"),
            ),
            ("http://127.0.0.1:8200", Some("http://127.0.0.1:8200")),
            ("http://[::1]:8200", Some("http://[::1]:8200")),
            ("http://localhost:8200", Some("http://localhost:8200")),
            ("http://vault.acme.test:8200", None),
            ("http://127.0.0.1.acme.test", None),
            ("https://user@vault.acme.test", None),
            ("https://vault.acme.test/v1", None),
            ("https://vault.acme.test/?x", None),
            ("vault.acme.test:8200", None),
            ("unix:///run/vault", None),
            ("", None),
        ] {
            assert_eq!(address(text).ok().as_deref(), taken, "{text}");
        }
    }

    #[test]
    fn a_path_cannot_lead_elsewhere() {
        for good in ["secret", "apps/orders", "a.b-c_d/e@f:g"] {
            assert!(path(good).is_ok(), "{good}");
        }
        for bad in [
            "", "/a", "a/", "a//b", "../sys", "a/./b", "a?b", "a#b", "a%2fb", "a b", "ä",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
