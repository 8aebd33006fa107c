//! Masks against a real server: every way by which a value could reach the client.

use std::sync::Arc;

use super::super::super::catalog::Relation;
use super::super::super::wire::DataRow;
use super::super::Event;
use super::fixture::{
    Answers, Direct, Message, Server, Through, bind, describe, execute, extended, parse, server, sync,
};
use super::{Batches, TestMasks, batch, reading, statement};
use crate::model::{ColumnName, Effect};
use crate::protocol::sql::{Batch, Outputs, SessionChange, Statement};

const SETUP: &[&str] = &[
    "CREATE TABLE customers (id int PRIMARY KEY, name text, email text UNIQUE, pin int, data jsonb, born date)",
    "INSERT INTO customers VALUES (1, 'Ann', 'ann@x', 1234, '{\"a\":1}', '2000-01-01'), (2, 'Bob', NULL, 99, NULL, NULL)",
    "CREATE VIEW people AS SELECT id, email AS contact FROM customers",
    "CREATE TABLE notes (n int, body text)",
    "INSERT INTO notes VALUES (1, 'has SECRET in it'), (2, 'nothing')",
];

const MASKS: TestMasks = TestMasks {
    columns: Vec::new(),
    detect: false,
};

pub(super) fn columns() -> TestMasks {
    let columns = ["email", "pin", "data", "born"].map(|column| ("customers", column));
    TestMasks {
        columns: columns.to_vec(),
        ..MASKS
    }
}

pub(super) fn detectors() -> TestMasks {
    TestMasks {
        detect: true,
        ..MASKS
    }
}

pub(super) fn prepared() -> Option<(Server, Vec<Arc<Relation>>)> {
    let server = server()?;
    let mut admin = Direct::open(&server, "postgres");
    for text in SETUP {
        let given = admin.query(text);
        assert!(given.iter().all(|message| message.0 != b'E'), "{text}: {given:?}");
    }
    let given = admin.query(
        "SELECT c.oid, n.nspname, c.relname, a.attnum, a.attname FROM pg_class c JOIN pg_namespace n ON \
         n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid WHERE n.nspname = 'public' AND \
         c.relkind IN ('r', 'v') AND a.attnum > 0 ORDER BY 1",
    );
    let mut relations: Vec<Relation> = Vec::new();
    for row in rows(&given) {
        let [oid, schema, name, number, column] = [0, 1, 2, 3, 4].map(|at| row[at].clone().unwrap());
        let oid = oid.parse().unwrap();
        if relations.last().is_none_or(|last| last.oid != oid) {
            let (schema, name) = (schema.as_str().into(), name.as_str().into());
            relations.push(Relation {
                oid,
                schema,
                name,
                ..Relation::default()
            });
        }
        let columns = &mut relations.last_mut().unwrap().columns;
        columns.insert(number.parse().unwrap(), column.as_str().into());
    }
    let view = relations
        .iter_mut()
        .find(|relation| &*relation.name == "people")
        .unwrap();
    view.rewritten = true;
    view.made_of = ["id", "email"]
        .map(|column| ColumnName {
            schema: "public".into(),
            table: "customers".into(),
            column: column.into(),
        })
        .to_vec();
    Some((server, relations.into_iter().map(Arc::new).collect()))
}

/// The values of all rows, as text.
pub(super) fn rows(messages: &[Message]) -> Vec<Vec<Option<String>>> {
    let mut all = Vec::new();
    for (_, body) in messages.iter().filter(|message| message.0 == b'D') {
        let mut row = DataRow::decode(body).unwrap();
        let mut values = Vec::new();
        while let Some(value) = row.next_value().unwrap() {
            values.push(value.map(|value| String::from_utf8(value.to_vec()).unwrap()));
        }
        all.push(values);
    }
    all
}

pub(super) fn one(text: &str, statement: Statement) -> (String, Batch) {
    (text.to_owned(), batch(text, &[Effect::Read], vec![statement]))
}

pub(super) fn batches(list: Vec<(String, Batch)>) -> Batches {
    list.into_iter()
        .fold(Batches::default(), |batches, (text, batch)| {
            batches.with(&text, batch)
        })
}

pub(super) fn some(values: &[&str]) -> Vec<Option<String>> {
    values
        .iter()
        .map(|value| (*value != "NULL").then(|| (*value).to_owned()))
        .collect()
}

#[test]
fn no_query_shows_a_masked_column() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let all = Statement {
        columns_used: None,
        fields: Some(Vec::new()),
        ..reading("customers", &[])
    };
    let all = Statement {
        outputs: Outputs::Unknown,
        ..all
    };
    let cases = [
        // Origins, whatever the query calls them.
        (
            "SELECT * FROM customers",
            all.clone(),
            "1 Ann *** 0 \"***\" NULL|2 Bob NULL 0 NULL NULL",
        ),
        ("SELECT email AS id FROM customers", all.clone(), "***|NULL"),
        (
            "SELECT x.e FROM (SELECT id, email AS e FROM customers) x",
            all.clone(),
            "***|NULL",
        ),
        // Computed: by lineage.
        (
            "SELECT email||'', name||'!' FROM customers",
            reading("customers", &[&["email"], &["name"]]),
            "*** Ann!|NULL Bob!",
        ),
        ("SELECT upper(email) FROM customers", all.clone(), "***|NULL"),
        (
            "SELECT to_json(customers) FROM customers WHERE id = 1",
            all.clone(),
            "\"***\"",
        ),
        (
            "SELECT customers FROM customers WHERE id = 1",
            all.clone(),
            "NULL",
        ),
        (
            "SELECT email FROM customers UNION SELECT email FROM customers ORDER BY 1",
            all.clone(),
            "***|NULL",
        ),
        (
            "SELECT 1 + pin FROM customers",
            reading("customers", &[&["pin"]]),
            "0|0",
        ),
        ("SELECT count(*) FROM notes", reading("notes", &[&[]]), "2"),
        // Views.
        (
            "SELECT contact FROM people",
            reading("people", &[&["contact"]]),
            "***|NULL",
        ),
        (
            "SELECT contact||'' FROM people",
            reading("people", &[&["contact"]]),
            "***|NULL",
        ),
        // A function of which nobody knows what it reads.
        (
            "SELECT version() IS NOT NULL",
            Statement {
                opaque: true,
                ..statement()
            },
            "NULL",
        ),
        (
            "INSERT INTO customers VALUES (3, 'C', 'c@x') ON CONFLICT DO NOTHING RETURNING email, name",
            all,
            "*** C",
        ),
    ];
    let masks = columns();
    let classify = batches(
        cases
            .iter()
            .map(|(text, statement, _)| one(text, statement.clone()))
            .collect(),
    );
    for (text, _, expected) in &cases {
        let answers = || Answers {
            relations: relations.clone(),
            ..Answers::default()
        };
        let expected: Vec<_> = expected
            .split('|')
            .map(|row| some(&row.split(' ').collect::<Vec<_>>()))
            .collect();
        let mut through = Through::open(&server, "postgres", &masks, classify.clone(), answers());
        through.query("BEGIN");
        assert_eq!(rows(&through.query(text)), expected, "simple: {text}");
        // A masked value anywhere in the record of what happened would be a leak as well.
        assert!(
            through
                .events
                .iter()
                .any(|event| matches!(event, Event::Masked { .. }))
                || *text == "SELECT count(*) FROM notes"
        );
        through.query("ROLLBACK");
        through.query("BEGIN");
        // Executed without a Describe: the machine asks for itself, and the client does not see it.
        let given = through.exchange(&[extended(text, &[]), sync()].concat(), 1);
        assert_eq!(rows(&given), expected, "extended: {text}");
        assert!(given.iter().all(|message| message.0 != b'T'), "extended: {text}");
        through.query("ROLLBACK");
        through.query("BEGIN");
        let script = [
            parse("s", text),
            describe(b'S', "s"),
            bind("", "s", &[], &[]),
            execute("", 1),
            sync(),
        ];
        let given = through.exchange(&script.concat(), 1);
        assert_eq!(rows(&given), expected[..1], "described: {text}");
        // Later, by name, without any description in this cycle.
        through.query("ROLLBACK");
        through.query("BEGIN");
        let given = through.exchange(&[bind("p", "s", &[], &[]), execute("p", 0), sync()].concat(), 1);
        assert_eq!(rows(&given), expected, "again: {text}");
    }
}

#[test]
fn binary_results_are_masked_as_values_of_their_type() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let text = "SELECT id, email, pin, data, born FROM customers WHERE id = 1";
    let classify = batches(vec![one(
        text,
        reading(
            "customers",
            &[&["id"], &["email"], &["pin"], &["data"], &["born"]],
        ),
    )]);
    let answers = Answers {
        relations,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    for formats in [&[1][..], &[1, 1, 1, 1, 1]] {
        let script = [
            parse("", text),
            bind("", "", &[], formats),
            execute("", 0),
            sync(),
        ]
        .concat();
        let given = through.exchange(&script, 1);
        let row = &given.iter().find(|message| message.0 == b'D').unwrap().1;
        let expected: &[u8] =
            b"\0\x05\0\0\0\x04\0\0\0\x01\0\0\0\x03***\0\0\0\x04\0\0\0\0\0\0\0\x06\x01\"***\"\xff\xff\xff\xff";
        assert_eq!(row, expected);
    }
}

#[test]
fn cursors_and_sql_prepared_statements_are_masked() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let query = "SELECT email||'' FROM customers";
    let inner = Arc::new(one(query, reading("customers", &[&["email"]])).1);
    let session = |session| Statement {
        session,
        ..statement()
    };
    let name: Arc<str> = "c".into();
    let prepare = SessionChange::Prepare {
        name: Arc::clone(&name),
        statement: Arc::clone(&inner),
    };
    let declare = SessionChange::Declare {
        name: Arc::clone(&name),
        statement: inner,
    };
    let classify = batches(vec![
        one("PREPARE c AS SELECT email||'' FROM customers", session(prepare)),
        one(
            "DECLARE c CURSOR FOR SELECT email||'' FROM customers",
            session(declare),
        ),
        one(
            "EXECUTE c",
            session(SessionChange::Execute {
                name: Arc::clone(&name),
            }),
        ),
        one("FETCH ALL c", session(SessionChange::Fetch { name })),
    ]);
    let answers = Answers {
        relations,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    let expected = vec![some(&["***"]), some(&["NULL"])];
    through.query("PREPARE c AS SELECT email||'' FROM customers");
    assert_eq!(rows(&through.query("EXECUTE c")), expected);
    // The same name by the other protocol.
    let given = through.exchange(&[bind("", "c", &[], &[]), execute("", 0), sync()].concat(), 1);
    assert_eq!(rows(&given), expected);
    through.query("BEGIN");
    through.query("DECLARE c CURSOR FOR SELECT email||'' FROM customers");
    assert_eq!(rows(&through.query("FETCH ALL c")), expected);
    through.query("MOVE ABSOLUTE 0 FROM c");
    let given = through.exchange(&[execute("c", 0), sync()].concat(), 1);
    assert_eq!(rows(&given), expected, "a cursor is a portal");
}

#[test]
fn relations_of_the_open_transaction_are_not_trusted() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let make = "CREATE TEMP TABLE own AS SELECT 1 AS n";
    let mut creating = one(
        make,
        Statement {
            sink: true,
            ..statement()
        },
    );
    creating
        .1
        .command
        .actions
        .push(super::unresolved("own", Effect::SchemaCreate));
    let classify = batches(vec![
        one("CREATE VIEW v AS SELECT email AS x FROM customers", statement()),
        one("SELECT x FROM v", reading("v", &[&["x"]])),
        one("SELECT x||'' FROM v", reading("v", &[&["x"]])),
        creating,
        one("SELECT n FROM own", reading("own", &[&["n"]])),
    ]);
    let answers = Answers {
        relations,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    through.query("BEGIN");
    through.query("CREATE VIEW v AS SELECT email AS x FROM customers");
    assert_eq!(rows(&through.query("SELECT x FROM v"))[0], some(&["NULL"]));
    assert_eq!(rows(&through.query("SELECT x||'' FROM v"))[0], some(&["NULL"]));
    through.query(make);
    assert_eq!(
        rows(&through.query("SELECT n FROM own")),
        [some(&["1"])],
        "a table of its own, of nothing masked"
    );
}

#[test]
fn errors_do_not_quote_masked_values() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let classify = batches(vec![
        one(
            "SELECT email::int FROM customers",
            reading("customers", &[&["email"]]),
        ),
        one(
            "INSERT INTO customers SELECT 9, 'n', email FROM customers WHERE id = 1",
            reading("customers", &[]),
        ),
    ]);
    let answers = Answers {
        relations,
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify.clone(), answers);
    for text in classify.0.keys() {
        let given = through.query(text);
        let error = given.iter().find(|message| message.0 == b'E').unwrap();
        let error = String::from_utf8(error.1.clone()).unwrap();
        assert!(!error.contains("ann@x"), "{error}");
        assert!(
            error.contains("invalid input syntax") || error.contains("unique constraint"),
            "{error}"
        );
    }
    let masks = detectors();
    let mut through = Through::open(
        &server,
        "postgres",
        &masks,
        Batches::default(),
        Answers::default(),
    );
    let given = through.query("SELECT body::int FROM notes");
    assert_eq!(given[0].0, b'T');
    assert!(
        String::from_utf8(given[1].1.clone())
            .unwrap()
            .contains("\"has <gone>! in it\""),
        "{given:?}"
    );
    let given = through.query("DO $$ BEGIN RAISE NOTICE 'the SECRET is out'; END $$");
    assert!(
        String::from_utf8(given[0].1.clone())
            .unwrap()
            .contains("Mthe <gone>! is out\0")
    );
}

#[test]
fn a_prepared_statement_that_comes_to_mean_another_table_is_described_again() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let text = "SELECT email FROM customers";
    let path = "SET search_path = decoy";
    let mut setting = one(path, statement());
    setting.1.command.actions.push(crate::model::Action {
        effect: Effect::Session,
        object: Some(crate::model::Object {
            kind: crate::model::ObjectKind::Setting,
            schema: crate::model::Schema::Named("".into()),
            name: "search_path".into(),
        }),
    });
    let back = "SET search_path = public";
    let mut restoring = setting.clone();
    restoring.0 = back.to_owned();
    let classify = batches(vec![
        one(text, reading("customers", &[&["email"]])),
        setting,
        restoring,
    ]);
    let mut admin = Direct::open(&server, "postgres");
    admin.query("CREATE SCHEMA decoy; CREATE TABLE decoy.customers AS SELECT 'mine'::text AS email");
    let given = admin.query("SELECT 'decoy.customers'::regclass::oid");
    let oid = rows(&given)[0][0].clone().unwrap().parse().unwrap();
    let decoy = Relation {
        oid,
        schema: "decoy".into(),
        name: "things".into(),
        columns: [(1, "email".into())].into(),
        ..Relation::default()
    };
    let answers = Answers {
        relations: relations.into_iter().chain([Arc::new(decoy)]).collect(),
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    through.query(path);
    let script = [
        parse("s", text),
        describe(b'S', "s"),
        bind("", "s", &[], &[]),
        execute("", 0),
        sync(),
    ];
    assert_eq!(rows(&through.exchange(&script.concat(), 1)), [some(&["mine"])]);
    through.query(back);
    let script = [bind("", "s", &[], &[]), execute("", 0), sync()].concat();
    assert_eq!(rows(&through.exchange(&script, 1))[0], some(&["***"]));
}
