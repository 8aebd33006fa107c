//! Policies of the tests and of the demo, made from the shipped ones.

use anyhow::{Context, Result};

/// A shipped policy with some lines replaced.
#[derive(Clone, Debug)]
pub struct Policy {
    text: String,
}

impl Policy {
    /// The file `policies/NAME.toml`.
    pub fn shipped(name: &str) -> Result<Self> {
        let path = crate::agent::workspace()
            .join("policies")
            .join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { text })
    }

    /// A policy as written here.
    pub fn from_text(text: &str) -> Self {
        Self {
            text: text.to_owned(),
        }
    }

    /// Replaces the value of the first line that sets `key` (and the rest of an array that goes on over lines); fails when
    /// there is none, so that a shipped policy cannot drift away from what is said of it.
    pub fn with(mut self, key: &str, value: &str) -> Result<Self> {
        let mut found = false;
        let mut inside = false;
        let mut text = String::new();
        for line in self.text.lines() {
            if inside {
                inside = !line.trim_start().starts_with(']');
                continue;
            }
            let set = line
                .split_once('=')
                .filter(|(left, _)| left.trim() == key)
                .filter(|_| !found);
            if let Some((_, right)) = set {
                found = true;
                inside = right.trim() == "[";
                text.extend([key, " = ", value]);
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        anyhow::ensure!(found, "the policy has no line that sets `{key}`");
        self.text = text;
        Ok(self)
    }

    /// The file's text.
    pub fn text(&self) -> &str {
        &self.text
    }
}
