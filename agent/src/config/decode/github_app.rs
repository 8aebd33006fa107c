//! `source = "github-app"`.

use crate::config::credential::SourceSpec;
use crate::config::issuer::GithubAppSpec;
use crate::config::reader::{Field, Table, Wrong};
use crate::config::scalar;

use super::credential::share;
use super::{issuer, source_spec};

const ENDPOINT: &str = "https://api.github.com";
/// More are refused by GitHub.
const MOST_REPOSITORIES: usize = 500;
const LEVELS: &[(&str, &str)] = &[("read", "read"), ("write", "write"), ("admin", "admin")];

/// The keys that it takes, besides `source`.
pub(super) const KEYS: &[&str] = &[
    "endpoint",
    "endpoint_ca",
    "timeout",
    "app_id",
    "app_key",
    "installation",
    "repositories",
    "permissions",
    "share",
];

pub(super) fn github_app(table: &Table<'_>) -> Option<GithubAppSpec> {
    let issuer = issuer::issuer(table, Some(ENDPOINT.to_owned()));
    let app = table.required("app_id").and_then(|field| {
        if field.is_integer() {
            return field.integer(1, u64::MAX >> 1).map(|id| id.to_string());
        }
        field.parsed(|text| scalar::line(text, 64))
    });
    let key = table.required("app_key").and_then(private_key);
    let installation = table
        .required("installation")
        .and_then(|field| field.integer(1, u64::MAX >> 1));
    let repositories = table.required("repositories").and_then(|field| {
        let names = field.parsed_list(
            "name at least one: a token for every repository of the installation is not asked for",
            repository,
        )?;
        if names.len() > MOST_REPOSITORIES {
            field.error(
                format!("GitHub makes no token for more than {MOST_REPOSITORIES} repositories"),
                "name fewer",
            );
            return None;
        }
        Some(names)
    });
    let permissions = table.required("permissions").and_then(permissions);
    let share = share(table);
    Some(GithubAppSpec {
        issuer: issuer?,
        app: app?,
        key: key?,
        installation: installation?,
        repositories: repositories?,
        permissions: permissions?,
        share: share?,
    })
}

/// Where a private key is. The environment of the agent is no place for one.
pub(super) fn private_key(field: Field<'_>) -> Option<SourceSpec> {
    let spec = source_spec(field, false)?;
    if matches!(spec, SourceSpec::Env(_)) {
        field.error(
            format!(
                "\"{}\" is a private key, which has many lines and is no variable",
                field.key()
            ),
            "write { file = \"/path\" } or { systemd = \"name\" }",
        );
        return None;
    }
    Some(spec)
}

fn repository(text: &str) -> Result<String, Wrong> {
    let fits = (1..=100).contains(&text.len())
        && text != "."
        && text != ".."
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if fits {
        return Ok(text.into());
    }
    Err(Wrong::new(
        format!("\"{}\" is no name of a repository", text.escape_debug()),
        "write it without its owner: the installation has one",
    ))
}

fn permissions(field: Field<'_>) -> Option<Vec<(String, String)>> {
    let fields = Table::free(field)?;
    if fields.is_empty() {
        field.error(
            "\"permissions\" is empty: the token could do all that the app may",
            "name at least one, such as { contents = \"read\" }",
        );
        return None;
    }
    let mut permissions = Vec::new();
    for field in fields {
        let name = field.key();
        if !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            field.error(
                format!("\"{}\" is no permission", name.escape_debug()),
                "write it as GitHub's API spells it, such as \"pull_requests\"",
            );
            return None;
        }
        permissions.push((name.to_owned(), field.one_of(LEVELS, &[])?.to_owned()));
    }
    // In one order, whatever the file's is.
    permissions.sort();
    Some(permissions)
}
