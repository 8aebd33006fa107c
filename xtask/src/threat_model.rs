//! The threat model's table, from the one that the bypass suite checks.

use anyhow::{Context, Result};
use tollgate_tests::bypass::document;

/// Writes it into its place in `docs/threat-model.md`.
pub(crate) fn write() -> Result<()> {
    let path = document::path();
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    std::fs::write(&path, document::updated(&text)?).with_context(|| format!("write {}", path.display()))
}
