//! Steps for people: a session as a conversation.

use std::io::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Color, Effects, Style};

use super::clean;
use super::http;
use super::step::{CopyData, End, Event, QueryResult, ServerMessage, Step};
use super::table;
use crate::model::{Action, Direction, FrameKind};
use crate::record::meta::{
    ApprovalMeta, ApprovalState, CloseMeta, CommandMeta, ErrorMeta, Fault, FindingMeta, GapMeta,
    IdentityMeta, IdentityState, LeaseMeta, LeaseState, MaskMeta, OpenMeta, Verdict, VerdictMeta,
};

const DIM: Style = Style::new().effects(Effects::DIMMED);
const BOLD: Style = Style::new().effects(Effects::BOLD);
const GREEN: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Green)));
const YELLOW: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Yellow)));
const RED: Style = Style::new().fg_color(Some(Color::Ansi(AnsiColor::Red)));

/// Blanks before everything but times.
const INDENT: &str = "            ";
/// Longest statement that is shown whole, in lines.
const STATEMENT_LINES: usize = 60;
/// Most of an identity's facts.
const FACTS: usize = 24;

/// Writes steps as text with colours; wrap the output in [`anstream`] where it may be no terminal.
#[derive(Debug)]
pub struct Screen {
    width: usize,
    /// The command that was shown last, and its text.
    shown: Option<(u64, String)>,
    observe: bool,
}

impl Screen {
    /// A screen of `width` columns.
    pub fn new(width: usize) -> Self {
        Self {
            width: width.max(40),
            shown: None,
            observe: false,
        }
    }

    /// Writes one step.
    ///
    /// # Errors
    /// Where `out` cannot be written.
    pub fn step(&mut self, out: &mut impl Write, step: &Step) -> io::Result<()> {
        let at = elapsed(step.at);
        match &step.event {
            Event::Open(open) => self.open(out, open),
            Event::Command(command) => self.command(out, &at, command),
            Event::Verdict(verdict) => self.verdict(out, verdict),
            Event::Approval(approval) => approved(out, &at, approval),
            Event::Result(result) => self.result(out, result),
            Event::Exchange(exchange) => http::show(out, &at, exchange),
            Event::Failure(message) => self.message(out, RED, message),
            Event::Notice(message) => self.message(out, YELLOW, message),
            Event::Notification { channel, payload } => note(
                out,
                YELLOW,
                &format!(
                    "notification on {}: {}",
                    clean::line(channel),
                    clean::line(payload)
                ),
            ),
            Event::Mask(mask) => masked(out, mask),
            Event::Lease(lease) => leased(out, &at, lease),
            Event::Identity(identity) => changed(out, &at, identity),
            Event::Finding(finding) => found(out, &at, finding),
            Event::Error(error) => failed(out, &at, error),
            Event::Gap(gap) => missing(out, &at, gap),
            Event::Bytes {
                direction,
                length,
                beginning,
            } => {
                let arrow = arrow(*direction);
                let beginning = clean::line(beginning);
                writeln!(
                    out,
                    "{DIM}{at:>10}{DIM:#}  {arrow} {length} bytes  {DIM}{beginning}{DIM:#}"
                )
            }
            Event::Unreadable { kind, reason } => {
                let reason = format!("unreadable {}: {}", kind_name(*kind), clean::line(reason));
                writeln!(out, "{DIM}{at:>10}{DIM:#}  {RED}{reason}{RED:#}")
            }
            Event::Close(close) => closed(out, &at, close),
        }
    }

    fn open(&mut self, out: &mut impl Write, open: &OpenMeta) -> io::Result<()> {
        self.observe = open.mode == "observe";
        let mut facts = Vec::new();
        collect("", &open.identity, &mut facts);
        let summary = open.identity.get("summary").and_then(serde_json::Value::as_str);
        writeln!(out, "{BOLD}Session {}{BOLD:#}", open.session)?;
        let who = summary.map_or_else(
            || open.workload.to_string(),
            |summary| format!("{} · {summary}", open.workload),
        );
        heading(out, "who", &who)?;
        for (name, value) in facts.iter().filter(|(name, _)| name != "summary").take(FACTS) {
            writeln!(
                out,
                "{INDENT}{DIM}{}{DIM:#} {}",
                clean::line(name),
                clean::line(value)
            )?;
        }
        let place = format!(
            "{} ({}) · {} → {}",
            open.service, open.protocol, open.client, open.original_destination
        );
        heading(out, "where", &place)?;
        let when = open.started.format("%Y-%m-%d %H:%M:%S%.3f UTC");
        heading(out, "when", &format!("{when} on {}", open.host))?;
        let hash = open.policy_hash.get(..12).unwrap_or(&open.policy_hash);
        heading(out, "policy", &format!("{hash} · {}", open.mode))
    }

    fn command(&mut self, out: &mut impl Write, at: &str, meta: &CommandMeta) -> io::Result<()> {
        let number = meta.number;
        write!(out, "\n{DIM}{at:>10}{DIM:#}  {BOLD}#{number}{BOLD:#}  ")?;
        let same = self
            .shown
            .as_ref()
            .filter(|(_, text)| *text == *meta.command.text)
            .map(|(before, _)| *before);
        if let Some(before) = same {
            writeln!(out, "{DIM}again #{before}{DIM:#}")?;
        } else {
            let lines: Vec<String> = clean::lines(&meta.command.text).collect();
            for (index, line) in lines.iter().take(STATEMENT_LINES).enumerate() {
                match index {
                    0 => writeln!(out, "{line}")?,
                    _ => writeln!(out, "{INDENT}{line}")?,
                }
            }
            if lines.len() > STATEMENT_LINES {
                let more = lines.len() - STATEMENT_LINES;
                writeln!(out, "{INDENT}{DIM}… {more} more lines (--json has them){DIM:#}")?;
            }
        }
        for (index, parameter) in meta.parameters.iter().enumerate() {
            let place = index + 1;
            match &parameter.shown {
                Some(value) => writeln!(out, "{INDENT}{DIM}${place} ={DIM:#} {}", clean::line(value))?,
                None => writeln!(out, "{INDENT}{DIM}${place} = NULL{DIM:#}")?,
            }
        }
        let mut effects = actions(&meta.command.actions);
        if meta.command.without_where {
            effects.push_str(" · without WHERE");
        }
        if let Some(why) = &meta.command.unknown {
            effects.push_str(" · ");
            effects.push_str(&clean::line(why));
        }
        if same.is_none() && !effects.is_empty() {
            writeln!(out, "{INDENT}{DIM}{effects}{DIM:#}")?;
        }
        self.shown = Some((number, meta.command.text.to_string()));
        Ok(())
    }

    fn verdict(&self, out: &mut impl Write, verdict: &VerdictMeta) -> io::Result<()> {
        self.refer(out, Some(verdict.number))?;
        let rules = verdict
            .rules
            .iter()
            .map(|rule| format!("“{}”", clean::line(rule.as_str())))
            .collect::<Vec<_>>()
            .join(", ");
        let by = if rules.is_empty() {
            rules
        } else {
            format!(" by {rules}")
        };
        match verdict.verdict {
            Verdict::Allow if verdict.message.is_empty() => note(out, GREEN, &format!("✓ allowed{by}")),
            Verdict::Hold => note(out, YELLOW, &format!("‖ held{by}: waits for a person")),
            Verdict::Allow | Verdict::Deny => {
                let word = if self.observe {
                    "would be refused"
                } else {
                    "refused"
                };
                note(out, RED, &format!("✗ {word}{by}"))?;
                for text in [&verdict.message, &verdict.hint]
                    .into_iter()
                    .filter(|text| !text.is_empty())
                {
                    writeln!(out, "{INDENT}  {}", clean::line(text))?;
                }
                Ok(())
            }
        }
    }

    fn result(&self, out: &mut impl Write, result: &QueryResult) -> io::Result<()> {
        self.refer(out, result.number)?;
        if !result.columns.is_empty() {
            table::write(out, result, INDENT, self.width)?;
        }
        if let Some(copy) = &result.copy {
            copied(out, copy)?;
        }
        match &result.end {
            End::Complete(tag) if tag.is_empty() => note(out, DIM, "(empty statement)"),
            End::Complete(tag) => note(out, DIM, &clean::line(tag)),
            End::Suspended => note(out, DIM, &format!("({} rows so far)", result.row_count)),
            End::Failed if result.row_count == 0 => Ok(()),
            End::Failed => note(out, DIM, &format!("(failed after {} rows)", result.row_count)),
            End::Cut => note(out, DIM, "(the record ends within this result)"),
        }
    }

    fn message(&self, out: &mut impl Write, style: Style, message: &ServerMessage) -> io::Result<()> {
        self.refer(out, message.number)?;
        let head = format!("{} {}: {}", message.severity, message.code, message.message);
        note(out, style, &clean::line(&head))?;
        for (name, text) in [("DETAIL", &message.detail), ("HINT", &message.hint)] {
            if !text.is_empty() {
                writeln!(out, "{INDENT}{DIM}{name}:{DIM:#} {}", clean::line(text))?;
            }
        }
        Ok(())
    }

    /// Says which command something belongs to, where it is not the one above.
    fn refer(&self, out: &mut impl Write, number: Option<u64>) -> io::Result<()> {
        match (number, &self.shown) {
            (Some(number), Some((shown, _))) if number != *shown => {
                writeln!(out, "{INDENT}{DIM}to #{number}:{DIM:#}")
            }
            _ => Ok(()),
        }
    }
}

fn closed(out: &mut impl Write, at: &str, close: &CloseMeta) -> io::Result<()> {
    let reason = clean::line(&close.reason);
    writeln!(out, "\n{DIM}{at:>10}{DIM:#}  {BOLD}end{BOLD:#}  {reason}")?;
    if close.reason == CloseMeta::KILLED {
        return Ok(());
    }
    let counts = [
        (close.commands, "commands"),
        (close.allowed, "allowed"),
        (close.denied, "refused"),
        (close.held, "held"),
        (close.rows, "rows"),
        (close.masked_values, "values masked"),
        (close.bytes_to_client, "bytes to the client"),
        (close.bytes_to_server, "bytes to the server"),
    ];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if counts.is_empty() {
        return Ok(());
    }
    note(out, DIM, &counts.join(" · "))
}

fn approved(out: &mut impl Write, at: &str, approval: &ApprovalMeta) -> io::Result<()> {
    let (style, what) = match approval.state {
        ApprovalState::Requested => (YELLOW, "‖ hold"),
        ApprovalState::Approved => (GREEN, "✓ approved"),
        ApprovalState::Denied => (RED, "✗ refused"),
        ApprovalState::TimedOut => (RED, "✗ nobody decided in time:"),
        ApprovalState::Cancelled => (RED, "✗ withdrawn by the client:"),
    };
    let hold = clean::line(approval.hold.as_str());
    write!(out, "{DIM}{at:>10}{DIM:#}  {style}{what} {hold}{style:#}")?;
    if let Some(by) = &approval.by {
        write!(out, " by {BOLD}{}{BOLD:#}", clean::line(by))?;
    }
    if let Some(reason) = &approval.reason {
        write!(out, ": {}", clean::line(reason))?;
    }
    writeln!(out)
}

fn masked(out: &mut impl Write, mask: &MaskMeta) -> io::Result<()> {
    let what = mask
        .column
        .as_deref()
        .or(mask.detector.as_deref())
        .unwrap_or("values");
    note(
        out,
        YELLOW,
        &format!("masked: {} × {}", clean::line(what), mask.count),
    )
}

fn leased(out: &mut impl Write, at: &str, lease: &LeaseMeta) -> io::Result<()> {
    let what = match lease.state {
        LeaseState::Taken => "credential taken",
        LeaseState::Renewed => "credential renewed",
        LeaseState::Revoked => "credential revoked",
        LeaseState::Failed => "no credential",
        LeaseState::Pending => "credential not revoked yet",
        LeaseState::Returned => "credential given back",
    };
    write!(out, "{DIM}{at:>10}  {what} ({})", clean::line(&lease.source))?;
    if let Some(expires) = lease.expires {
        write!(out, ", valid until {}", expires.format("%H:%M:%S UTC"))?;
    }
    if let Some(reason) = &lease.reason {
        write!(out, ": {}", clean::line(reason))?;
    }
    writeln!(out, "{DIM:#}")
}

fn changed(out: &mut impl Write, at: &str, meta: &IdentityMeta) -> io::Result<()> {
    let what = match meta.state {
        IdentityState::Renewed => "newer token",
        IdentityState::Expired => "token expired",
        IdentityState::Revoked => "identity revoked",
    };
    let summary = meta.identity.get("summary").and_then(serde_json::Value::as_str);
    write!(out, "{DIM}{at:>10}  {what}")?;
    if let Some(reason) = &meta.reason {
        write!(out, " ({})", clean::line(reason))?;
    }
    writeln!(out, ": {}{DIM:#}", clean::line(summary.unwrap_or("-")))
}

fn found(out: &mut impl Write, at: &str, finding: &FindingMeta) -> io::Result<()> {
    let kind = clean::line(&finding.kind);
    let place = clean::line(&finding.at);
    let id = clean::line(&finding.finding);
    writeln!(
        out,
        "{DIM}{at:>10}{DIM:#}  {YELLOW}a secret of its own: {kind}, {place}{YELLOW:#} {DIM}(finding {id}){DIM:#}"
    )
}

fn failed(out: &mut impl Write, at: &str, error: &ErrorMeta) -> io::Result<()> {
    let fault = match error.fault {
        Fault::Client => "the client's fault",
        Fault::Target => "the target's fault",
        Fault::Agent => "the agent's fault",
        Fault::Policy => "by the policy",
    };
    let message = clean::line(&error.message);
    writeln!(
        out,
        "{DIM}{at:>10}{DIM:#}  {RED}error{RED:#}  {message} {DIM}({fault}){DIM:#}"
    )
}

fn missing(out: &mut impl Write, at: &str, gap: &GapMeta) -> io::Result<()> {
    let bytes = gap
        .bytes
        .map_or_else(String::new, |bytes| format!(" ({bytes} bytes)"));
    let reason = clean::line(&gap.reason);
    writeln!(
        out,
        "{DIM}{at:>10}{DIM:#}  {RED}not on record{RED:#}  {reason}{bytes}"
    )
}

fn copied(out: &mut impl Write, copy: &CopyData) -> io::Result<()> {
    let arrow = arrow(copy.direction);
    for line in &copy.lines {
        writeln!(out, "{INDENT}{DIM}{arrow}{DIM:#} {}", clean::line(line))?;
    }
    let format = if copy.binary { " in binary format" } else { "" };
    writeln!(
        out,
        "{INDENT}{DIM}{arrow} {} bytes of COPY data{format}{DIM:#}",
        copy.bytes
    )
}

/// `read public.customers, public.orders · transaction`.
fn actions(actions: &[Action]) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for action in actions {
        let name = action.effect.name();
        let place = groups
            .iter()
            .position(|(group, _)| *group == name)
            .unwrap_or_else(|| {
                groups.push((name, Vec::new()));
                groups.len() - 1
            });
        if let (Some((_, objects)), Some(object)) = (groups.get_mut(place), &action.object) {
            let object = clean::line(&object.to_string());
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
    }
    let group = |(name, objects): &(&str, Vec<String>)| match objects.as_slice() {
        [] => (*name).to_owned(),
        objects => format!("{name} {}", objects.join(", ")),
    };
    groups.iter().map(group).collect::<Vec<_>>().join(" · ")
}

/// Facts of an identity: names joined with dots, and values.
fn collect(name: &str, value: &serde_json::Value, facts: &mut Vec<(String, String)>) {
    use serde_json::Value;
    let text = match value {
        Value::Null => return,
        Value::Object(map) => {
            for (key, value) in map {
                let name = if name.is_empty() {
                    key.clone()
                } else {
                    format!("{name}.{key}")
                };
                collect(&name, value, facts);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map_or_else(|| item.to_string(), str::to_owned))
            .collect::<Vec<_>>()
            .join(" "),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    facts.push((name.to_owned(), text));
}

fn heading(out: &mut impl Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "{DIM}{name:>10}{DIM:#}  {}", clean::line(text))
}

fn note(out: &mut impl Write, style: Style, text: &str) -> io::Result<()> {
    writeln!(out, "{INDENT}{style}{text}{style:#}")
}

fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::ToServer => "→",
        Direction::ToClient => "←",
    }
}

fn kind_name(kind: FrameKind) -> String {
    serde_json::to_value(kind)
        .ok()
        .and_then(|name| Some(name.as_str()?.replace('_', " ")))
        .unwrap_or_default()
}

/// `+0.004s`, `+12m03.4s`, `+1h02m03s`.
fn elapsed(at: Duration) -> String {
    let seconds = at.as_secs();
    match seconds {
        0..60 => format!("+{:.3}s", at.as_secs_f64()),
        60..3600 => format!(
            "+{}m{:02}.{}s",
            seconds / 60,
            seconds % 60,
            at.subsec_millis() / 100
        ),
        _ => format!(
            "+{}h{:02}m{:02}s",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60
        ),
    }
}
