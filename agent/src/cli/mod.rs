//! The verbs of the command line, one file each.

pub mod approvals;
pub mod approve;
pub mod deny;
pub mod status;

mod ask;
mod text;
