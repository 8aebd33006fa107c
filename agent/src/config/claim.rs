//! What a policy asks of a claim of a token.

use std::fmt;

use super::glob::Glob;

/// One entry of `claims`: a claim that has to be in the token, and the values that it may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Which claim.
    pub claim: ClaimName,
    /// Its values, of which one has to match. Never empty.
    pub any_of: Vec<ClaimValue>,
}

/// Where a claim stands in a token's payload.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimName {
    /// A member of the payload itself. Dots are part of the name: Kubernetes has a claim `kubernetes.io`.
    Top(String),
    /// A value further in, as a JSON pointer (RFC 6901): `/kubernetes.io/namespace`.
    Pointer(String),
}

/// A value that a claim may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// `{ equals = "…" }`: this text, whatever characters are in it.
    Equals(String),
    /// A text, which is a pattern.
    Like {
        /// As it is written.
        pattern: String,
        /// Compiled: `*` stays within one level of a path, `**` does not.
        glob: Glob,
    },
}

impl ClaimName {
    /// As it is written in the policy.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Top(name) | Self::Pointer(name) => name,
        }
    }
}

impl ClaimRule {
    /// Whether the claim may have the value `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.any_of.iter().any(|value| match value {
            ClaimValue::Equals(expected) => expected == text,
            ClaimValue::Like { glob, .. } => glob.matches(text),
        })
    }
}

/// The values, for a message: `"main" or "release/*"`.
impl fmt::Display for ClaimRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, value) in self.any_of.iter().enumerate() {
            if number > 0 {
                f.write_str(" or ")?;
            }
            match value {
                ClaimValue::Equals(text) | ClaimValue::Like { pattern: text, .. } => write!(f, "{text:?}")?,
            }
        }
        Ok(())
    }
}
