use super::*;

/// Outputs as text: `crm.c.a+b` a column, `-` a constant, `?` unknown.
fn shown(outputs: &Outputs) -> String {
    let column = |column: &ColumnRef| match &column.relation {
        Some(RelationName {
            schema: Some(schema),
            name,
        }) => format!("{schema}.{name}.{}", column.column),
        Some(RelationName { schema: None, name }) => format!("{name}.{}", column.column),
        None => format!("*.{}", column.column),
    };
    match outputs {
        Outputs::None => "none".to_owned(),
        Outputs::Unknown => "unknown".to_owned(),
        Outputs::Columns(columns) => columns
            .iter()
            .map(|lineage| match lineage {
                Lineage::Unknown => "?".to_owned(),
                Lineage::From(columns) if columns.is_empty() => "-".to_owned(),
                Lineage::From(columns) => columns.iter().map(column).collect::<Vec<_>>().join("+"),
            })
            .collect::<Vec<_>>()
            .join(", "),
    }
}

#[test]
fn outputs_are_followed_to_stored_columns() {
    let wrong: Vec<String> = [
        (
            "SELECT a, b AS x, 1, count(*), 'x' || a FROM t",
            "t.a, t.b, -, -, t.a",
        ),
        (
            "SELECT c.email || o.id, id FROM crm.customers c, orders o",
            "crm.customers.email+orders.id, *.id",
        ),
        (
            "SELECT crm.customers.email FROM crm.customers",
            "crm.customers.email",
        ),
        ("SELECT other.customers.email FROM crm.customers", "?"),
        (
            "SELECT (SELECT crm.t.a FROM (SELECT 'x' AS a) t) FROM crm.t",
            "crm.t.a",
        ),
        ("SELECT * FROM t", "unknown"),
        ("SELECT a, t.* FROM t", "unknown"),
        ("SELECT row_to_json(t) FROM t", "?"),
        ("SELECT t FROM t", "?"),
        ("SELECT t::text FROM t", "?"),
        ("SELECT (t).a FROM t", "?"),
        ("SELECT count(t.*) FROM t", "?"),
        ("SELECT t.row_to_json FROM t", "?"),
        ("SELECT to_jsonb(x) FROM (SELECT a, b FROM t) x", "t.a+t.b"),
        ("SELECT x.row_to_json FROM (SELECT a, b FROM t) x", "t.a+t.b"),
        ("SELECT * FROM (SELECT a, 1 AS b FROM t) x", "t.a, -"),
        (
            "SELECT x.* FROM (SELECT a, 1 AS b FROM t) x JOIN u ON true",
            "t.a, -",
        ),
        ("SELECT y FROM (SELECT a FROM t) x(y)", "t.a"),
        ("SELECT y FROM (SELECT lower(a) FROM t) x", "?"),
        ("SELECT y FROM t AS x(y)", "?"),
        ("WITH c AS (SELECT email AS e FROM t) SELECT e FROM c", "t.email"),
        ("WITH c(e) AS (SELECT email FROM t) SELECT c.e FROM c", "t.email"),
        ("WITH c AS (SELECT * FROM t) SELECT e FROM c", "?"),
        (
            "WITH RECURSIVE c(e) AS (SELECT email FROM t UNION SELECT e FROM c) SELECT e FROM c",
            "?",
        ),
        (
            "WITH d AS (DELETE FROM t RETURNING email AS e) SELECT e FROM d",
            "t.email",
        ),
        ("SELECT a FROM t UNION SELECT b FROM u", "t.a+u.b"),
        ("SELECT a FROM t UNION SELECT b, c FROM u", "unknown"),
        (
            "SELECT 1 AS x UNION ALL SELECT email FROM t ORDER BY x",
            "t.email",
        ),
        ("SELECT (SELECT email FROM t WHERE t.id = o.id) FROM o", "*.email"),
        (
            "SELECT (SELECT x FROM o) FROM (SELECT email AS x FROM t) d",
            "t.email+o.x",
        ),
        ("SELECT x FROM (SELECT email AS x FROM t) d, o", "t.email+o.x"),
        ("SELECT CASE WHEN a THEN b ELSE c END FROM t", "t.c+t.a+t.b"),
        (
            "SELECT max(a) OVER (PARTITION BY b), percentile_disc(0.5) WITHIN GROUP (ORDER BY s) FROM t",
            "t.a, t.s",
        ),
        ("SELECT n FROM generate_series(1, 2) n", "-"),
        (
            "SELECT k.value, k.key FROM t, jsonb_each(t.doc) k",
            "t.doc, t.doc",
        ),
        ("SELECT x FROM t, unnest(t.emails) AS x", "t.emails+t.x"),
        ("SELECT evil(a) FROM t", "?"),
        ("SELECT lo_get(1)", "?"),
        ("SELECT @ a FROM t", "t.a"),
        // Names that hide other names.
        (
            "SELECT (SELECT email FROM c) FROM generate_series(1, 2) AS email",
            "c.email",
        ),
        (
            "SELECT (SELECT lower FROM lower('a') AS g) FROM (SELECT email AS lower FROM c) d",
            "c.email",
        ),
        (
            "SELECT (SELECT key FROM jsonb_each('{}') AS k(a, b)) FROM (SELECT email AS key FROM c) d",
            "c.email",
        ),
        ("SELECT x.note FROM (c x JOIN u ON true) AS x(note)", "?"),
        (
            "SELECT (WITH w AS (SELECT x) SELECT x FROM w) FROM (SELECT email AS x FROM c) d",
            "c.email",
        ),
        ("VALUES (1, 2)", "-, -"),
        ("INSERT INTO t (a) VALUES (1)", "none"),
        ("INSERT INTO t (a) VALUES (1) RETURNING id, t.b", "t.id, t.b"),
        ("UPDATE t SET a = 1 FROM u RETURNING t.a, u.b", "t.a, u.b"),
        ("DELETE FROM t AS x RETURNING x.a", "t.a"),
        ("SELECT a INTO b FROM t", "none"),
        ("EXPLAIN SELECT email FROM t", "-"),
        ("SHOW work_mem", "-"),
        ("FETCH ALL c", "unknown"),
        ("COPY t (a, b) TO STDOUT", "t.a, t.b"),
        ("COPY t TO STDOUT", "unknown"),
        ("COPY (SELECT a FROM t) TO STDOUT", "t.a"),
        ("CREATE TABLE x AS SELECT a FROM t", "none"),
        ("SELECT l.y FROM t, LATERAL (SELECT t.a AS y) l", "t.a"),
        ("SELECT a FROM t NATURAL JOIN u", "*.a"),
        ("TABLE t", "unknown"),
        ("SELECT \"T\".\"A\" FROM t \"T\"", "t.A"),
        ("BEGIN", "none"),
    ]
    .iter()
    .filter_map(|(text, expected)| {
        let batch = classified(text);
        let outputs = shown(&batch.statements[0].outputs);
        (outputs != *expected).then(|| {
            format!(
                "{text}\n  is        {outputs}\n  expected  {expected}  {:?}",
                batch.command.unknown
            )
        })
    })
    .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn used(text: &str) -> Option<Vec<String>> {
    let batch = classified(text);
    let mut columns: Vec<String> = batch.statements[0]
        .columns_used
        .as_ref()?
        .iter()
        .map(|column| match &column.relation {
            Some(relation) => format!("{}.{}", relation.name, column.column),
            None => format!("*.{}", column.column),
        })
        .collect();
    columns.sort();
    Some(columns)
}

#[test]
fn columns_that_are_used_are_listed_or_not_known() {
    for (text, expected) in [
        ("SELECT a FROM t WHERE b = 1 ORDER BY c", Some("t.a t.b t.c")),
        ("SELECT count(*) FROM t", Some("")),
        ("SELECT count(*) AS n FROM t ORDER BY n", Some("")),
        (
            "SELECT 1 FROM t JOIN u USING (id) WHERE EXISTS (SELECT FROM v WHERE v.x = u.y)",
            Some("*.id u.y v.x"),
        ),
        ("UPDATE t SET a = b", Some("t.b")),
        ("INSERT INTO t (a) VALUES (1)", Some("")),
        ("DELETE FROM t WHERE email LIKE 'a%'", Some("t.email")),
        ("SELECT * FROM t", None),
        ("SELECT t FROM t", None),
        ("SELECT 1 FROM t NATURAL JOIN u", None),
        ("INSERT INTO t VALUES (1) RETURNING *", None),
        ("SELECT evil()", None),
        ("COPY t TO STDOUT", None),
        ("COPY t (a) TO STDOUT", Some("t.a")),
        ("garbage", None),
    ] {
        let expected =
            expected.map(|columns| columns.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(used(text), expected, "{text}");
    }
}

#[test]
fn a_statement_that_stores_what_it_reads_is_a_sink() {
    for (text, sink) in [
        ("INSERT INTO x SELECT email FROM t", true),
        ("INSERT INTO x VALUES (1, 'a', $1)", false),
        ("INSERT INTO x VALUES ((SELECT email FROM t))", true),
        (
            "INSERT INTO x VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b",
            false,
        ),
        (
            "INSERT INTO x VALUES (1) ON CONFLICT (a) DO UPDATE SET b = x.c",
            true,
        ),
        ("CREATE TEMP TABLE x AS SELECT email FROM t", true),
        ("CREATE VIEW x AS SELECT email AS e FROM t", true),
        ("SELECT email INTO x FROM t", true),
        ("UPDATE t SET note = email", true),
        ("UPDATE t SET note = 'x' WHERE email = 'y'", false),
        ("UPDATE t SET note = u.email FROM u", true),
        (
            "MERGE INTO x USING t ON x.id = t.id WHEN NOT MATCHED THEN INSERT VALUES (t.email)",
            true,
        ),
        ("COPY (SELECT email FROM t) TO '/tmp/x'", true),
        ("COPY (SELECT email FROM t) TO STDOUT", false),
        ("SELECT set_config('a.b', email, false) FROM t", true),
        ("SELECT pg_notify('c', email) FROM t", true),
        ("SELECT lo_from_bytea(0, email::bytea) FROM t", true),
        ("ALTER TABLE t RENAME COLUMN email TO e", true),
        ("ALTER TABLE t ALTER COLUMN a TYPE text USING email", true),
        (
            "ALTER TABLE t ADD COLUMN x text GENERATED ALWAYS AS (email) STORED",
            true,
        ),
        ("ALTER TABLE t SET SCHEMA other", true),
        ("ALTER TABLE t ADD COLUMN x int", false),
        ("EXECUTE p((SELECT email FROM t))", true),
        ("PREPARE p AS INSERT INTO x SELECT email FROM t", true),
        ("EXPLAIN INSERT INTO x SELECT email FROM t", false),
        ("EXPLAIN ANALYZE INSERT INTO x SELECT email FROM t", true),
        ("SELECT email FROM t", false),
        ("REFRESH MATERIALIZED VIEW v", true),
        ("SELECT pg_advisory_lock(pin) FROM t", true),
        ("SELECT pg_advisory_lock(7) FROM t", false),
        ("SELECT setval('s', pin) FROM t", true),
        ("SELECT nextval('s')", false),
        ("SELECT setseed(pin) FROM t", true),
        ("DO 'BEGIN END'", true),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", true),
        ("ALTER FUNCTION f() RENAME TO lower", true),
        ("CREATE OPERATOR + (rightarg = t, function = f)", true),
        ("CREATE AGGREGATE max(t) (sfunc = f, stype = text)", true),
        ("CREATE CAST (t AS text) WITH FUNCTION f(t)", true),
        ("CREATE TYPE x AS (a int)", false),
        ("CREATE TYPE x AS RANGE (subtype = int, subtype_diff = f)", true),
        (
            "CREATE TRIGGER x BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
            true,
        ),
    ] {
        assert_eq!(classified(text).statements[0].sink, sink, "{text}");
    }
}

#[test]
fn names_behind_a_table_are_listed_since_they_can_be_calls() {
    let named = |text: &str| {
        let mut fields: Vec<String> = classified(text).statements[0]
            .fields
            .iter()
            .flatten()
            .filter_map(|field| Some(format!("{}.{}", field.relation.as_ref()?.name, field.column)))
            .collect();
        fields.sort();
        fields.join(" ")
    };
    for (text, expected) in [
        ("SELECT a, o.f, o.g FROM t AS o WHERE o.h", "t.f t.g t.h"),
        ("SELECT s.t.f FROM s.t", "t.f"),
        ("SELECT o.a, o.f FROM t AS o(a)", "t.f"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.f",
            "t.f",
        ),
        ("UPDATE t AS u SET a = u.f RETURNING u.g", "t.f t.g"),
        ("SELECT x.a FROM (SELECT o.f AS a FROM t o) x", "t.f"),
    ] {
        assert_eq!(named(text), expected, "{text}");
    }
}

#[test]
fn session_changes_carry_what_they_prepare() {
    let batch = classified("PREPARE \"P\" (int) AS SELECT email FROM t WHERE id = $1");
    let SessionChange::Prepare { name, statement } = &batch.statements[0].session else {
        panic!("{batch:?}");
    };
    assert_eq!(
        (&**name, &*statement.command.text),
        ("P", "SELECT email FROM t WHERE id = $1")
    );
    assert_eq!(shown(&statement.statements[0].outputs), "t.email");
    let batch = classified("DECLARE c CURSOR FOR SELECT a FROM t");
    assert!(matches!(&batch.statements[0].session, SessionChange::Declare { name, .. } if &**name == "c"));
    for text in [
        "FETCH 5 FROM c",
        "MOVE c",
        "FETCH BACKWARD ALL IN c",
        "fetch relative -1 c",
    ] {
        assert!(
            matches!(&classified(text).statements[0].session, SessionChange::Fetch { name } if &**name == "c"),
            "{text}"
        );
    }
    assert!(
        matches!(&classified("EXPLAIN ANALYZE EXECUTE p").statements[0].session, SessionChange::Execute { name } if &**name == "p")
    );
}

#[test]
fn copy_formats() {
    let csv = |delimiter, quote, escape, header| CopyFormat::Csv {
        delimiter,
        quote,
        escape,
        header,
    };
    for (options, format) in [
        ("", CopyFormat::Text { delimiter: b'\t' }),
        ("(FORMAT csv, HEADER, DELIMITER ';')", csv(b';', b'"', b'"', true)),
        ("CSV QUOTE '|'", csv(b',', b'|', b'|', false)),
        ("WITH (FORMAT 'binary')", CopyFormat::Binary),
        ("WITH BINARY", CopyFormat::Binary),
        (
            "WITH DELIMITER AS '|' NULL AS '\\N'",
            CopyFormat::Text { delimiter: b'|' },
        ),
        ("USING DELIMITERS '|'", CopyFormat::Text { delimiter: b'|' }),
        ("WITH NULL 'x'", CopyFormat::Other),
        ("(ENCODING 'LATIN1')", CopyFormat::Other),
        ("(FORMAT other)", CopyFormat::Other),
        ("(HEADER)", CopyFormat::Other),
        ("CSV HEADER FORCE QUOTE *", csv(b',', b'"', b'"', true)),
        (
            "(FORMAT csv, HEADER off, FORCE_QUOTE (a, b))",
            csv(b',', b'"', b'"', false),
        ),
    ] {
        let batch = classified(&format!("COPY t TO STDOUT {options}"));
        let copy = batch.statements[0]
            .copy_out
            .as_ref()
            .unwrap_or_else(|| panic!("{options}: {:?}", batch.command.unknown));
        assert_eq!(copy.format, format, "{options}");
    }
}
