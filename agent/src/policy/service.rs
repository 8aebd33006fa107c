//! The rules of one service, compiled.

use crate::config::ServiceDoc;
use crate::model::Command;

use super::Ruling;

/// The rules of one service, compiled for matching.
#[derive(Debug)]
pub struct ServicePolicy {}

impl ServicePolicy {
    /// Compiles the rules of `service`. Cannot fail: `config` has checked every pattern.
    pub fn compile(_service: &ServiceDoc) -> Self {
        Self {}
    }

    /// Judges one command. Pure, and cheap enough to be called for each command.
    pub fn judge(&self, _command: &Command) -> Ruling {
        Ruling::Deny(super::Denied {
            rules: Vec::new(),
            message: String::new(),
            hint: String::new(),
        })
    }
}
