//! What is asked of Vault's engines, each with a token that may.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::json;
use zeroize::Zeroizing;

use super::answer::{self, Given, Hidden, Leased, Login, SignedKey};
use super::error::VaultError;
use super::http::{Http, Nothing, Question};
use crate::config::{KvFields, KvVersion};
use crate::credential::Material;
use crate::model::Secret;
use crate::web::Method;

/// A secret of version 2: its fields beside what is known of it.
#[derive(Deserialize)]
struct Versioned {
    data: Fields,
}

/// Either version's outermost object.
#[derive(Deserialize)]
struct Kept<T> {
    data: T,
}

#[derive(Deserialize)]
struct Fields {
    data: BTreeMap<String, Field>,
}

/// A field, of which texts alone are kept.
struct Field(Option<Hidden>);

/// A secret of a KV engine.
pub(super) async fn kv(
    http: &Http,
    token: &Secret,
    (mount, path): (&str, &str),
    version: KvVersion,
    fields: &KvFields,
) -> Result<Material, VaultError> {
    const WHAT: &str = "read a secret";
    const EXPECTED: &str = "secret of this version of the KV engine";
    let path = match version {
        KvVersion::One => format!("{mount}/{path}"),
        KvVersion::Two(None) => format!("{mount}/data/{path}"),
        KvVersion::Two(Some(pin)) => format!("{mount}/data/{path}?version={pin}"),
    };
    let answer = get(http, token, WHAT, &path).await?;
    let secret = match version {
        KvVersion::One => answer::read::<Kept<BTreeMap<String, Field>>>(&answer, WHAT, EXPECTED)?.data,
        KvVersion::Two(_) => answer::read::<Versioned>(&answer, WHAT, EXPECTED)?.data.data,
    };
    let field = |name: &str| {
        let text = secret.get(name).and_then(|field| field.0.as_ref());
        text.and_then(Hidden::secret).ok_or_else(|| VaultError::Field {
            field: name.to_owned(),
        })
    };
    Ok(match fields {
        KvFields::Login { user, password } => Material::Login {
            user: field(user)?,
            password: field(password)?,
        },
        KvFields::Token(token) => Material::Token(field(token)?),
    })
}

/// A login that is made now, and its lease.
pub(super) async fn database(
    http: &Http,
    token: &Secret,
    mount: &str,
    role: &str,
) -> Result<(Material, Leased), VaultError> {
    const WHAT: &str = "make a login for the database";
    let leased: Leased = read(
        http,
        token,
        WHAT,
        &format!("{mount}/creds/{role}"),
        "lease with a login",
    )
    .await?;
    if leased.lease_id.is_empty() {
        return Err(VaultError::Nonsense {
            what: WHAT,
            expected: "lease with a login",
        });
    }
    let material = login(&leased.data, WHAT)?;
    Ok((material, leased))
}

/// A login that is there for good.
pub(super) async fn fixed(
    http: &Http,
    token: &Secret,
    mount: &str,
    role: &str,
) -> Result<Material, VaultError> {
    const WHAT: &str = "give a login for the database";
    let given: Given = read(
        http,
        token,
        WHAT,
        &format!("{mount}/static-creds/{role}"),
        "login",
    )
    .await?;
    login(&given.data, WHAT)
}

/// A certificate over `key`, in the form of a line of OpenSSH's.
pub(super) async fn sign(
    http: &Http,
    token: &Secret,
    (mount, role): (&str, &str),
    key: &str,
    principals: &[String],
    ttl: Duration,
) -> Result<Zeroizing<String>, VaultError> {
    const WHAT: &str = "sign a key for SSH";
    let body = json!({
        "public_key": key,
        "cert_type": "user",
        "valid_principals": principals.join(","),
        "ttl": format!("{}s", ttl.as_secs()),
    });
    let answer = ask(
        http,
        token,
        WHAT,
        Method::POST,
        &format!("{mount}/sign/{role}"),
        Some(&body),
    )
    .await?;
    let signed: SignedKey = answer::read(&answer, WHAT, "signed key")?;
    Ok(Zeroizing::new(signed.data.signed_key.text().trim().to_owned()))
}

fn login(login: &Login, what: &'static str) -> Result<Material, VaultError> {
    let part = |text: &Hidden| {
        text.secret().ok_or(VaultError::Nonsense {
            what,
            expected: "login",
        })
    };
    Ok(Material::Login {
        user: part(&login.username)?,
        password: part(&login.password)?,
    })
}

async fn read<T: DeserializeOwned>(
    http: &Http,
    token: &Secret,
    what: &'static str,
    path: &str,
    expected: &'static str,
) -> Result<T, VaultError> {
    let answer = get(http, token, what, path).await?;
    answer::read(&answer, what, expected)
}

async fn get(
    http: &Http,
    token: &Secret,
    what: &'static str,
    path: &str,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    ask::<Nothing>(http, token, what, Method::GET, path, None).await
}

/// Asks with a token.
pub(super) async fn ask<B: Serialize>(
    http: &Http,
    token: &Secret,
    what: &'static str,
    method: Method,
    path: &str,
    body: Option<&B>,
) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    http.ask(Question {
        what,
        method,
        path,
        token: Some(token),
        body,
    })
    .await
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNot)
    }
}

/// Takes a text, and passes over everything else: an untagged enum would copy the secret to try it twice.
struct TextOrNot;

impl<'de> Visitor<'de> for TextOrNot {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Field, E> {
        Ok(Field(Some(Hidden::new(text.to_owned()))))
    }

    fn visit_string<E>(self, text: String) -> Result<Field, E> {
        Ok(Field(Some(Hidden::new(text))))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_unit<E>(self) -> Result<Field, E> {
        Ok(Field(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field(None))
    }
}
