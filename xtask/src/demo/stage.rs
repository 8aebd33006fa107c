//! How the story looks on a terminal.

use anstream::println;
use anstyle::{AnsiColor, Style};

const TITLE: Style = AnsiColor::Cyan.on_default().bold();
const COMMAND: Style = Style::new().bold();
const QUIET: Style = Style::new().dimmed();

/// A step begins.
pub(super) fn title(title: &str) {
    println!("\n{TITLE}── {title}{TITLE:#}");
}

/// A sentence.
pub(super) fn line(text: &str) {
    println!("   {text}");
}

/// A command as a person would type it, and what it printed.
pub(super) fn command(command: &str, output: &str) {
    println!("   {COMMAND}$ {command}{COMMAND:#}");
    for line in output.lines().filter(|line| !line.trim().is_empty()) {
        println!("   {QUIET}│{QUIET:#} {line}");
    }
}

/// What to do next.
pub(super) fn ending() {
    title("What to try next");
    line("cargo xtask test                           every promise above, attacked");
    line("cargo run -p tollgate -- policy check policies/ci-report.toml");
    line("docs/policy-reference.md                   write a policy of your own");
    line("docs/record-format.md                      read the records with a program of your own");
}
