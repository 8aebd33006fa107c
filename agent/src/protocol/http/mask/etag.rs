//! Validators of masked bodies (RFC 9110, 8.8).
//!
//! A masked body is another representation than the one that upstream named, and another one under other masks. So its
//! entity tag gets a mark that says under which masks it was made, within the quotes, as servers do for content codings.
//! What a client sends back with that mark is given to upstream without it; with the mark of other masks it is not given at
//! all, so that the client gets the body anew.

/// What all marks begin with.
const SIGN: &str = "-tollgate-";

/// The mark of the masks with this fingerprint.
pub(super) fn mark(fingerprint: [u8; 8]) -> String {
    format!("{SIGN}{}", hex::encode(fingerprint))
}

/// An entity tag with `mark`; `None`: it is none.
pub(super) fn marked(tag: &str, mark: &str) -> Option<String> {
    let tag = tag.trim();
    let (weak, opaque) = parts(tag)?;
    Some(format!("{weak}\"{opaque}{mark}\""))
}

/// The list of entity tags of `If-Match`, `If-None-Match` or `If-Range` as upstream knows them; `None`: none of them is left.
/// The second value: those that had `mark`, as upstream knows them.
pub(super) fn unmarked(list: &str, mark: &str) -> (Option<String>, Vec<String>) {
    if list.trim() == "*" {
        return (Some("*".into()), Vec::new());
    }
    let mut kept = Vec::new();
    let mut ours = Vec::new();
    for tag in tags(list) {
        let Some((weak, opaque)) = parts(tag) else {
            continue;
        };
        if let Some(bare) = opaque.strip_suffix(mark) {
            let tag = format!("{weak}\"{bare}\"");
            ours.push(tag.clone());
            kept.push(tag);
        } else if !opaque.contains(SIGN) {
            kept.push(tag.to_owned());
        }
    }
    ((!kept.is_empty()).then(|| kept.join(", ")), ours)
}

/// `W/` or nothing, and what stands in the quotes.
fn parts(tag: &str) -> Option<(&str, &str)> {
    let (weak, quoted) = match tag.strip_prefix("W/") {
        Some(rest) => ("W/", rest),
        None => ("", tag),
    };
    let opaque = quoted.strip_prefix('"')?.strip_suffix('"')?;
    (!opaque.contains('"')).then_some((weak, opaque))
}

/// The tags of a list. A comma may stand in a tag.
fn tags(list: &str) -> impl Iterator<Item = &str> {
    let mut rest = list;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let open = rest.find('"')?;
        let close = open + 1 + rest.get(open + 1..)?.find('"')?;
        let (tag, later) = rest.split_at_checked(close + 1)?;
        rest = later;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: &str = "-tollgate-0102";

    #[test]
    fn a_tag_is_marked_within_its_quotes_and_comes_back_bare() {
        assert_eq!(marked("\"abc\"", OURS).as_deref(), Some("\"abc-tollgate-0102\""));
        assert_eq!(marked("W/\"a\"", OURS).as_deref(), Some("W/\"a-tollgate-0102\""));
        assert_eq!(marked("abc", OURS), None);
        let (list, ours) = unmarked("\"abc-tollgate-0102\", W/\"x,y\",\"z-tollgate-0103\"", OURS);
        assert_eq!(list.as_deref(), Some("\"abc\", W/\"x,y\""));
        assert_eq!(ours, ["\"abc\""]);
    }

    #[test]
    fn tags_of_other_masks_are_not_given_to_upstream() {
        assert_eq!(unmarked("\"z-tollgate-0103\"", OURS), (None, Vec::new()));
        assert_eq!(unmarked("*", OURS).0.as_deref(), Some("*"));
        assert_eq!(unmarked("junk", OURS).0, None);
    }
}
