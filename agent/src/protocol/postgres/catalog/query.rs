//! The one query: everything about some relations that masks need, followed to the tables they are made of.
//!
//! Every name is qualified, and the session's `search_path` is set by the agent, so nothing that a database holds can
//! come before `pg_catalog`. Names of relations come from workloads; they are passed in hexadecimal, so there is no
//! quoting that could be got wrong.

use crate::protocol::sql::RelationName;

/// `NAMEDATALEN - 1`: the server cuts longer names off here, in silence.
const LONGEST_NAME: usize = 63;

/// Settings of the agent's own sessions.
pub(super) const SETTINGS: &[(&str, &str)] = &[
    ("application_name", "tollgate catalog"),
    ("search_path", "pg_catalog, pg_temp"),
    ("client_encoding", "UTF8"),
    ("standard_conforming_strings", "on"),
    ("default_transaction_read_only", "on"),
    ("statement_timeout", "10s"),
    // A plan of many small parts: compiling it would take far longer than running it.
    ("jit", "off"),
];

/// Facts on the relations of these oids.
pub(super) fn by_oid(oids: &[u32]) -> String {
    let list: Vec<String> = oids.iter().map(ToString::to_string).collect();
    FACTS.replace(
        "{condition}",
        &format!("c.oid = ANY ('{{{}}}'::pg_catalog.oid[])", list.join(",")),
    )
}

/// Facts on the relations of these names. Composite types are relations in `pg_class` and are not meant.
pub(super) fn by_name(names: &[RelationName]) -> String {
    let conditions: Vec<String> = names
        .iter()
        .map(|name| match &name.schema {
            Some(schema) => format!(
                "(c.relname = {} AND n.nspname = {})",
                literal(&name.name),
                literal(schema)
            ),
            None => format!("c.relname = {}", literal(&name.name)),
        })
        .collect();
    // No name, no relation: an empty list must not become an empty condition.
    let condition = if conditions.is_empty() {
        "false".to_owned()
    } else {
        format!("c.relkind <> 'c' AND ({})", conditions.join(" OR "))
    };
    FACTS.replace("{condition}", &condition)
}

fn literal(name: &str) -> String {
    let mut end = name.len().min(LONGEST_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let kept = name.get(..end).unwrap_or_default();
    format!(
        "pg_catalog.convert_from(pg_catalog.decode('{}', 'hex'), 'UTF8')::pg_catalog.name",
        hex::encode(kept)
    )
}

/// Rows of (kind, relation, other relation, number, other number, text, text). Kinds:
/// `r` relation (other: 1 if asked for) with schema and name · `c` column · `u` rule: relation uses (other, its
/// column; 0: all of them) · `w` has rules · `i` relation inherits from other · `g` column is generated from column ·
/// `o` cannot be followed.
///
/// Which columns a rule uses is in `pg_depend`, with two exceptions. A whole-row reference (`row_to_json(c)`) leaves
/// no trace there; it is a Var with `:varattno 0` in the rule's tree. And what initdb made first is pinned: it has no
/// rows in `pg_depend`, but its `:relid` is in the tree. Both count as using every column.
///
/// A function in a rule makes it opaque, unless initdb made it, or it is the C code of an extension that is known to
/// look at nothing but its arguments; and so do those of initdb's functions that run queries or read files.
const FACTS: &str = r"
WITH RECURSIVE root AS MATERIALIZED (
  SELECT c.oid
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
   WHERE {condition}
), reach(oid, way) AS (
  SELECT root.oid, 'both'::pg_catalog.text FROM root
  UNION
  SELECT e.oid, e.way
    FROM reach AS r CROSS JOIN LATERAL (
      SELECT hit.m[1]::pg_catalog.oid AS oid, 'both'::pg_catalog.text AS way
        FROM pg_catalog.pg_rewrite AS w
             CROSS JOIN LATERAL pg_catalog.regexp_matches(w.ev_action::pg_catalog.text, ':relid (\d+)', 'g') AS hit(m)
       WHERE w.ev_class = r.oid AND r.way = 'both'
      UNION ALL
      SELECT t.oid, 'both'
        FROM pg_catalog.pg_class AS self JOIN pg_catalog.pg_class AS t ON t.reltoastrelid = self.oid
       WHERE self.oid = r.oid AND self.relkind = 't' AND r.way = 'both'
      UNION ALL
      SELECT i.inhparent, 'up' FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = r.oid AND r.way <> 'down'
      UNION ALL
      SELECT i.inhrelid, 'down' FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = r.oid AND r.way <> 'up'
    ) AS e
), near AS MATERIALIZED (
  SELECT DISTINCT reach.oid FROM reach
), rule AS MATERIALIZED (
  SELECT w.oid, w.ev_class, w.ev_action::pg_catalog.text AS tree
    FROM pg_catalog.pg_rewrite AS w JOIN near ON near.oid = w.ev_class
), used AS MATERIALIZED (
  SELECT DISTINCT rule.oid AS rule, rule.ev_class, hit.m[1]::pg_catalog.oid AS relid,
         rule.tree LIKE '%:varattno 0 %' AS whole
    FROM rule CROSS JOIN LATERAL pg_catalog.regexp_matches(rule.tree, ':relid (\d+)', 'g') AS hit(m)
   WHERE hit.m[1] <> '0'
), depends AS MATERIALIZED (
  SELECT rule.oid AS rule, rule.ev_class, d.refclassid, d.refobjid, d.refobjsubid
    FROM rule JOIN pg_catalog.pg_depend AS d
      ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = rule.oid
), called AS MATERIALIZED (
  SELECT depends.ev_class, depends.refobjid AS function FROM depends
   WHERE depends.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  UNION
  SELECT depends.ev_class, o.oprcode::pg_catalog.oid FROM depends
    JOIN pg_catalog.pg_operator AS o ON o.oid = depends.refobjid
   WHERE depends.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass
)
SELECT 'r', c.oid, (c.oid IN (SELECT root.oid FROM root))::pg_catalog.int4, 0, 0, n.nspname::pg_catalog.text, c.relname::pg_catalog.text
  FROM near JOIN pg_catalog.pg_class AS c ON c.oid = near.oid
       JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
UNION ALL
SELECT 'c', a.attrelid, 0, a.attnum, 0, a.attname::pg_catalog.text, ''
  FROM near JOIN pg_catalog.pg_attribute AS a ON a.attrelid = near.oid
 WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'u', depends.ev_class, depends.refobjid::pg_catalog.int8, depends.refobjsubid, 0, '', ''
  FROM depends
 WHERE depends.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
   AND depends.refobjsubid > 0 AND depends.refobjid <> depends.ev_class
UNION ALL
SELECT 'u', used.ev_class, used.relid::pg_catalog.int8, 0, 0, '', ''
  FROM used
 WHERE used.relid <> used.ev_class
   AND (used.whole OR NOT EXISTS (
         SELECT FROM depends
          WHERE depends.rule = used.rule AND depends.refobjid = used.relid
            AND depends.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass))
UNION ALL
SELECT 'u', near.oid, t.oid::pg_catalog.int8, 0, 0, '', ''
  FROM near JOIN pg_catalog.pg_class AS t ON t.reltoastrelid = near.oid
UNION ALL
SELECT 'w', rule.ev_class, 0, 0, 0, '', '' FROM rule
UNION ALL
SELECT 'w', near.oid, 0, 0, 0, '', '' FROM near JOIN pg_catalog.pg_class AS t ON t.reltoastrelid = near.oid
UNION ALL
SELECT 'i', i.inhrelid, i.inhparent::pg_catalog.int8, 0, 0, '', ''
  FROM pg_catalog.pg_inherits AS i JOIN near AS child ON child.oid = i.inhrelid JOIN near AS parent ON parent.oid = i.inhparent
UNION ALL
SELECT 'g', a.attrelid, 0, a.attnum, d.refobjsubid, '', ''
  FROM near JOIN pg_catalog.pg_attribute AS a ON a.attrelid = near.oid AND a.attgenerated <> ''
       JOIN pg_catalog.pg_attrdef AS f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
       JOIN pg_catalog.pg_depend AS d
         ON (d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid
             OR d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = a.attrelid AND d.objsubid = a.attnum)
 WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid
   AND d.refobjsubid > 0 AND d.refobjsubid <> a.attnum
UNION ALL
SELECT 'o', called.ev_class, 0, 0, 0, '', ''
  FROM called JOIN pg_catalog.pg_proc AS p ON p.oid = called.function
 WHERE p.oid >= 16384
   AND NOT (
     p.prolang IN (SELECT l.oid FROM pg_catalog.pg_language AS l WHERE l.lanname IN ('c', 'internal'))
     AND EXISTS (
       SELECT FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS x ON x.oid = d.refobjid
        WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e'
          AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
          AND x.extname IN ('btree_gin', 'btree_gist', 'citext', 'cube', 'earthdistance', 'fuzzystrmatch', 'hstore',
                            'intarray', 'isn', 'ltree', 'pg_trgm', 'pgcrypto', 'postgis', 'seg', 'unaccent',
                            'uuid-ossp', 'vector')))
UNION ALL
SELECT 'o', rule.ev_class, 0, 0, 0, '', ''
  FROM rule
 WHERE rule.tree ~ (
   SELECT ':funcid (' || pg_catalog.string_agg(p.oid::pg_catalog.text, '|') || ') '
     FROM pg_catalog.pg_proc AS p
    WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace
      AND (p.proname ~ '^(query|cursor|table|schema|database)_to_xml'
           OR p.proname ~ '^pg_(read|ls)_'
           OR p.proname ~ '^pg_logical_slot_'
           OR p.proname IN ('ts_stat', 'ts_rewrite', 'lo_get', 'loread', 'lo_export', 'pg_mcv_list_items',
                            'pg_stat_get_activity', 'pg_stat_get_backend_activity', 'pg_cursor',
                            'pg_prepared_statement')))
UNION ALL
SELECT 'o', near.oid, 0, 0, 0, '', ''
  FROM near
 WHERE near.oid IN ('pg_catalog.pg_statistic'::pg_catalog.regclass, 'pg_catalog.pg_statistic_ext_data'::pg_catalog.regclass,
                    'pg_catalog.pg_largeobject'::pg_catalog.regclass)
";

#[cfg(test)]
mod tests {
    use super::{by_name, by_oid, literal};
    use crate::protocol::sql::RelationName;

    #[test]
    fn a_name_cannot_leave_its_place() {
        let name = RelationName {
            schema: Some("'; DROP TABLE t; --".into()),
            name: "\\'".into(),
        };
        let sql = by_name(&[name]);
        assert!(!sql.contains("DROP") && !sql.contains("\\'"));
    }

    #[test]
    fn long_names_are_cut_where_the_server_cuts_them() {
        assert_eq!(literal(&"a".repeat(64)), literal(&"a".repeat(63)));
        assert_eq!(literal(&format!("{}é", "a".repeat(62))), literal(&"a".repeat(62)));
    }

    #[test]
    fn no_name_finds_nothing() {
        assert!(by_name(&[]).contains("WHERE false"));
        assert!(by_oid(&[]).contains("'{}'"));
    }
}
