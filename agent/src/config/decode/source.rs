//! Sources of single values: where one secret comes from.

use std::path::PathBuf;

use crate::config::credential::SourceSpec;
use crate::config::keys;
use crate::config::reader::{Field, Table};
use crate::config::scalar;

use super::variable;

const FORMS: &str =
    "{ file = \"/path\" }, { env = \"NAME\" }, { systemd = \"name\" } or { age = \"/path\", identity = … }";

/// Kinds of source of one value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SourceKind {
    File,
    Env,
    Systemd,
    Age,
}

/// A source written as `{ file = … }`, `{ env = … }`, `{ systemd = … }` or `{ age = … }`; a text, where `literal` is taken.
pub(crate) fn source_spec(field: Field<'_>, literal: bool) -> Option<SourceSpec> {
    if !field.is_table() {
        if literal {
            return field
                .parsed(|text| scalar::line(text, 255))
                .map(SourceSpec::Literal);
        }
        field.hide();
        field.error(
            format!("\"{}\" is a secret and cannot be written here", field.key()),
            format!("write where it is: {FORMS}"),
        );
        return None;
    }
    let table = field.table(&keys::SOURCE_SPEC)?;
    let given: Vec<(SourceKind, Field<'_>)> = [
        (SourceKind::File, table.optional("file")),
        (SourceKind::Env, table.optional("env")),
        (SourceKind::Systemd, table.optional("systemd")),
        (SourceKind::Age, table.optional("age")),
    ]
    .into_iter()
    .filter_map(|(kind, field)| Some((kind, field?)))
    .collect();
    let [(kind, value)] = given.as_slice() else {
        table.error(
            format!("\"{}\" has to have one source", field.key()),
            format!("write {FORMS}"),
        );
        return None;
    };
    if *kind != SourceKind::Age {
        table.refuse(
            "identity",
            "\"identity\" opens an age file, and has no effect here",
            "remove it",
        );
    }
    by_kind(*kind, *value, &table)
}

/// What opens an age file: in a file or a credential, since a variable is there for everybody to see who may see the agent's.
fn identity(field: Field<'_>) -> Option<SourceSpec> {
    let spec = source_spec(field, false)?;
    if matches!(spec, SourceSpec::File(_) | SourceSpec::Systemd(_)) {
        return Some(spec);
    }
    field.error(
        "what opens an age file is in a file or in a credential of the agent's unit",
        "write identity = { systemd = \"age-identity\" } or { file = \"/path\" }",
    );
    None
}

fn path(field: Field<'_>) -> Option<PathBuf> {
    if field.is_table() {
        field.hide();
        field.error(
            "\"source\" says where the password is, so this is a path and no table",
            "write password = \"/etc/tollgate/secrets/orders-db\"",
        );
        return None;
    }
    let text = field.string()?;
    if text.starts_with('/') && !text.contains('\0') {
        return Some(text.into());
    }
    field.error(
        format!("\"{}\" is not an absolute path", field.key()),
        "write the path of a file that holds the secret, from /, never the secret itself",
    );
    None
}

/// What `field` says, read as the path, variable or credential name that `kind` asks for. A value that is none of
/// these may well be the secret itself, so it is not repeated.
///
/// What belongs to it stands in `table`.
pub(super) fn by_kind(kind: SourceKind, field: Field<'_>, table: &Table<'_>) -> Option<SourceSpec> {
    let spec = match kind {
        SourceKind::File => path(field).map(SourceSpec::File),
        SourceKind::Age => {
            let identity = table.required("identity").and_then(identity);
            path(field).zip(identity).map(|(file, identity)| SourceSpec::Age {
                file,
                identity: Box::new(identity),
            })
        }
        SourceKind::Env => variable(field).map(SourceSpec::Env),
        SourceKind::Systemd => field.string().and_then(|text| {
            let fits = !text.is_empty()
                && text.len() <= 255
                && text != "."
                && text != ".."
                && !text.contains(|c: char| c == '/' || c.is_control() || c.is_whitespace());
            if fits {
                return Some(SourceSpec::Systemd(text.into()));
            }
            field.error(
                format!("\"{}\" is no name of a credential", field.key()),
                "write the name that LoadCredential= in the agent's unit gives it, without \"/\"",
            );
            None
        }),
    };
    if spec.is_none() {
        field.hide();
    }
    spec
}
