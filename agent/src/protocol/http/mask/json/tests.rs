use std::fmt::Write as _;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::testing::{TestMask, cut, masks};
use super::*;

fn run(masks: &Arc<Masks>, text: &[u8]) -> Result<Vec<u8>, Unmaskable> {
    cut(&mut Json::new(masks.clone()), text, || usize::MAX)
}

fn masked(rules: &[TestMask<'_>], text: &str) -> String {
    let masks = masks(rules);
    let whole = run(&masks, text.as_bytes());
    for step in [1, 2, 3, 7] {
        let pieces = cut(&mut Json::new(masks.clone()), text.as_bytes(), || step);
        assert_eq!(pieces, whole, "cut every {step}: {text}");
    }
    let out = String::from_utf8(whole.unwrap_or_else(|error| panic!("{text}: {error}"))).unwrap();
    for document in
        serde_json::Deserializer::from_str(out.trim_start_matches('\u{feff}')).into_iter::<Value>()
    {
        document.unwrap_or_else(|error| panic!("{out}: {error}"));
    }
    out
}

#[test]
fn paths_and_keys_are_masked_and_everything_else_stays_as_it_is_written() {
    use TestMask::{Json, Key};
    let cases: &[(&[TestMask<'_>], &str, &str)] = &[
        (
            &[Json("$.users[*].email", "redact")],
            r#"{ "users" : [ {"email":"a@b.c", "id": 1.50e+3}, {"id":2,"email" :null} ], "email":"x" }"#,
            r#"{ "users" : [ {"email":"[redacted]", "id": 1.50e+3}, {"id":2,"email" :null} ], "email":"x" }"#,
        ),
        (
            &[Json("$..token", "redact")],
            r#"{"token":"a","b":{"token":"c"},"d":[[{"token":7}]]}"#,
            r#"{"token":"[redacted]","b":{"token":"[redacted]"},"d":[[{"token":0}]]}"#,
        ),
        // Names by what they mean, not by how they are written; and every member of that name.
        (
            &[Json("$.email", "redact")],
            r#"{"\u0065mail":"a","e\u006dail":"b","email":"c","Email":"d"}"#,
            r#"{"\u0065mail":"[redacted]","e\u006dail":"[redacted]","email":"[redacted]","Email":"d"}"#,
        ),
        (
            &[Key("email", "redact"), Key("*_token", "null")],
            r#"{"EMAIL":"a","b":[{"access_token":"t","tokens":"u"}],"Em\u0061il":1}"#,
            r#"{"EMAIL":"[redacted]","b":[{"access_token":null,"tokens":"u"}],"Em\u0061il":0}"#,
        ),
        // Whole objects and arrays, with braces and quotes in their strings.
        (
            &[Json("$.secret", "redact")],
            r#"{"secret":{"a":[1,"}",{"b":"\"]}"}]},"c":[2]}"#,
            r#"{"secret":"[redacted]","c":[2]}"#,
        ),
        (&[Json("$", "null")], "[1,{\"a\":2}] {}", "null null"),
        (&[Json("$[1:3]", "redact")], "[1,2,3,4]", "[1,0,0,4]"),
        (&[Json("$[0]", "redact")], r#"["a","b"]"#, r#"["[redacted]","b"]"#),
        (
            &[Json("$..[1]", "redact")],
            r#"[["a","b"],"c",[{"x":[0,9]}]]"#,
            r#"[["a","[redacted]"],"[redacted]",[{"x":[0,0]}]]"#,
        ),
        (
            &[Json("$..a..b", "redact")],
            r#"{"b":1,"a":{"b":2,"c":{"b":3}}}"#,
            r#"{"b":1,"a":{"b":0,"c":{"b":0}}}"#,
        ),
        (
            &[Json("$['a','b']", "redact")],
            r#"{"a":true,"b":false,"c":true}"#,
            r#"{"a":null,"b":null,"c":true}"#,
        ),
        (
            &[Json("$.a", "partial")],
            r#"{"a":"alice@acme.test"}"#,
            r#"{"a":"a***@a***.test"}"#,
        ),
        (
            &[Json("$.*", "(\"hidden\")")],
            r#"{"a":"x","b":1,"c":[2],"d":null}"#,
            r#"{"a":"(\"hidden\")","b":"(\"hidden\")","c":"(\"hidden\")","d":null}"#,
        ),
        (&[Json("$.*", "42")], r#"{"a":"x","b":1}"#, r#"{"a":"42","b":42}"#),
        // The first mask of the policy counts.
        (
            &[Key("a", "null"), Json("$.a", "redact")],
            r#"{"a":"x"}"#,
            r#"{"a":null}"#,
        ),
        (
            &[Json("$.a", "redact"), Key("a", "null")],
            r#"{"a":"x"}"#,
            r#"{"a":"[redacted]"}"#,
        ),
        // Several documents, and what stands between them.
        (
            &[Key("a", "redact")],
            "{\"a\":\"1\"}\n{\"a\":\"2\"}\n\n\u{1e}{\"a\":3}{\"a\":4} 5 6",
            "{\"a\":\"[redacted]\"}\n{\"a\":\"[redacted]\"}\n\n\u{1e}{\"a\":0}{\"a\":0} 5 6",
        ),
        (
            &[Key("a", "redact")],
            "\u{feff}{\"a\":\"x\"}",
            "\u{feff}{\"a\":\"[redacted]\"}",
        ),
        (&[Key("a", "redact")], "", ""),
        (
            &[Json("$.a.b", "redact")],
            r#"{"a":{},"c":{"b":1}, "a": {"b":1}}"#,
            r#"{"a":{},"c":{"b":1}, "a": {"b":0}}"#,
        ),
    ];
    for (rules, text, wanted) in cases {
        let out = if text.contains('\u{1e}') {
            String::from_utf8(run(&masks(rules), text.as_bytes()).unwrap()).unwrap()
        } else {
            masked(rules, text)
        };
        assert_eq!(out, *wanted, "{text}");
    }
}

#[test]
fn hashes_of_equal_values_are_equal_and_of_the_type() {
    let out = masked(
        &[TestMask::Key("h", "hash")],
        r#"[{"h":"x"},{"h":"\u0078"},{"h":7},{"h":7},{"h":{"a":1}},{"h":true}]"#,
    );
    let values: Value = serde_json::from_str(&out).unwrap();
    let of = |at: usize| &values[at]["h"];
    assert_eq!(of(0), of(1));
    assert_ne!(of(0), "x");
    assert!(of(2).is_u64() && of(2) == of(3));
    assert_eq!(of(4).as_str().unwrap().len(), 32);
    assert!(of(5).is_null());
}

#[test]
fn detectors_see_characters_and_not_how_they_are_written() {
    let rules = &[
        TestMask::Detect("email", "redact"),
        TestMask::Detect("card", "partial"),
    ];
    let cases = [
        (
            r#"{"note":"ask alice@acme.test"}"#,
            r#"{"note":"ask [redacted:email]"}"#,
        ),
        (
            r#"["alice\u0040acme.test\n\"x\""]"#,
            r#"["[redacted:email]\n\"x\""]"#,
        ),
        (r#"{"bob@acme.test":1}"#, r#"{"[redacted:email]":1}"#),
        (
            "[4111111111111111, 4111111111111112]",
            "[\"************1111\", 4111111111111112]",
        ),
        (r#"["\u00e9 stays \/ so"]"#, r#"["\u00e9 stays \/ so"]"#),
    ];
    for (text, wanted) in cases {
        assert_eq!(masked(rules, text), wanted);
    }
}

#[test]
fn what_is_no_json_is_refused() {
    let masks = masks(&[
        TestMask::Key("email", "redact"),
        TestMask::Detect("card", "redact"),
    ]);
    let cases: &[&[u8]] = &[
        b"{",
        b"[1,]",
        b"[1 2]",
        b"{\"a\" 1}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":1,}",
        b"[01]",
        b"[1.]",
        b"[-]",
        b"[1e]",
        b"[+1]",
        b"[NaN]",
        b"[nul]",
        b"[truefalse]",
        b"]",
        b"{]",
        b"[}",
        b"\"a",
        b"\"a\nb\"",
        b"// comment\n{}",
        b"{} x",
        b"\xef\xbb{}",
        b"{\"e\\xmail\":1}",
        b"{\"\xffemail\":1}",
        b"\xff\xfe{\x00",
        b"{\x00\"\x00",
        b"tru",
        b"1e",
    ];
    for text in cases {
        for step in [1, usize::MAX] {
            let out = cut(&mut Json::new(masks.clone()), text, || step);
            assert!(out.is_err(), "{:?}: {out:?}", String::from_utf8_lossy(text));
        }
    }
    let deep = "[".repeat(DEEPEST + 1);
    assert!(matches!(
        run(&masks, deep.as_bytes()),
        Err(Unmaskable::TooLarge(_))
    ));
    let long = format!("{{\"{}\":1}}", "a".repeat(LONGEST_STRING + 1));
    assert!(matches!(
        run(&masks, long.as_bytes()),
        Err(Unmaskable::TooLarge(_))
    ));
}

#[test]
fn a_deep_document_is_followed_to_its_bottom() {
    let text = format!(
        "{}{{\"token\":\"x\"}}{}",
        "{\"a\":[".repeat(900),
        "]}".repeat(900)
    );
    // Deeper than the reader that `masked` checks with goes.
    let out = run(&masks(&[TestMask::Json("$..token", "redact")]), text.as_bytes()).unwrap();
    assert_eq!(out, text.replace("\"x\"", "\"[redacted]\"").into_bytes());
}

#[test]
fn strings_that_are_never_had_whole_are_masked_all_the_same() {
    let filler = r"lorem \u00e4 ipsum \n ".repeat(4_000);
    let text = format!(
        r#"{{"note":"{filler}alice@acme.test {filler}","email":"{filler}","a":1,"plain":"{filler}"}}"#
    );
    let out = masked(
        &[
            TestMask::Key("email", "redact"),
            TestMask::Detect("email", "redact"),
        ],
        &text,
    );
    let wanted = text
        .replace("alice@acme.test", "***************")
        .replace(&format!(r#""email":"{filler}""#), r#""email":"[redacted]""#);
    assert!(out == wanted, "{}", out.len());
}

#[test]
fn an_escape_hides_nothing_in_a_long_string() {
    let filler = "x ".repeat(30_000);
    let text = format!(r#"["{filler}alice\u0040acme.test {filler}"]"#);
    let out = masked(&[TestMask::Detect("email", "redact")], &text);
    assert!(!out.contains("alice") && !out.contains("acme.test"));
    assert_eq!(out.len(), text.len() - 5, "one character is one star");
}

#[test]
fn what_is_masked_is_counted() {
    let masks = masks(&[
        TestMask::Key("email", "redact"),
        TestMask::Json("$[*].secret", "null"),
        TestMask::Detect("card", "redact"),
    ]);
    let mut json = Json::new(masks.clone());
    let text = r#"[{"email":"a","secret":{}},{"email":"b","card":"4111111111111111"}]"#;
    cut(&mut json, text.as_bytes(), || 5).unwrap();
    let mut counts = Counts::default();
    json.report(&mut counts);
    let lines: Vec<(String, u64)> = counts
        .lines(&masks)
        .into_iter()
        .map(|line| (line.what, line.values))
        .collect();
    let wanted = [("email", 2), ("$[*].secret", 1), ("body", 1)];
    assert_eq!(lines, wanted.map(|(what, values)| (what.to_owned(), values)));
}

#[test]
fn memory_is_flat_however_large_the_body() {
    let masks = masks(&[
        TestMask::Key("email", "redact"),
        TestMask::Detect("card", "redact"),
    ]);
    let mut json = Json::new(masks);
    let mut out = Vec::new();
    json.push(b"[0", &mut out).unwrap();
    for number in 0..20_000 {
        let mut piece = String::new();
        write!(
            piece,
            ",{{\"id\":{number},\"email\":\"{}\"}}",
            "e".repeat(number % 97)
        )
        .unwrap();
        out.clear();
        json.push(piece.as_bytes(), &mut out).unwrap();
        assert!(out.len() < 100 && json.token.capacity() < 1024 && json.states.capacity() < 64);
    }
    out.clear();
    json.push(b"]", &mut out).unwrap();
    json.finish(&mut out).unwrap();
    assert_eq!(out, b"]");
}

#[test]
fn headers_have_no_part_in_bodies() {
    let text = r#"{"email":"x"}"#;
    assert_eq!(masked(&[TestMask::Header("email", "redact")], text), text);
}

/// Documents with secrets under `email` at any depth.
fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        "[\\x00-\\x7f\u{80}-\u{2ff}]{0,20}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let name = prop_oneof![
            Just("email".to_owned()),
            Just("EMAIL".to_owned()),
            "\\PC{0,6}".prop_map(String::from)
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// What the mask of `email` has to make of a document.
fn model(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(model).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| {
                let value = if name.eq_ignore_ascii_case("email") {
                    match value {
                        Value::Null | Value::Bool(_) => Value::Null,
                        Value::Number(_) => json!(0),
                        _ => json!("[redacted]"),
                    }
                } else {
                    model(value)
                };
                (name.clone(), value)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        other => other.clone(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn a_document_becomes_what_the_model_makes_of_it(value in document(), pretty: bool, steps in prop::collection::vec(1_usize..40, 1..8)) {
        let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
        let masks = masks(&[TestMask::Key("email", "redact")]);
        let whole = run(&masks, text.as_bytes()).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&whole).unwrap(), model(&serde_json::from_str(&text).unwrap()));
        let mut steps = steps.into_iter().cycle();
        let pieces = cut(&mut Json::new(masks), text.as_bytes(), || steps.next().unwrap()).unwrap();
        prop_assert_eq!(pieces, whole);
    }

    #[test]
    fn what_no_mask_is_about_stays_byte_for_byte(value in document(), step in 1_usize..30) {
        let text = serde_json::to_string_pretty(&value).unwrap();
        let masks = masks(&[TestMask::Json("$..nowhere", "redact"), TestMask::Detect("private-key", "redact")]);
        let out = cut(&mut Json::new(masks), text.as_bytes(), || step).unwrap();
        prop_assert_eq!(out, text.into_bytes());
    }

    #[test]
    fn any_bytes_are_json_or_an_error_wherever_they_are_cut(text in "[\\[\\]{}\",:\\\\ue0-9 .+a-]{0,40}|\\PC{0,30}", step in 1_usize..5) {
        let masks = masks(&[TestMask::Key("e*", "redact"), TestMask::Detect("email", "redact")]);
        let whole = run(&masks, text.as_bytes());
        let pieces = cut(&mut Json::new(masks), text.as_bytes(), || step);
        prop_assert_eq!(whole.is_ok(), pieces.is_ok());
        if let (Ok(whole), Ok(pieces)) = (whole, pieces) {
            prop_assert_eq!(&whole, &pieces);
            let documents = serde_json::Deserializer::from_slice(&whole).into_iter::<serde::de::IgnoredAny>();
            for document in documents {
                prop_assert!(document.is_ok(), "{text:?} -> {:?}", String::from_utf8_lossy(&whole));
            }
        }
    }
}
