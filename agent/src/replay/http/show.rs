//! An exchange, for people.

use std::io::{self, Write};

use anstyle::{AnsiColor, Color, Effects, Style};

use super::exchange::{Exchange, Message};
use crate::model::Direction;
use crate::replay::clean;

const DIM: Style = Style::new().effects(Effects::DIMMED);
const BOLD: Style = Style::new().effects(Effects::BOLD);
const RED: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red)));
const GREEN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
const INDENT: &str = "            ";
/// Lines of a body that are shown.
const LINES: usize = 40;

/// Writes it, with `at` before it.
pub(in crate::replay) fn show(out: &mut impl Write, at: &str, exchange: &Exchange) -> io::Result<()> {
    let (method, url, version) = exchange.asked();
    let (_, status, reason) = exchange.answered();
    let colour = if (100..400).contains(&status) { GREEN } else { RED };
    let answer = if status == 0 {
        "no answer".to_owned()
    } else {
        format!("{status} {}", clean::line(reason))
    };
    let took = exchange.response.ended.or(exchange.response.came);
    let took = took.map(|end| {
        format!(
            " in {:.1} ms",
            end.saturating_sub(exchange.begun).as_secs_f64() * 1e3
        )
    });
    writeln!(
        out,
        "{DIM}{at:>10}{DIM:#}  {DIM}exchange {}{DIM:#}  {BOLD}{} {}{BOLD:#}  {colour}{answer}{colour:#}  {DIM}{}{}{DIM:#}",
        exchange.number,
        clean::line(method),
        clean::line(url),
        clean::line(version),
        took.unwrap_or_default()
    )?;
    message(out, ">", &exchange.request)?;
    message(out, "<", &exchange.response)?;
    for message in &exchange.messages {
        let arrow = match message.direction {
            Direction::ToServer => "→",
            Direction::ToClient => "←",
        };
        let text = if message.text {
            clean::line(&clean::text(&message.body.kept))
        } else {
            format!("{} bytes", message.body.bytes)
        };
        writeln!(out, "{INDENT}{arrow} {text}")?;
    }
    Ok(())
}

fn message(out: &mut impl Write, mark: &str, message: &Message) -> io::Result<()> {
    for (name, value) in message.headers.iter().chain(&message.trailers) {
        writeln!(
            out,
            "{INDENT}{DIM}{mark} {}: {}{DIM:#}",
            clean::line(name),
            clean::line(value)
        )?;
    }
    let body = &message.body;
    if body.bytes > 0 {
        let readable = message.is_plain() && std::str::from_utf8(&body.kept).is_ok();
        let text = if readable { pretty(message) } else { String::new() };
        let lines: Vec<String> = clean::lines(&text).collect();
        for line in lines.iter().filter(|line| !line.is_empty()).take(LINES) {
            writeln!(out, "{INDENT}{line}")?;
        }
        if !readable || lines.len() > LINES || !body.is_whole() {
            writeln!(out, "{INDENT}{DIM}… {} bytes in all{DIM:#}", body.bytes)?;
        }
    }
    if message.tunnelled > 0 {
        writeln!(
            out,
            "{INDENT}{DIM}{mark} {} bytes of another protocol{DIM:#}",
            message.tunnelled
        )?;
    }
    if message.cut {
        writeln!(out, "{INDENT}{RED}{mark} broken off{RED:#}")?;
    }
    Ok(())
}

/// JSON is laid out; everything else stays as it is.
fn pretty(message: &Message) -> String {
    let body = &message.body;
    let json = message
        .field("content-type")
        .is_some_and(|kind| kind.contains("json") && !kind.contains("ndjson"));
    let parsed = Some(&body.kept).filter(|_| json && body.is_whole());
    parsed
        .and_then(|kept| serde_json::from_slice::<serde_json::Value>(kept).ok())
        .and_then(|value| serde_json::to_string_pretty(&value).ok())
        .unwrap_or_else(|| clean::text(&body.kept))
}
