//! HTTP: requests to commands, verdicts to answers.

pub mod facts;
