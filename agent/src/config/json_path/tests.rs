use super::*;

fn path(text: &str) -> JsonPath {
    json_path(text).unwrap_or_else(|wrong| panic!("{text}: {wrong:?}"))
}

fn name(name: &str) -> JsonSelector {
    JsonSelector::Name(name.into())
}

fn slice(start: u64, end: Option<u64>, step: u64) -> JsonSelector {
    JsonSelector::Slice { start, end, step }
}

#[test]
fn a_path_gives_its_segments() {
    let cases: &[(&str, &[(bool, &[JsonSelector])])] = &[
        ("$", &[]),
        ("$.email", &[(false, &[name("email")])]),
        (
            "$.users[*].email",
            &[
                (false, &[name("users")]),
                (false, &[JsonSelector::Wildcard]),
                (false, &[name("email")]),
            ],
        ),
        ("$..token", &[(true, &[name("token")])]),
        ("$..*", &[(true, &[JsonSelector::Wildcard])]),
        ("$..['a', 0]", &[(true, &[name("a"), JsonSelector::Index(0)])]),
        (
            "$['a','b' , \"c\"]",
            &[(false, &[name("a"), name("b"), name("c")])],
        ),
        (
            "$ .a [ 1 ]",
            &[(false, &[name("a")]), (false, &[JsonSelector::Index(1)])],
        ),
        ("$[1:10:2]", &[(false, &[slice(1, Some(10), 2)])]),
        ("$[:]", &[(false, &[slice(0, None, 1)])]),
        ("$[2::3]", &[(false, &[slice(2, None, 3)])]),
        (r"$['it\'s \u00e9\ud83d\ude00']", &[(false, &[name("it's é😀")])]),
        ("$.größe_2", &[(false, &[name("größe_2")])]),
    ];
    for (text, segments) in cases {
        let segments: Vec<JsonSegment> = segments
            .iter()
            .map(|(descendant, selectors)| JsonSegment {
                descendant: *descendant,
                selectors: selectors.to_vec(),
            })
            .collect();
        assert_eq!(path(text).segments(), segments, "{text}");
        assert_eq!(path(text).as_str(), *text);
    }
}

#[test]
fn a_path_that_is_none_or_cannot_be_decided_in_time_is_refused_with_its_reason() {
    let cases = [
        ("email", "begins with \"$\""),
        ("$email", "a segment begins with"),
        ("$.", "a name is missing"),
        ("$.a ", "a segment begins with"),
        ("$.1a", "a name is missing"),
        ("$..", "a name is missing"),
        ("$[a]", "is missing"),
        ("$[]", "is missing"),
        ("$['a'", "no \"]\""),
        ("$['a", "not closed"),
        (r"$['\x']", "does not escape"),
        (r"$['\ud83d']", "surrogate"),
        (r"$['\u12']", "hexadecimal"),
        ("$[01]", "no number"),
        ("$[9007199254740992]", "no number"),
        ("$[-1]", "counts from the end"),
        ("$[0:-1]", "counts from the end"),
        ("$[?@.price < 10]", "a filter, which cannot be decided"),
        ("$..[?(@.a)]", "a filter"),
    ];
    for (text, why) in cases {
        let Err(wrong) = json_path(text) else {
            panic!("{text} has to be refused");
        };
        assert!(wrong.what.contains(why), "{text}: {}", wrong.what);
        assert!(!wrong.help.is_empty());
    }
}

#[test]
fn slices_select_as_the_rfc_says() {
    let selected = |text: &str| -> Vec<u64> {
        let path = path(text);
        (0..8)
            .filter(|index| path.segments()[0].selectors[0].selects_index(*index))
            .collect()
    };
    assert_eq!(selected("$[1:3]"), [1, 2]);
    assert_eq!(selected("$[5:]"), [5, 6, 7]);
    assert_eq!(selected("$[1:6:2]"), [1, 3, 5]);
    assert_eq!(selected("$[::4]"), [0, 4]);
    assert_eq!(selected("$[::0]"), [0_u64; 0]);
    assert_eq!(selected("$[*]").len(), 8);
    assert_eq!(selected("$['1']"), [0_u64; 0]);
}

proptest::proptest! {
    #[test]
    fn no_text_stops_it(text in "\\PC{0,60}|\\$[\\.\\[\\]'\"*:0-9a-z,\\\\u -]{0,60}") {
        let _ = json_path(&text);
    }
}
