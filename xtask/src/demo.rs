//! The story, told by running it.

use anyhow::{Result, bail};

/// Runs it.
pub(crate) fn run() -> Result<()> {
    bail!("not written yet")
}
