//! Ways round Tollgate, all of them, against the whole agent: `cargo xtask test --only bypass`.
//!
//! `TOLLGATE_BYPASS_ONLY` narrows it to vectors whose name contains it; `TOLLGATE_BYPASS_JSON` names a file that gets a
//! JSON line for each row.

use tollgate_tests::bypass::{document, report, suite};

#[test]
#[expect(clippy::print_stdout, reason = "the table is what the suite is run for")]
fn nothing_gets_around_it_but_what_the_threat_model_lists() {
    let only = std::env::var("TOLLGATE_BYPASS_ONLY").unwrap_or_default();
    let rows = suite::run(&only).unwrap();
    println!("\n{}", report::table(&rows));
    if let Some(file) = std::env::var_os("TOLLGATE_BYPASS_JSON") {
        report::write_json(&rows, file.as_ref()).unwrap();
    }
    let wrong: Vec<_> = rows.iter().filter_map(report::Row::wrong).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_threat_model_has_the_table_of_the_suite() {
    let text = match std::fs::read_to_string(document::path()) {
        Ok(text) => text,
        // The suite alone was copied to another machine: it was checked where it was built.
        Err(_) if std::env::var_os("TOLLGATE_BYPASS_DIR").is_some() => return,
        Err(error) => panic!("{}: {error}", document::path().display()),
    };
    assert!(
        document::updated(&text).unwrap() == text,
        "docs/threat-model.md is out of date: run `cargo xtask threat-model`"
    );
}
