//! What is known of PostgreSQL's own functions, operators, relations and reserved words.
//!
//! `catalog.txt` is made from the catalog of a PostgreSQL 15 server. A function that is not in it is not known. Known
//! limit: an unqualified name counts as the built-in one because `pg_catalog` is searched first; a session whose
//! `search_path` names `pg_catalog` explicitly behind another schema can shadow it, so a change of `search_path` is
//! always an action of its own.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

static TEXT: &str = include_str!("catalog.txt");
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog::read(TEXT));

/// What a built-in function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Computes from its arguments, or tells of the catalog or the server; changes nothing.
    Pure,
    /// A function only in syntax (`coalesce`): has no schema and cannot be quoted.
    Syntax,
    /// Files of the server.
    UnsafeIo,
    /// Large objects, which no mask sees.
    LargeObjectWrite,
    LargeObjectDelete,
    LargeObjectRead,
    /// `nextval`, `setval`.
    Sequence,
    /// `set_config`.
    SetConfig,
    Session,
    Lock,
    /// `pg_notify`.
    Notify,
    Maintenance,
    Privilege,
    /// Runs SQL from a string, or reads whole tables by name.
    Opaque,
}

struct Catalog {
    functions: HashMap<&'static str, Class>,
    takes_row: HashSet<&'static str>,
    operators: HashSet<&'static str>,
    relations: HashSet<&'static str>,
    reserved: HashSet<&'static str>,
    reserved_name: HashSet<&'static str>,
    out: HashMap<&'static str, Vec<&'static str>>,
}

impl Catalog {
    fn read(text: &'static str) -> Self {
        let mut catalog = Self {
            functions: HashMap::new(),
            takes_row: HashSet::new(),
            operators: HashSet::new(),
            relations: HashSet::new(),
            reserved: HashSet::new(),
            reserved_name: HashSet::new(),
            out: HashMap::new(),
        };
        for line in text.lines() {
            let Some((class, names)) = line.split_once(": ").filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let names = names.split(' ');
            if let Some(function) = class.strip_prefix("out ") {
                catalog.out.entry(function).or_default().extend(names);
                continue;
            }
            let class = match class {
                "pure" => Class::Pure,
                "syntax" => Class::Syntax,
                "unsafe_io" => Class::UnsafeIo,
                "large_object_write" => Class::LargeObjectWrite,
                "large_object_delete" => Class::LargeObjectDelete,
                "large_object_read" => Class::LargeObjectRead,
                "sequence" => Class::Sequence,
                "set_config" => Class::SetConfig,
                "session" => Class::Session,
                "lock" => Class::Lock,
                "notify" => Class::Notify,
                "maintenance" => Class::Maintenance,
                "privilege" => Class::Privilege,
                "opaque" => Class::Opaque,
                "takes_row" => {
                    catalog.takes_row.extend(names);
                    continue;
                }
                "operator" => {
                    catalog.operators.extend(names);
                    continue;
                }
                "relation" => {
                    catalog.relations.extend(names);
                    continue;
                }
                "reserved" => {
                    catalog.reserved.extend(names);
                    continue;
                }
                "reserved_name" => {
                    catalog.reserved_name.extend(names);
                    continue;
                }
                _ => continue,
            };
            catalog.functions.extend(names.map(|name| (name, class)));
        }
        catalog
    }
}

/// The built-in function of this name, which is all overloads together.
pub(super) fn function(name: &str) -> Option<Class> {
    CATALOG.functions.get(name).copied()
}

/// Whether a built-in of this name takes a whole row, so that `t.name` can be a call of it.
pub(super) fn takes_row(name: &str) -> bool {
    CATALOG.takes_row.contains(name)
}

/// Whether `operator` is one of `pg_catalog`.
pub(super) fn is_operator(operator: &str) -> bool {
    CATALOG.operators.contains(operator)
}

/// Whether `name`, not qualified, is a table or view of `pg_catalog`.
pub(super) fn is_system_relation(name: &str) -> bool {
    CATALOG.relations.contains(name)
}

/// Whether `word`, unquoted, can be neither a table nor a column.
pub(super) fn is_reserved(word: &str) -> bool {
    CATALOG.reserved.contains(word) || CATALOG.reserved_name.contains(word)
}

/// The columns that `function` has in FROM, as far as it names them itself.
pub(super) fn out_columns(function: &str) -> &'static [&'static str] {
    CATALOG.out.get(function).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dangerous_functions_are_never_pure() {
        for name in [
            "lo_import",
            "lo_export",
            "pg_read_file",
            "pg_read_binary_file",
            "pg_ls_dir",
            "pg_stat_file",
            "pg_terminate_backend",
            "pg_reload_conf",
            "set_config",
            "nextval",
            "setval",
            "query_to_xml",
            "table_to_xml",
            "cursor_to_xml",
            "database_to_xml",
            "pg_notify",
            "pg_advisory_lock",
            "lowrite",
            "ts_stat",
            "pg_logical_emit_message",
            "pg_create_restore_point",
            "pg_switch_wal",
            "pg_export_snapshot",
            "setseed",
        ] {
            assert!(
                !matches!(function(name), None | Some(Class::Pure | Class::Syntax)),
                "{name}: {:?}",
                function(name)
            );
        }
        for name in [
            "plpgsql_call_handler",
            "fmgr_c_validator",
            "record_in",
            "domain_in",
            "dblink",
        ] {
            assert_eq!(function(name), None, "{name}");
        }
    }

    #[test]
    fn every_line_is_of_a_known_class() {
        for line in TEXT
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            let class = line.split_once(": ").map(|(class, _)| class);
            let known = class.is_some_and(|class| {
                class.starts_with("out ")
                    || matches!(
                        class,
                        "takes_row" | "operator" | "relation" | "reserved" | "reserved_name"
                    )
                    || CATALOG.functions.contains_key(line.rsplit(' ').next().unwrap())
            });
            assert!(known, "{line}");
        }
    }
}
