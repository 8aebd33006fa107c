use proptest::prelude::*;

use super::*;
use crate::config::{ColumnPattern, Detector};

const KEY: [u8; 32] = [7; 32];

fn pattern(text: &str) -> ColumnPattern {
    let parts: Vec<&str> = text.split('.').collect();
    let (schema, table, column) = match parts[..] {
        [table, column] => ("*", table, column),
        [schema, table, column] => (schema, table, column),
        _ => panic!("a test's pattern has two or three parts: {text}"),
    };
    ColumnPattern {
        schema: schema.into(),
        table: table.into(),
        column: column.into(),
    }
}

fn columns(patterns: &[&str], operator: MaskOperator) -> MaskRule {
    MaskRule {
        target: MaskTarget::Columns(patterns.iter().map(|text| pattern(text)).collect()),
        operator,
    }
}

fn name(text: &str) -> ColumnName {
    let pattern = pattern(text);
    ColumnName {
        schema: pattern.schema.into(),
        table: pattern.table.into(),
        column: pattern.column.into(),
    }
}

/// What the only column mask of `operator` makes of a value; `None` is NULL.
fn masked(operator: &MaskOperator, value: &[u8], ty: ValueType, format: ValueFormat) -> Option<Vec<u8>> {
    let masks = Masks::compile(&[columns(&["*.*"], operator.clone())], KEY);
    let id = masks.column(&name("public.t.c")).unwrap();
    let mut out = b"before".to_vec();
    match masks.mask(id, value, ty, format, &mut out) {
        Masked::Value => Some(out.strip_prefix(b"before").unwrap().to_vec()),
        Masked::Null => {
            assert_eq!(out, b"before", "NULL appends nothing");
            None
        }
    }
}

fn masked_text(operator: &MaskOperator, value: &str) -> String {
    String::from_utf8(masked(operator, value.as_bytes(), ValueType::Text, ValueFormat::Text).unwrap())
        .unwrap()
}

#[test]
fn the_first_rule_that_names_a_column_counts() {
    let masks = Masks::compile(
        &[
            columns(&["crm.customers.email"], MaskOperator::Partial),
            columns(&["customers.*"], MaskOperator::Redact),
            columns(&["*.card_number", "audit_?.row*"], MaskOperator::Hash),
        ],
        KEY,
    );
    let operator = |text: &str| {
        masks
            .column(&name(text))
            .map(|id| masks.operators[usize::from(id.0)].clone())
    };
    assert_eq!(operator("crm.customers.email"), Some(MaskOperator::Partial));
    assert_eq!(operator("public.customers.email"), Some(MaskOperator::Redact));
    assert_eq!(
        operator("public.customers.card_number"),
        Some(MaskOperator::Redact)
    );
    assert_eq!(operator("public.orders.card_number"), Some(MaskOperator::Hash));
    assert_eq!(operator("public.audit_1.rowdata"), Some(MaskOperator::Hash));
    assert_eq!(operator("public.audit_10.rowdata"), None);
    assert_eq!(operator("public.orders.total"), None);
    assert_eq!(
        operator("public.Customers.email"),
        None,
        "the catalog tells cases apart"
    );
}

#[test]
fn lineage_questions_are_answered_for_any_schema() {
    let masks = Masks::compile(&[columns(&["crm.customers.email"], MaskOperator::Redact)], KEY);
    assert!(masks.may_mask(Some("customers"), "email").is_some());
    assert!(masks.may_mask(None, "email").is_some());
    assert!(masks.may_mask(Some("orders"), "email").is_none());
    assert!(masks.may_mask(None, "total").is_none());
    assert!(masks.concerns_table(None, "customers").is_some());
    assert!(masks.concerns_table(Some("crm"), "customers").is_some());
    assert!(masks.concerns_table(Some("public"), "customers").is_none());
    assert!(masks.concerns_table(None, "orders").is_none());
}

#[test]
fn a_computed_value_never_gets_a_mask_that_shows_a_part_or_a_comparable_hash() {
    for operator in [MaskOperator::Partial, MaskOperator::Hash] {
        let masks = Masks::compile(&[columns(&["customers.email"], operator)], KEY);
        let stored = masks.column(&name("public.customers.email")).unwrap();
        for id in [
            masks.may_mask(Some("customers"), "email").unwrap(),
            masks.concerns_table(None, "customers").unwrap(),
            masks.derived(stored),
        ] {
            let mut out = Vec::new();
            masks.mask(id, b"alic", ValueType::Text, ValueFormat::Text, &mut out);
            assert_eq!(out, b"[redacted]");
        }
    }
    let constant = MaskOperator::Constant("x".into());
    let masks = Masks::compile(&[columns(&["customers.email"], constant)], KEY);
    assert_eq!(
        masks.may_mask(None, "email"),
        masks.column(&name("public.customers.email"))
    );
}

#[test]
fn samples_of_values_in_the_catalog_are_null_where_any_column_is_masked() {
    let masks = Masks::compile(&[columns(&["customers.email"], MaskOperator::Partial)], KEY);
    for column in [
        "pg_catalog.pg_stats.most_common_vals",
        "pg_catalog.pg_stats.histogram_bounds",
        "pg_catalog.pg_statistic.stavalues3",
        "pg_catalog.pg_statistic_ext_data.stxdmcv",
        "pg_catalog.pg_stats_ext.most_common_vals",
    ] {
        let id = masks.column(&name(column)).expect(column);
        let mut out = Vec::new();
        assert_eq!(
            masks.mask(id, b"{a@b.test}", ValueType::Other, ValueFormat::Text, &mut out),
            Masked::Null
        );
    }
    assert!(masks.column(&name("pg_catalog.pg_stats.null_frac")).is_none());
    assert!(masks.column(&name("public.pg_stats.most_common_vals")).is_none());

    let detectors_alone = MaskRule {
        target: MaskTarget::Detect(vec![Detector::Card]),
        operator: MaskOperator::Redact,
    };
    let masks = Masks::compile(&[detectors_alone], KEY);
    assert!(!masks.has_columns() && masks.has_detectors() && !masks.is_empty());
    assert!(
        masks
            .column(&name("pg_catalog.pg_stats.most_common_vals"))
            .is_none()
    );
    assert!(Masks::compile(&[], KEY).is_empty());
}

#[test]
fn a_mask_of_another_policy_shows_nothing() {
    let masks = Masks::compile(&[], KEY);
    let mut out = Vec::new();
    assert_eq!(
        masks.mask(MaskId(9), b"secret", ValueType::Text, ValueFormat::Text, &mut out),
        Masked::Null
    );
    assert!(out.is_empty());
}

#[test]
fn partial_keeps_what_a_person_needs() {
    for (value, expected) in [
        ("alice@example.test", "a***@e***.test"),
        ("alice.smith@mail.example.co.uk", "a***@m***.uk"),
        ("a@b.test", "***@***.test"),
        ("root@localhost", "r***@l***"),
        ("jürgen@müller.de", "j***@m***.de"),
        ("ürgen@müller.de", "ü***@m***.de"),
        ("a@b@c.test", "a********t"),
        ("4111111111111111", "************1111"),
        ("4111 1111 1111 1234", "**** **** **** 1234"),
        ("3782-822463-10005", "****-******-*0005"),
        ("+49 (170) 123-4567", "+** (***) ***-4567"),
        ("12345678", "****5678"),
        ("1234567", "*******"),
        ("1234", "****"),
        ("Springfield", "S*********d"),
        ("abcd", "a**d"),
        ("abc", "***"),
        ("日本語文", "日**文"),
        ("日本", "**"),
        ("alice@example.test    ", "a***@e***.test    "),
        ("", ""),
    ] {
        assert_eq!(masked_text(&MaskOperator::Partial, value), expected, "of {value}");
    }
    let latin1 = b"j\xfcrgen";
    assert_eq!(
        masked(
            &MaskOperator::Partial,
            latin1,
            ValueType::Text,
            ValueFormat::Binary
        )
        .unwrap(),
        b"[redacted]",
        "characters of an unknown encoding cannot be told apart"
    );
}

#[test]
fn every_operator_gives_a_valid_integer_of_the_width() {
    for width in [2u8, 4, 8] {
        for operator in [
            MaskOperator::Redact,
            MaskOperator::Partial,
            MaskOperator::Hash,
            MaskOperator::Constant("42".into()),
        ] {
            let number = 12_345i64.to_be_bytes();
            let number = &number[8 - usize::from(width)..];
            let ty = ValueType::Integer(width);
            let binary = masked(&operator, number, ty, ValueFormat::Binary).unwrap();
            let text = masked(&operator, b"12345", ty, ValueFormat::Text).unwrap();
            assert_eq!(binary.len(), usize::from(width));
            let mut wide = [0; 8];
            wide[8 - usize::from(width)..].copy_from_slice(&binary);
            let text: i64 = String::from_utf8(text).unwrap().parse().unwrap();
            assert_eq!(
                text,
                i64::from_be_bytes(wide),
                "{operator:?} is the same in both formats"
            );
            assert!(text >= 0 && text != 12_345);
        }
    }
}

#[test]
fn a_value_that_no_type_can_hold_is_null() {
    let ty = ValueType::Integer(2);
    for (operator, ty) in [
        (MaskOperator::Constant("70000".into()), ty),
        (MaskOperator::Constant("none".into()), ty),
        (MaskOperator::Redact, ValueType::Other),
        (MaskOperator::Hash, ValueType::Other),
        (MaskOperator::Constant("x".into()), ValueType::Other),
        (MaskOperator::Redact, ValueType::Integer(3)),
        (MaskOperator::Null, ValueType::Text),
        (MaskOperator::Null, ValueType::Json),
        (MaskOperator::Null, ty),
    ] {
        assert_eq!(
            masked(&operator, b"1", ty, ValueFormat::Text),
            None,
            "{operator:?} of {ty:?}"
        );
    }
}

#[test]
fn json_stays_json_and_binary_jsonb_keeps_its_version() {
    let value = br#"{"email": "alice@example.test"}"#;
    let binary = [b"\x01".as_slice(), value].concat();
    for operator in [
        MaskOperator::Redact,
        MaskOperator::Partial,
        MaskOperator::Hash,
        MaskOperator::Constant("say \"no\"\n".into()),
    ] {
        let text = masked(&operator, value, ValueType::Json, ValueFormat::Text).unwrap();
        let parsed: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert!(parsed.is_string());
        let jsonb = masked(&operator, &binary, ValueType::Json, ValueFormat::Binary).unwrap();
        assert_eq!(jsonb, [b"\x01".as_slice(), &text].concat());
    }
}

#[test]
fn a_hash_is_the_same_for_equal_values_and_another_under_another_key() {
    let hash = masked_text(&MaskOperator::Hash, "alice@example.test");
    assert_eq!(hash.len(), 32);
    assert!(hash.bytes().all(|byte| byte.is_ascii_hexdigit()));
    assert_eq!(hash, masked_text(&MaskOperator::Hash, "alice@example.test"));
    assert_ne!(hash, masked_text(&MaskOperator::Hash, "alice@example.tesT"));
    let other = Masks::compile(&[columns(&["*.*"], MaskOperator::Hash)], [8; 32]);
    let mut out = Vec::new();
    let id = other.column(&name("public.t.c")).unwrap();
    other.mask(
        id,
        b"alice@example.test",
        ValueType::Text,
        ValueFormat::Text,
        &mut out,
    );
    assert_ne!(out, hash.as_bytes());
}

#[test]
fn debug_does_not_show_the_key() {
    let shown = format!(
        "{:?}",
        Masks::compile(&[columns(&["*.*"], MaskOperator::Hash)], [201; 32])
    );
    assert!(!shown.contains("201"), "{shown}");
}

fn opaque_operator() -> impl Strategy<Value = MaskOperator> {
    prop_oneof![
        Just(MaskOperator::Redact),
        Just(MaskOperator::Null),
        Just(MaskOperator::Hash),
        Just(MaskOperator::Constant("fixed".into())),
    ]
}

proptest! {
    #[test]
    fn a_masked_text_does_not_contain_the_value(operator in opaque_operator(), value in ".{4,80}", json: bool) {
        prop_assume!(!"\"[redacted]\" \"fixed\"".contains(&value));
        // A short word of hexadecimal digits is in some hash by chance.
        prop_assume!(value.len() >= 8 || !value.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let ty = if json { ValueType::Json } else { ValueType::Text };
        if let Some(out) = masked(&operator, value.as_bytes(), ty, ValueFormat::Text) {
            prop_assert!(!String::from_utf8(out).unwrap().contains(&value));
        }
    }

    #[test]
    fn partial_of_a_word_shows_its_ends_alone(value in "[a-zé文]{4,60}") {
        let out = masked_text(&MaskOperator::Partial, &value);
        let count = value.chars().count();
        prop_assert_eq!(out.chars().count(), count);
        for (index, (shown, c)) in out.chars().zip(value.chars()).enumerate() {
            prop_assert_eq!(shown, if index == 0 || index + 1 == count { c } else { '*' });
        }
    }

    #[test]
    fn partial_shows_at_most_half_of_a_number(value in "[0-9][0-9 -]{0,30}") {
        let out = masked_text(&MaskOperator::Partial, &value);
        let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
        prop_assert!(digits(&out) <= 4 && digits(&out) * 2 <= digits(&value));
    }

    #[test]
    fn any_bytes_are_masked_without_panic(operator in opaque_operator(), value: Vec<u8>, width: u8, binary: bool) {
        let format = if binary { ValueFormat::Binary } else { ValueFormat::Text };
        for ty in [ValueType::Text, ValueType::Json, ValueType::Integer(width), ValueType::Other] {
            masked(&operator, &value, ty, format);
            masked(&MaskOperator::Partial, &value, ty, format);
        }
    }
}
