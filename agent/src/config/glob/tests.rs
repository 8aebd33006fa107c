use proptest::prelude::*;

use super::{Glob, GlobError};

#[test]
fn globs_match_as_documented() {
    for (pattern, matching, other) in [
        (
            "/actions.slice/report-*.service",
            vec![
                "/actions.slice/report-1.service",
                "/actions.slice/report-.service",
            ],
            vec![
                "/actions.slice/report-1.scope",
                "/actions.slice/report-1/x.service",
                "/actions.slice",
            ],
        ),
        ("/a/*", vec!["/a/b"], vec!["/a", "/a/b/c", "/b/a"]),
        ("/a/**", vec!["/a/b", "/a/b/c"], vec!["/a", "/b"]),
        ("/a/?", vec!["/a/é"], vec!["/a/", "/a/bc", "/a//"]),
        (
            "/[a-c]x[!0-9]",
            vec!["/axz", "/cx-"],
            vec!["/dxz", "/ax0", "/ax/"],
        ),
        (
            r"/system-x\x2dy.slice",
            vec![r"/system-x\x2dy.slice"],
            vec!["/system-xx2dy.slice"],
        ),
        ("/*-*-*", vec!["/a-b-c", "/--"], vec!["/a-b"]),
    ] {
        let glob = Glob::path(pattern).unwrap();
        for text in matching {
            assert!(glob.matches(text), "{pattern} has to match {text}");
        }
        for text in other {
            assert!(!glob.matches(text), "{pattern} must not match {text}");
        }
    }
    assert!(Glob::name("*").unwrap().matches("odd/name"));
    assert!(Glob::name("[!a]*").unwrap().matches("/etc"));
    assert!(Glob::name("*").unwrap().is_any());
    assert!(!Glob::name("*a").unwrap().is_any());
}

#[test]
fn what_others_read_differently_is_refused() {
    for (pattern, error) in [
        ("", GlobError::Empty),
        ("/{a,b}", GlobError::Reserved('{')),
        ("/a]", GlobError::Reserved(']')),
        ("/[^a]", GlobError::Reserved('^')),
        ("/[+-9]", GlobError::Reserved('/')),
        ("/[a", GlobError::OpenSet),
        ("/[]", GlobError::OpenSet),
        ("/[z-a]", GlobError::BackwardRange('z', 'a')),
    ] {
        assert_eq!(Glob::path(pattern), Err(error), "{pattern}");
    }
    assert_eq!(Glob::name("**"), Err(GlobError::DoubleStar));
    assert_eq!(Glob::name(r"a\b"), Err(GlobError::Reserved('\\')));
    assert_eq!(Glob::path(&"a".repeat(513)), Err(GlobError::TooLong));
}

#[test]
fn a_pattern_of_many_stars_does_not_take_for_ever() {
    let glob = Glob::path(&"*a".repeat(200)).unwrap();
    assert!(!glob.matches(&"a".repeat(150)));
    assert!(glob.intersects(&glob));
}

#[test]
fn overlaps_are_found() {
    for (left, right, overlap) in [
        ("/a/*", "/a/b", true),
        ("/a/*", "/a/*/c", false),
        ("/a/**", "/a/*/c", true),
        ("/ci-*-report", "/ci-nightly-*", true),
        ("/ci-report-*", "/ci-backup-*", false),
        ("/[ab]x", "/[bc]x", true),
        ("/[ab]x", "/[cd]x", false),
    ] {
        let (left, right) = (Glob::path(left).unwrap(), Glob::path(right).unwrap());
        assert_eq!(left.intersects(&right), overlap, "{left:?} {right:?}");
        assert_eq!(right.intersects(&left), overlap);
    }
}

fn pattern() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b", "/", "*", "?", "**", "[ab]", "[!a]", "[!b-c]"]),
        1..7,
    )
    .prop_map(|parts| parts.concat())
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', 'b', 'c', '/']), 0..8)
        .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    /// The library is the second opinion where both dialects agree: without `**`, and its `[!a]` matches `/`.
    #[test]
    fn matches_as_globset_does(pattern in pattern(), text in text()) {
        if pattern.contains("**") || (pattern.contains('!') && text.contains('/')) {
            return Ok(());
        }
        let theirs = globset::GlobBuilder::new(&pattern)
            .literal_separator(true)
            .backslash_escape(false)
            .build()
            .unwrap()
            .compile_matcher();
        prop_assert_eq!(Glob::path(&pattern).unwrap().matches(&text), theirs.is_match(&text));
    }

    #[test]
    fn relations_agree_with_matches(left in pattern(), right in pattern(), text in text()) {
        let (left, right) = (Glob::path(&left).unwrap(), Glob::path(&right).unwrap());
        if left.matches(&text) && right.matches(&text) {
            prop_assert!(left.intersects(&right));
        }
        if left.covers(&right) && right.matches(&text) {
            prop_assert!(left.matches(&text));
        }
        prop_assert!(left.covers(&left));
    }
}
