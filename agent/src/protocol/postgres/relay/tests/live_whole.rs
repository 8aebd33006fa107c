//! The machine with the real classifier and the real masks, against a real server: whatever is asked, the masked
//! value is in none of the answers.

use std::sync::Arc;

use super::super::Event;
use super::fixture::{Answers, Message, Through, bind, describe, execute, extended, parse, sync};
use super::live_masks::{prepared, rows};
use crate::config::{ColumnPattern, Detector, MaskOperator, MaskRule, MaskTarget};
use crate::mask::Masks;
use crate::model::Effect;
use crate::policy::Ruling;
use crate::protocol::sql::{Cache, LexState};

fn masks() -> Masks {
    let pattern = |column: &str| ColumnPattern {
        schema: "*".to_owned(),
        table: "customers".to_owned(),
        column: column.to_owned(),
    };
    let rules = [
        MaskRule {
            target: MaskTarget::Columns(vec![pattern("email"), pattern("pin")]),
            operator: MaskOperator::Redact,
        },
        MaskRule {
            target: MaskTarget::Detect(vec![Detector::Card]),
            operator: MaskOperator::Redact,
        },
    ];
    Masks::compile(&rules, [7; 32])
}

/// Allows everything but what the policy language refuses by itself.
fn judge(command: &crate::model::Command) -> Ruling {
    let effects = command.effects();
    if effects.contains(Effect::Declassify) || effects.contains(Effect::Unknown) {
        Ruling::Deny(super::denied())
    } else {
        super::allow()
    }
}

const LEAKS: &[&str] = &[
    "SELECT * FROM customers",
    "SELECT email AS name FROM customers c",
    "SELECT c.* FROM customers c JOIN notes n ON n.n = c.id",
    "SELECT email || '' FROM customers",
    "SELECT c FROM customers c",
    "SELECT (c).email || 'x' FROM customers c",
    "SELECT row_to_json(c) FROM customers c",
    "SELECT to_jsonb(c) - 'id' FROM customers c",
    "SELECT json_agg(customers) FROM customers",
    "SELECT array_agg(email) FROM customers",
    "SELECT string_agg(email, ',') FROM customers",
    "SELECT max(email), min(pin) FROM customers",
    "SELECT e FROM (SELECT email e FROM customers UNION ALL SELECT body FROM notes) x",
    "SELECT email FROM customers UNION SELECT name FROM customers",
    "SELECT name FROM customers UNION SELECT email FROM customers",
    "WITH x AS (SELECT email FROM customers) SELECT email || '' FROM x",
    "WITH RECURSIVE r AS (SELECT email FROM customers UNION SELECT email FROM r) SELECT * FROM r",
    "SELECT unnest(array[email]) FROM customers",
    "SELECT x FROM customers, LATERAL (SELECT email || '' AS x) l",
    "SELECT (SELECT email FROM customers WHERE id = 1)",
    "SELECT array(SELECT email FROM customers)",
    "SELECT CASE WHEN true THEN email ELSE '' END FROM customers",
    "SELECT coalesce(email, name) FROM customers",
    "SELECT contact FROM people",
    "SELECT contact || '' FROM people",
    "SELECT people FROM people",
    "SELECT substr(email, 1, 5) FROM customers",
    "SELECT t.email FROM (TABLE customers) t",
    "TABLE customers",
    "VALUES ((SELECT email FROM customers WHERE id = 1))",
    "SELECT query_to_xml('SELECT email FROM customers', true, true, '')",
    "SELECT table_to_xml('customers', true, true, '')",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'customers'",
    "SELECT histogram_bounds::text FROM pg_stats WHERE tablename = 'customers'",
    "SELECT email::int FROM customers",
    "SELECT 1 / (length(email) - 5) FROM customers",
    "UPDATE customers SET name = name RETURNING email || ''",
    "UPDATE customers SET name = email RETURNING name",
    "INSERT INTO notes SELECT 9, email FROM customers RETURNING body",
    "INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = customers.email RETURNING name",
    "DELETE FROM customers RETURNING *",
    "CREATE TEMP TABLE stolen AS SELECT email FROM customers",
    "SELECT set_config('a.b', email, false) FROM customers",
    "COPY customers TO STDOUT",
    "COPY customers (email) TO STDOUT (FORMAT csv)",
    "COPY (SELECT email FROM customers) TO STDOUT",
    "COPY (SELECT * FROM customers) TO STDOUT",
    "COPY customers TO STDOUT (FORMAT binary)",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT email FROM customers WHERE email = 'q'",
    "DO $$ BEGIN RAISE NOTICE '%', (SELECT email FROM customers WHERE id = 1); END $$",
    "PREPARE p AS SELECT email || '' FROM customers; EXECUTE p",
    "BEGIN; DECLARE cur CURSOR FOR SELECT upper(email) FROM customers; FETCH ALL cur; COMMIT",
    "BEGIN; CREATE VIEW w AS SELECT email AS x FROM customers; SELECT x FROM w; ROLLBACK",
    "BEGIN; CREATE VIEW w AS SELECT email AS x FROM customers; SELECT x || '' FROM w; ROLLBACK",
    "SELECT '4111111111111111'",
    "SELECT 'x' AS a, '4111 1111 1111 1111' AS b",
];

fn assert_clean(given: &[Message], text: &str) {
    for (tag, body) in given {
        let shown = body.escape_ascii().to_string();
        let lower = body.to_ascii_lowercase();
        for value in [&b"ann@x"[..], b"ann@", b"4111"] {
            let own = *tag == b'T';
            assert!(
                own || memchr::memmem::find(&lower, value).is_none(),
                "{text}: {shown}"
            );
        }
        // An e-mail address in hexadecimal, as bytea or XML could show it.
        assert!(
            memchr::memmem::find(&lower, b"616e6e40").is_none(),
            "{text}: {shown}"
        );
    }
}

#[test]
fn no_way_of_asking_shows_a_masked_value() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = masks();
    let cache = Cache::new(1000, 1 << 20);
    let classify = |text: &str, lex: LexState| cache.classify(text, lex);
    let mut masked = 0;
    for text in LEAKS {
        let answers = || Answers {
            judge: Box::new(|command, _| judge(command)),
            relations: relations.clone(),
            ..Answers::default()
        };
        let mut through = Through::open(&server, "postgres", &masks, classify, answers());
        let explicit = text.starts_with("BEGIN");
        if !explicit {
            through.query("BEGIN");
        }
        assert_clean(&through.query(text), text);
        through.query("ROLLBACK");
        // Statement by statement, in one transaction and with answers awaited.
        if !explicit {
            through.query("BEGIN");
        }
        for part in text.split("; ") {
            assert_clean(&through.query(part), text);
        }
        through.query("ROLLBACK");
        through.query("BEGIN");
        let statement = text.split("; ").last().unwrap();
        for format in [0, 1] {
            let script = [
                parse("", statement),
                bind("", "", &[], &[format]),
                execute("", 0),
                sync(),
            ]
            .concat();
            assert_clean(&through.exchange(&script, 1), text);
            through.query("ROLLBACK");
            through.query("BEGIN");
        }
        let script = [parse("", statement), describe(b'S', ""), sync()].concat();
        through.exchange(&script, 1);
        let script = [
            bind("", "", &[], &[]),
            describe(b'P', ""),
            execute("", 1),
            execute("", 0),
            sync(),
        ];
        assert_clean(&through.exchange(&script.concat(), 1), text);
        through.query("ROLLBACK");
        masked += usize::from(
            through
                .events
                .iter()
                .any(|event| matches!(event, Event::Masked { .. })),
        );
    }
    // Most of them run; those that are refused would copy the value to a place where no mask finds it.
    assert!(masked > 35, "only {masked} of them returned anything");
}

#[test]
fn what_is_not_masked_is_not_touched() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = masks();
    let cache = Cache::new(1000, 1 << 20);
    let classify = |text: &str, lex: LexState| cache.classify(text, lex);
    let relations: Vec<Arc<_>> = relations;
    let answers = Answers {
        judge: Box::new(|command, _| judge(command)),
        relations,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    let mut direct = super::fixture::Direct::open(&server, "postgres");
    let texts = [
        "SELECT id, name FROM customers ORDER BY id",
        "SELECT upper(name) || 'é', id + 1 FROM customers ORDER BY id",
        "SELECT count(*) FROM customers",
        "SELECT 1, 'two', now() IS NOT NULL",
        "SELECT n, body FROM notes ORDER BY n",
        "SELECT json_build_object('a', n) FROM notes ORDER BY n",
        "INSERT INTO notes VALUES (5, 'five') RETURNING *",
        "SELECT * FROM generate_series(1, 3)",
        "SHOW server_version",
        "COPY notes TO STDOUT",
        "COPY customers (id, name) TO STDOUT",
        "COPY (SELECT id, name FROM customers ORDER BY id) TO STDOUT (FORMAT csv, HEADER)",
        "SELECT n FROM notes WHERE n = 1; SELECT body FROM notes WHERE n = 2",
        "SELECT * FROM missing",
        "",
    ];
    for text in texts {
        let given = through.query(text);
        let expected = direct.query(text);
        assert_eq!(given, expected, "{text}");
        if !text.contains("; ") {
            let script = [extended(text, &[]), sync()].concat();
            assert_eq!(
                through.exchange(&script, 1),
                direct.exchange(&script, 1),
                "extended: {text}"
            );
        }
    }
    // The copy of a table made in the same transaction, of nothing masked.
    through.query("BEGIN");
    through.query("CREATE TEMP TABLE own AS SELECT id FROM customers WHERE id = 1");
    assert_eq!(
        rows(&through.query("SELECT id FROM own")),
        [[Some("1".to_owned())]]
    );
}
