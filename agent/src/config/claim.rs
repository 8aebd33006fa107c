//! What a policy asks of a claim of a token.

use std::fmt;

use super::glob::{Glob, GlobError};

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

impl ClaimValue {
    /// A pattern.
    pub fn like(pattern: &str) -> Result<Self, GlobError> {
        Ok(Self::Like {
            glob: Glob::path(pattern)?,
            pattern: pattern.to_owned(),
        })
    }

    /// As it is written in the policy.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Equals(text) | Self::Like { pattern: text, .. } => text,
        }
    }

    /// Whether `text` is such a value.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Equals(expected) => expected == text,
            Self::Like { glob, .. } => glob.matches(text),
        }
    }
}

impl ClaimRule {
    /// Whether the claim may have the value `text`.
    pub fn matches(&self, text: &str) -> bool {
        self.any_of.iter().any(|value| value.matches(text))
    }
}

/// The values, for a message: `"main" or "release/*"`.
impl fmt::Display for ClaimRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, value) in self.any_of.iter().enumerate() {
            if number > 0 {
                f.write_str(" or ")?;
            }
            write!(f, "{:?}", value.as_str())?;
        }
        Ok(())
    }
}

/// Tokens that do not count, whatever else is right with them: an entry of `deny`, or what was revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenPattern {
    /// `{ subject = "…" }`: `sub`, a pattern.
    Subject(ClaimValue),
    /// `{ claim = "user_login", value = "mallory" }`.
    Claim(ClaimRule),
    /// `{ key = "…" }`: signed with the key of this `kid`.
    Key(String),
}

/// As a policy writes it.
impl fmt::Display for TokenPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject(value) => write!(f, "subject {:?}", value.as_str()),
            Self::Claim(rule) => write!(f, "claim {} {rule}", rule.claim.as_str()),
            Self::Key(kid) => write!(f, "key {kid:?}"),
        }
    }
}
