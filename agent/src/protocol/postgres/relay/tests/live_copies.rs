//! COPY and large values against a real server.

use super::fixture::{Answers, Direct, Message, Through, extended, sync};
use super::live_masks::{batches, columns, detectors, one, prepared, rows, some};
use super::{TestMasks, copying, reading, statement};
use crate::protocol::sql::{CopyFormat, Statement};

fn copied(messages: &[Message]) -> String {
    let data = messages
        .iter()
        .filter(|message| message.0 == b'd')
        .map(|message| message.1.clone());
    String::from_utf8(data.collect::<Vec<_>>().concat()).unwrap()
}

#[test]
fn copies_are_masked_in_text_and_csv() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let masks = columns();
    let text = CopyFormat::Text { delimiter: b'\t' };
    let csv = CopyFormat::Csv {
        delimiter: b',',
        quote: b'"',
        escape: b'"',
        header: true,
    };
    let from_query = |statement: Statement, format| {
        let mut copy = copying("customers", None, format);
        copy.outputs = statement.outputs;
        if let Some(out) = &mut copy.copy_out {
            out.table = None;
        }
        copy
    };
    let cases = [
        (
            "COPY customers TO STDOUT",
            copying("customers", None, text),
            "1\tAnn\t***\t0\t***\t***\n2\tBob\t\\N\t0\t\\N\t\\N\n",
        ),
        (
            "COPY customers (email, id) TO STDOUT (FORMAT csv, HEADER)",
            copying("customers", Some(&["email", "id"]), csv),
            "email,id\n\"***\",1\n,2\n",
        ),
        (
            "COPY (SELECT email || 'x', name FROM customers) TO STDOUT (FORMAT csv, HEADER)",
            from_query(reading("customers", &[&["email"], &["name"]]), csv),
            "?column?,name\n\"***\",Ann\n,Bob\n",
        ),
        (
            "COPY notes TO STDOUT",
            copying("notes", None, text),
            "1\thas SECRET in it\n2\tnothing\n",
        ),
    ];
    let classify = batches(
        cases
            .iter()
            .map(|(text, statement, _)| one(text, statement.clone()))
            .collect(),
    );
    let answers = Answers {
        relations: relations.clone(),
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    for (text, _, expected) in cases {
        assert_eq!(copied(&through.query(text)), expected, "{text}");
        let given = through.exchange(&[extended(text, &[]), sync()].concat(), 1);
        assert_eq!(copied(&given), expected, "extended: {text}");
    }

    // What cannot be masked does not run, and the session goes on.
    let refused = [
        (
            "COPY customers TO STDOUT (FORMAT binary)",
            copying("customers", None, CopyFormat::Binary),
        ),
        (
            "COPY customers TO STDOUT (NULL 'x')",
            copying("customers", None, CopyFormat::Other),
        ),
        (
            "COPY (SELECT * FROM customers) TO STDOUT",
            from_query(statement(), text),
        ),
    ];
    let classify = batches(
        refused
            .iter()
            .map(|(text, statement)| one(text, statement.clone()))
            .collect(),
    );
    let answers = Answers {
        relations: relations.clone(),
        ..Answers::default()
    };
    let mut through = Through::open(&server, "postgres", &masks, classify, answers);
    for (text, _) in refused {
        let given = through.query(text);
        assert!(
            String::from_utf8(given[0].1.clone()).unwrap().contains("C0A000"),
            "{text}"
        );
        assert_eq!(given[1], (b'Z', b"I".to_vec()), "{text}");
    }

    let masks = detectors();
    let classify = batches(vec![one("COPY notes TO STDOUT", copying("notes", None, text))]);
    let mut through = Through::open(&server, "postgres", &masks, classify, Answers::default());
    assert_eq!(
        copied(&through.query("COPY notes TO STDOUT")),
        "1\thas <gone>! in it\n2\tnothing\n"
    );
}

#[test]
fn values_of_many_megabytes_are_masked_in_pieces() {
    let Some((server, relations)) = prepared() else {
        return;
    };
    let all = TestMasks {
        detect: true,
        ..columns()
    };
    let text = "SELECT id, email, pin, name FROM customers WHERE id = 7";
    let copy = "COPY customers TO STDOUT";
    let classify = batches(vec![
        one(
            text,
            reading("customers", &[&["id"], &["email"], &["pin"], &["name"]]),
        ),
        one(
            copy,
            copying("customers", None, CopyFormat::Text { delimiter: b'\t' }),
        ),
    ]);
    let answers = Answers {
        relations,
        ..Answers::default()
    };
    let mut admin = Direct::open(&server, "postgres");
    admin.query("DELETE FROM customers; ALTER TABLE customers DROP CONSTRAINT customers_email_key");
    admin.query(
        "INSERT INTO customers VALUES (7, repeat('n\t', 1000000) || 'SECRET' || repeat('e', 2000000), repeat('m', 5000000), 4711)",
    );
    let mut through = Through::open(&server, "postgres", &all, classify, answers);
    let given = rows(&through.query(text));
    let name = format!("{}******{}", "n\t".repeat(1_000_000), "e".repeat(2_000_000));
    assert!(given == [some(&["7", &"*".repeat(5_000_000), "0000", &name])]);
    let given = copied(&through.query(copy));
    let name = format!("{}******{}", "n\\t".repeat(1_000_000), "e".repeat(2_000_000));
    assert!(given == format!("7\t{name}\t***\t0\t\\N\t\\N\n"));
}
