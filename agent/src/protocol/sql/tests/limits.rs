//! Sizes, and bytes that nobody would send.

use proptest::prelude::*;

use super::*;

fn is_unknown(text: &str) -> bool {
    classified(text).command.unknown.is_some()
}

#[test]
fn long_and_deep_texts_end_no_process() {
    // On a stack as small as that of a thread of the runtime.
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(|| {
            let chain = |terms: usize| format!("SELECT 1{}", "+1".repeat(terms));
            assert!(!is_unknown(&chain(9_000)));
            assert!(is_unknown(&chain(40_000)));
            assert!(is_unknown(&chain(500_000)));
            let nested = |depth: usize| format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth));
            assert!(!is_unknown(&nested(20)));
            assert!(is_unknown(&nested(300)));
            assert!(is_unknown(&nested(100_000)));
            assert!(is_unknown(&format!("SELECT {}", "(".repeat(500_000))));
            let list = vec!["1234567"; 100_000].join(",");
            assert!(!is_unknown(&format!("SELECT * FROM t WHERE id IN ({list})")));
            let rows = vec!["(1,'x')"; 100_000].join(",");
            assert!(!is_unknown(&format!("INSERT INTO t VALUES {rows}")));
            let prefixes = [
                ("NOT ", 15_000),
                ("- ", 15_000),
                ("CASE WHEN ", 5_000),
                ("ARRAY[", 300),
                ("(SELECT ", 300),
                ("EXISTS (SELECT ", 300),
                ("f(", 300),
                ("a.", 9_000),
                ("(", 300),
            ];
            let suffixes = [
                ("::int", 9_000),
                (" UNION SELECT 1", 6_000),
                (" AND true", 9_000),
                ("[1]", 9_000),
                (" IS NULL", 9_000),
                (" COLLATE x", 9_000),
                (" JOIN t", 9_000),
                (" CROSS JOIN t", 6_000),
            ];
            // The larger go to a thread of their own, the smaller are worked off here.
            for (item, most) in prefixes {
                for times in [20, 60, 120, most] {
                    classified(&format!("SELECT {}1", item.repeat(times)));
                    classified(&format!("SELECT 1 FROM {}t", item.repeat(times)));
                }
            }
            for (item, most) in suffixes {
                for times in [20, 60, 120, most] {
                    classified(&format!("SELECT 1{}", item.repeat(times)));
                    classified(&format!("SELECT 1 FROM t{}", item.repeat(times)));
                }
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn more_than_a_mebibyte_is_unknown() {
    assert!(is_unknown(&format!("SELECT 1 --{}", "x".repeat(1 << 20))));
    assert!(!is_unknown(&format!("SELECT 1 --{}", "x".repeat(1 << 19))));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_or_does_nothing(text in "\\PC{0,80}") {
        prop_assert!(!classified(&text).command.actions.is_empty());
    }

    #[test]
    fn no_words_in_any_order_panic_or_do_nothing(words in prop::collection::vec(prop::sample::select(vec![
        "SELECT", "FROM", "t", "(", ")", ",", "*", "WITH", "AS", "DELETE", "UPDATE", "SET", "INSERT", "INTO", "VALUES", "COPY", "TO",
        "STDOUT", "EXPLAIN", "ANALYZE", "PREPARE", "DECLARE", "CURSOR", "FOR", "CREATE", "TABLE", "ALTER", "DROP", "ROLE", "PASSWORD",
        "'x'", "$1", "1", "a.b", "::", "=", ";", "JOIN", "ON", "WHERE", "RETURNING", "lo_export", "GRANT", "MERGE", "USING", ".", "[", "]",
        "UNION", "ORDER", "BY", "ROW", "ONLY", "KEY", "OF", "/*", "*/", "--\n", "'", "E'", "$$",
    ]), 0..24)) {
        let text = words.join(" ");
        let batch = classified(&text);
        prop_assert!(!batch.command.actions.is_empty());
        for secret in &batch.secrets {
            prop_assert!(text.get(secret.clone()).is_some());
        }
    }
}
