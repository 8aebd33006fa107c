//! What the rules say of a command.

use std::time::Duration;

use crate::model::RuleName;

/// Proof that the rules, or an approver under them, let a command pass.
///
/// Nothing outside `policy` can make one, so a function that takes it cannot be called unjudged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorized {
    rules: Vec<RuleName>,
}

/// What the rules say of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// It may pass.
    Allow(Authorized),
    /// It waits for a person.
    Hold(HoldTerms),
    /// It is refused.
    Deny(Denied),
}

/// A refusal, in words for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Rules that refused; empty where no rule covered the command.
    pub rules: Vec<RuleName>,
    /// One sentence: what was refused, and by which rule.
    pub message: String,
    /// One sentence: what can be done about it.
    pub hint: String,
}

/// On which terms a command is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldTerms {
    /// Rules that ask for approval.
    pub rules: Vec<RuleName>,
    /// Who may decide.
    pub approvers: Vec<String>,
    /// How long it waits; then it is refused.
    pub timeout: Duration,
}

impl Authorized {
    /// Rules that allowed it, in the order of the policy.
    pub fn rules(&self) -> &[RuleName] {
        &self.rules
    }

    pub(super) fn by(rules: Vec<RuleName>) -> Self {
        Self { rules }
    }
}

impl Ruling {
    /// What a workload in observe mode gets in its stead: it passes, whatever the rules say.
    pub fn observed(self) -> Authorized {
        match self {
            Self::Allow(authorized) => authorized,
            Self::Hold(terms) => Authorized::by(terms.rules),
            Self::Deny(denied) => Authorized::by(denied.rules),
        }
    }
}

impl HoldTerms {
    /// The authorization that an approver's decision gives. Called with the decision of `approval` alone.
    pub fn approved(&self) -> Authorized {
        Authorized::by(self.rules.clone())
    }
}
