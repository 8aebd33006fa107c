//! Helpers of the tests of this folder.

use std::sync::Arc;

use crate::config::{MaskRule, parse_policy};
use crate::mask::Masks;

use super::{Transform, Unmaskable};

/// A mask: what it is about, and its operator, a word or a constant.
#[derive(Clone, Copy, Debug)]
pub(super) enum TestMask<'t> {
    Json(&'t str, &'t str),
    Key(&'t str, &'t str),
    Header(&'t str, &'t str),
    Detect(&'t str, &'t str),
}

/// The masks as a policy has them.
pub(super) fn rules(masks: &[TestMask<'_>]) -> Vec<MaskRule> {
    use crate::config::MaskTarget;
    masks
        .iter()
        .map(|mask| {
            let (key, what, with) = match mask {
                TestMask::Json(what, with) => ("json", what, with),
                TestMask::Key(what, with) => ("keys", what, with),
                TestMask::Header(what, with) => ("headers", what, with),
                TestMask::Detect(what, with) => ("detect", what, with),
            };
            let with = match *with {
                word @ ("redact" | "null" | "partial" | "hash") => format!("\"{word}\""),
                constant => format!("{{ constant = '{constant}' }}"),
            };
            let text = format!(
                "[workload]\nname = \"t\"\ncgroup = [\"/t.slice\"]\n[[service]]\nname = \"s\"\nprotocol = \"http\"\n\
                 address = [\"a.test:443\"]\n[[service.mask]]\n{key} = ['''{what}''']\nwith = {with}\n"
            );
            let policy = parse_policy(std::path::Path::new("t.toml"), &text).unwrap_or_else(|error| panic!("{error}"));
            let rule = policy.services[0].masks[0].clone();
            assert!(!matches!(rule.target, MaskTarget::Columns(_)));
            rule
        })
        .collect()
}

/// `unmasked` of a service.
pub(super) fn unmasked(pattern: &str) -> Vec<crate::config::MediaPattern> {
    let text = format!(
        "[workload]\nname = \"t\"\ncgroup = [\"/t.slice\"]\n[[service]]\nname = \"s\"\nprotocol = \"http\"\n\
         address = [\"a.test:443\"]\nunmasked = [\"{pattern}\"]\n"
    );
    let policy =
        parse_policy(std::path::Path::new("t.toml"), &text).unwrap_or_else(|error| panic!("{error}"));
    policy.services[0].unmasked.clone()
}

/// Compiled.
pub(super) fn masks(masks: &[TestMask<'_>]) -> Arc<Masks> {
    Arc::new(Masks::compile(&rules(masks), [7; 32]))
}

/// Runs a body through `transform`, cut into pieces of the lengths that `step` gives.
pub(super) fn cut(
    transform: &mut dyn Transform,
    text: &[u8],
    mut step: impl FnMut() -> usize,
) -> Result<Vec<u8>, Unmaskable> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(step().clamp(1, rest.len()));
        transform.push(piece, &mut out)?;
        rest = later;
    }
    transform.finish(&mut out)?;
    Ok(out)
}
