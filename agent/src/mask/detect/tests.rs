use proptest::prelude::*;

use super::*;
use crate::config::{MaskRule, MaskTarget};
use crate::mask::Masks;

pub(in crate::mask) const PEM: &str = "-----BEGIN RSA PRIVATE KEY-----\nMIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu\nKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END RSA PRIVATE KEY-----";
pub(in crate::mask) const JWT: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U";
pub(in crate::mask) const AWS_ID: &str = "AKIAIOSFODNN7EXAMPLE";
pub(in crate::mask) const AWS_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

fn masks(kinds: &[Detector], operator: MaskOperator) -> Masks {
    let rule = MaskRule {
        target: MaskTarget::Detect(kinds.to_vec()),
        operator,
    };
    Masks::compile(&[rule], [7; 32])
}

/// The hits of one detector, as texts.
fn hits(kind: Detector, text: &str) -> Vec<String> {
    let masks = masks(&[kind], MaskOperator::Redact);
    ranges(&masks, text.as_bytes())
        .into_iter()
        .map(|(start, end)| text[start..end].to_owned())
        .collect()
}

pub(in crate::mask) fn ranges(masks: &Masks, text: &[u8]) -> Vec<(usize, usize)> {
    let mut scan = Scan::new(&masks.detectors, text);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(hit) = scan.next_whole(from) {
        found.push((hit.start, hit.end));
        from = hit.end;
    }
    found
}

fn assert_found(kind: Detector, value: &str, around: &[(&str, &str)]) {
    for (before, after) in around {
        let text = format!("{before}{value}{after}");
        assert_eq!(hits(kind, &text), [value], "in {text:?}");
    }
}

fn assert_clean(kind: Detector, texts: &[&str]) {
    for text in texts {
        assert!(
            hits(kind, text).is_empty(),
            "{text:?} has no {kind:?}, found {:?}",
            hits(kind, text)
        );
    }
}

fn replaced(masks: &Masks, text: &str) -> (u32, String) {
    let mut out = Vec::new();
    let hits = masks.detect(text.as_bytes(), &mut out);
    let out = if hits == 0 {
        text.to_owned()
    } else {
        String::from_utf8(out).unwrap()
    };
    (hits, out)
}

#[test]
fn card_numbers_of_every_network_are_found_in_any_grouping() {
    let around = [
        ("", ""),
        ("card ", "."),
        ("\"", "\","),
        ("x=", ";1"),
        ("12 ", " 99"),
        ("\\n", "\\n"),
        ("VISA", ""),
    ];
    for card in [
        "4111111111111111",
        "4222222222222",
        "5555555555554444",
        "2223003122003222",
        "378282246310005",
        "6011111111111117",
        "30569309025904",
        "3530111333300000",
        "6200000000000005",
        "2200770212727079",
        "6759649826438453",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "3782 822463 10005",
        "4000 0000 0000 0000 006",
    ] {
        assert_found(Detector::Card, card, &around);
    }
    assert_eq!(
        hits(Detector::Card, "2024-01-15 4111111111111111"),
        ["4111111111111111"],
        "a date before it is not part of the number"
    );
}

#[test]
fn numbers_that_are_no_cards_stay() {
    assert_clean(
        Detector::Card,
        &[
            "4111111111111112",
            "41111111111111111111",
            "14111111111111111",
            "1700000000000",
            "9111111111111111",
            "4111  1111  1111  1111",
            "4111 1111-1111 1111",
            "4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1",
            "0.4111111111111111",
            "a4111111111111111",
            "4111111111111111f",
            "9f4111111111111111ab",
            "411111111111",
            "",
        ],
    );
}

#[test]
fn addresses_are_found_and_only_they() {
    let around = [
        ("", ""),
        ("<", ">"),
        ("mailto:", "?subject=x"),
        ("'", "'"),
        ("(", ")."),
        ("a=", "&b=2"),
        ("\\n", "\\n"),
        ("\\u00e4", "\""),
    ];
    for address in [
        "alice@example.test",
        "alice.smith+tag@mail.example.co.uk",
        "o'brien@example.test",
        "x_y%z@a-b.example",
        "jürgen@müller.de",
        "a@xn--mller-kva.xn--p1ai",
    ] {
        assert_found(Detector::Email, address, &around);
    }
    assert_eq!(
        hits(Detector::Email, "联系alice@example.com谢谢"),
        ["alice@example.com"]
    );
    assert_eq!(
        hits(Detector::Email, "alice@example.com-- "),
        ["alice@example.com"]
    );
    assert_eq!(
        hits(Detector::Email, "...bob@example.com..."),
        ["bob@example.com"]
    );
    assert_eq!(
        hits(Detector::Email, "a@b.test,c@d.test;"),
        ["a@b.test", "c@d.test"]
    );
    assert_clean(
        Detector::Email,
        &[
            "@example.com",
            "alice@",
            "root@localhost",
            "alice@example.1",
            "alice@-example.com",
            "alice@example..com",
            "icon@2x.png",
            "a@b.c",
            "alice@192.0.2.1",
            "x @example.com",
            "npm i @types/node@1.2",
            &format!("{}@example.com", "a".repeat(65)),
            &format!("a@{}.com", "b".repeat(64)),
        ],
    );
}

#[test]
fn tokens_are_found_by_their_header() {
    let around = [
        ("", ""),
        ("Bearer ", "\r\n"),
        ("\"", "\""),
        ("token=", "&x=1"),
        ("see ", ". Next"),
        ("\\n", "\\n"),
        ("id_", ""),
    ];
    // `{ "alg":"none"}` with a blank, and a token of five parts (JWE).
    let spaced = "eyAiYWxnIjoibm9uZSJ9.eyJzdWIiOiIxIn0.c2ln";
    let encrypted = "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.T0tHT3dEZW8.NDhWMUFMYjY.NWVybV9ZeQ.WFB0";
    for token in [JWT, spaced, encrypted] {
        assert_found(Detector::Jwt, token, &around);
    }
    let long = format!("{JWT}{}", "x".repeat(100_000));
    assert_found(Detector::Jwt, &long, &[("a ", " b")]);
    let no_second_dot = format!("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{}", "y".repeat(50_000));
    assert_found(Detector::Jwt, &no_second_dot, &[("a ", " b")]);
    assert_clean(
        Detector::Jwt,
        &[
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0",
            // {"foo":"bar"}
            "eyJmb28iOiJiYXIifQ.eyJzdWIiOiIxIn0.c2ln",
            "eyJhbGciOiJIUz.eyJzdWIiOiIxIn0.c2ln",
            "eyJ.eyJ.eyJ",
            "keyJar.first.second",
            "homework.is.done",
        ],
    );
}

#[test]
fn private_keys_are_found_through_their_end() {
    let around = [("", ""), ("key:\n", "\nafter"), ("\"", "\",\"x\":1")];
    let openssh = PEM.replace("RSA", "OPENSSH");
    let plain = PEM.replace("RSA ", "");
    let encrypted = PEM.replace(
        "KEY-----\nMII",
        "KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123456789ABCDEF0123456789ABCDEF\n\nMII",
    );
    let pgp = PEM.replace("RSA PRIVATE KEY", "PGP PRIVATE KEY BLOCK");
    let escaped = PEM.replace('\n', "\\n");
    let twice = PEM.replace('\n', "\\\\n");
    let one_line = PEM.replace('\n', "");
    let crlf = PEM.replace('\n', "\r\n");
    for key in [
        PEM, &openssh, &plain, &encrypted, &pgp, &escaped, &twice, &one_line, &crlf,
    ] {
        assert_found(Detector::PrivateKey, key, &around);
    }
    let cut = &PEM[..120];
    assert_eq!(
        hits(Detector::PrivateKey, cut),
        [cut],
        "without END, to where it stops"
    );
    assert_eq!(
        hits(Detector::PrivateKey, &format!("{{\"key\":\"{cut}\"}}")),
        [cut]
    );
    let huge = PEM.replace("MII", &"MIIA".repeat(20_000));
    assert_found(Detector::PrivateKey, &huge, &around);
    assert_eq!(hits(Detector::PrivateKey, &format!("{PEM}\n{PEM}")), [PEM, PEM]);
    assert_clean(
        Detector::PrivateKey,
        &[
            &PEM.replace("PRIVATE", "PUBLIC"),
            "-----BEGIN RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n<your key here>\n-----END PRIVATE KEY-----",
            "set PRIVATE KEY to MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu",
            "BEGIN RSA PRIVATE KEY MIIBOgIBAAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9C",
        ],
    );
}

#[test]
fn aws_keys_are_found_with_the_secret_beside_them() {
    let around = [
        ("", ""),
        ("id=", ";"),
        ("\"", "\""),
        ("\\n", "\\n"),
        ("aws_", "."),
    ];
    for id in [AWS_ID, "ASIAIOSFODNN7EXAMPLE"] {
        assert_found(Detector::AwsAccessKey, id, &around);
    }
    for text in [
        format!("aws_access_key_id = {AWS_ID}\naws_secret_access_key = {AWS_SECRET}\n"),
        format!("{{\"id\":\"{AWS_ID}\",\"secret\":\"{AWS_SECRET}\"}}"),
        format!("{AWS_ID}:{AWS_SECRET}"),
        format!("{AWS_ID}\\n{AWS_SECRET}\\n"),
    ] {
        assert_eq!(
            hits(Detector::AwsAccessKey, &text),
            [AWS_ID, AWS_SECRET],
            "in {text:?}"
        );
    }
    assert_eq!(
        hits(Detector::AwsAccessKey, &format!("{AWS_SECRET} {AWS_ID}")),
        [AWS_SECRET, AWS_ID]
    );
    let sha1 = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12";
    assert_eq!(
        hits(Detector::AwsAccessKey, &format!("{AWS_ID} {sha1}")),
        [AWS_ID]
    );
    let far = format!("{AWS_ID}{}{AWS_SECRET}", " ".repeat(400));
    assert_eq!(hits(Detector::AwsAccessKey, &far), [AWS_ID]);
    assert_clean(
        Detector::AwsAccessKey,
        &[
            AWS_SECRET,
            "AKIAIOSFODNN7EXAMPL",
            "AKIAIOSFODNN7EXAMPLEX",
            "XAKIAIOSFODNN7EXAMPLE",
            "AKIAiosfodnn7example",
            "ASIAN food and ASIATIC art",
        ],
    );
}

#[test]
fn each_operator_leaves_its_own_mark() {
    let all = [
        Detector::Card,
        Detector::Email,
        Detector::Jwt,
        Detector::PrivateKey,
        Detector::AwsAccessKey,
    ];
    let text = format!("a 4111 1111 1111 1111 b alice@example.test c {JWT} d {AWS_ID} e {PEM}");
    assert_eq!(
        replaced(&masks(&all, MaskOperator::Redact), &text),
        (5, "a [redacted:card] b [redacted:email] c [redacted:jwt] d [redacted:aws-access-key] e [redacted:private-key]".into())
    );
    assert_eq!(
        replaced(&masks(&all, MaskOperator::Partial), &text),
        (5, "a **** **** **** 1111 b a***@e***.test c [redacted:jwt] d [redacted:aws-access-key] e [redacted:private-key]".into())
    );
    assert_eq!(
        replaced(&masks(&all, MaskOperator::Null), &text),
        (5, "a  b  c  d  e ".into())
    );
    let (count, hashed) = replaced(
        &masks(&[Detector::Email], MaskOperator::Hash),
        "to alice@example.test.",
    );
    assert_eq!((count, hashed.len()), (1, "to ".len() + 32 + ".".len()));
    assert_eq!(
        replaced(
            &masks(
                &[Detector::Email],
                MaskOperator::Constant("nobody@example.test".into())
            ),
            "to alice@example.test"
        ),
        (1, "to nobody@example.test".into())
    );
}

#[test]
fn the_first_rule_that_names_a_detector_counts() {
    let rules = [
        (vec![Detector::Card], MaskOperator::Partial),
        (vec![Detector::Card, Detector::Email], MaskOperator::Redact),
    ]
    .map(|(kinds, operator)| MaskRule {
        target: MaskTarget::Detect(kinds),
        operator,
    });
    let masks = Masks::compile(&rules, [7; 32]);
    assert_eq!(
        replaced(&masks, "4111111111111111 a@b.test"),
        (2, "************1111 [redacted:email]".into())
    );
}

#[test]
fn what_a_replacement_joins_is_searched_again() {
    let masks = masks(&[Detector::Card, Detector::Email], MaskOperator::Partial);
    let (_, out) = replaced(&masks, "x 4111 1111 1111 1111@example.test");
    assert!(!out.contains("1111@example.test"), "{out}");
    let masks = self::masks(&[Detector::Card, Detector::PrivateKey], MaskOperator::Null);
    assert_eq!(
        replaced(&masks, &format!("a 4111 1111 1111{PEM} 1111 b")),
        (2, "a  b".into())
    );
}

#[test]
fn json_stays_json_also_where_a_bare_number_is_a_card() {
    let masks = masks(&[Detector::Card, Detector::Email], MaskOperator::Redact);
    let mut out = b"kept".to_vec();
    assert_eq!(masks.detect_json(br#"{"n": 4111111111111111}"#, &mut out), 1);
    assert_eq!(out, b"kept\"[redacted]\"");
    out.clear();
    assert_eq!(masks.detect_json(b"\x01{\"n\": 4111111111111111}", &mut out), 1);
    assert_eq!(out, b"\x01\"[redacted]\"");
    out.clear();
    assert_eq!(masks.detect_json(br#"{"to": "a@b.test"}"#, &mut out), 1);
    assert_eq!(out, br#"{"to": "[redacted:email]"}"#);
    out.clear();
    assert_eq!(masks.detect_json(br#"{"n": 1}"#, &mut out), 0);
    assert!(out.is_empty());
}

/// Masks with every detector.
pub(in crate::mask) fn everything() -> Masks {
    masks(&ALL, MaskOperator::Redact)
}

fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let text = |text: &str| Just(text.as_bytes().to_vec());
    prop_oneof![
        4 => "[a-z0-9@. _\\-\n]{0,40}".prop_map(String::into_bytes),
        2 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (0usize..40_000).prop_map(|length| b"word, 12; ".iter().copied().cycle().take(length).collect()),
        1 => (0usize..40_000).prop_map(|length| vec![b'A'; length]),
        1 => (0usize..40_000).prop_map(|length| vec![b'4'; length]),
        1 => text("4111 1111 1111 1111"),
        1 => text("378282246310005"),
        1 => text("alice@example.test"),
        1 => text(JWT),
        1 => text(AWS_ID),
        1 => text(AWS_SECRET),
        1 => text(PEM),
        1 => text(&PEM[..100]),
        1 => text("-----END RSA PRIVATE KEY-----"),
        1 => text("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."),
        1 => text(" "),
    ]
}

/// Texts made of filler, of values to be found, and of pieces of such values.
pub(in crate::mask) fn assembled() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(fragment(), 0..12).prop_map(|parts| parts.concat())
}

fn any_operator() -> impl Strategy<Value = MaskOperator> {
    prop_oneof![
        Just(MaskOperator::Redact),
        Just(MaskOperator::Null),
        Just(MaskOperator::Partial),
        Just(MaskOperator::Hash),
        Just(MaskOperator::Constant("nobody@example.test".into())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn what_was_masked_has_nothing_left_to_mask(text in assembled(), operator in any_operator()) {
        let masks = masks(&ALL, operator);
        let mut once = Vec::new();
        if masks.detect(&text, &mut once) > 0 {
            let mut twice = Vec::new();
            if masks.detect(&once, &mut twice) > 0 {
                prop_assert_eq!(twice, once);
            }
        } else {
            prop_assert!(once.is_empty());
        }
    }

    #[test]
    fn no_found_value_is_left(value in prop_oneof![
        Just("4111111111111111"), Just("alice@example.test"), Just(JWT), Just(AWS_ID), Just(PEM)
    ], before in "[^0-9A-Za-z]{0,20}", after in "[^0-9A-Za-z]{0,20}") {
        // Punctuation may belong to an address, but none of it hides one.
        let text = format!("{before} {value} {after}");
        let (hits, out) = replaced(&everything(), &text);
        prop_assert!(hits >= 1);
        prop_assert!(!out.contains(value));
    }
}
