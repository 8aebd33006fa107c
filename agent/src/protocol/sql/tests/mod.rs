//! Tables of statements and what they do; attacks; statements of real clients; arbitrary bytes.

mod attacks;
mod corpora;
mod effects;
mod limits;
mod lineage;

use super::*;

const ON: LexState = LexState {
    standard_conforming_strings: true,
};

fn classified(text: &str) -> Batch {
    classify(text, ON)
}

/// Checks a table of texts and the summaries that they must have.
fn check(table: &[(&str, &str)]) {
    let wrong: Vec<String> = table
        .iter()
        .filter_map(|(text, expected)| {
            let batch = classified(text);
            let summary = batch.summary();
            (summary != *expected).then(|| {
                format!(
                    "{text}\n  is        {summary}\n  expected  {expected}\n  {:?}",
                    batch.command.unknown
                )
            })
        })
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
