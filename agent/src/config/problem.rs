//! What is wrong in a configuration file, and where: one line each for logs, drawn with the source for terminals.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource};

/// How much a [`Problem`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used, and may surprise.
    Warning,
}

/// One thing that is wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How much it matters.
    pub severity: Severity,
    /// Bytes of the file that it is about; `None`: the file as a whole.
    pub at: Option<Range<usize>>,
    /// What is wrong: a clause without full stop.
    pub message: String,
    /// What to do: expected values, the nearest one.
    pub help: Option<String>,
    /// Another place that explains it, and how.
    pub also: Option<(Range<usize>, String)>,
}

/// Everything that is wrong in one file, in the order of the file.
///
/// `Debug` leaves the file's text out: it names injected users.
#[derive(Clone)]
pub struct Problems {
    path: PathBuf,
    text: Arc<str>,
    list: Vec<Problem>,
}

/// Why a configuration file cannot be used; at least one problem.
///
/// `Display` gives one line a problem, `file:line:column: what is wrong; what to do`. No secret that was written into the
/// file by mistake is in it, nor in [`Problems::draw`].
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct PolicyErrors(Problems);

/// Line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: usize,
}

impl Problem {
    /// An error at `at`.
    pub fn error(at: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            at: Some(at),
            message: message.into(),
            help: None,
            also: None,
        }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Problems {
    /// Problems of the file `path`, whose text is `text`.
    pub fn new(path: &Path, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.at.as_ref().map_or(0, |at| at.start));
        Self {
            path: path.to_owned(),
            text: text.into(),
            list,
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The problems, in the order of the file.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Where a problem of this file starts.
    pub fn position(&self, problem: &Problem) -> Option<Position> {
        self.position_of(problem.at.as_ref()?.start)
    }

    /// Where the byte `start` of the file is.
    pub(super) fn position_of(&self, start: usize) -> Option<Position> {
        let before = self.text.get(..self.floor(start))?;
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Some(Position {
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..)?.chars().count() + 1,
        })
    }

    /// The problems with the lines of the file they are about, for a terminal `width` columns wide.
    pub fn draw(&self, width: usize, color: bool) -> String {
        let theme = if color {
            GraphicalTheme::unicode()
        } else {
            GraphicalTheme::unicode_nocolor()
        };
        let handler = GraphicalReportHandler::new_themed(theme)
            .with_width(width)
            .with_links(false);
        let source = NamedSource::new(self.path.display().to_string(), Arc::clone(&self.text));
        let mut drawn = String::new();
        for problem in &self.list {
            let figure = Figure {
                problems: self,
                problem,
                source: &source,
            };
            if handler.render_report(&mut drawn, &figure).is_err() {
                drawn.push_str(&self.line(problem));
                drawn.push('\n');
            }
        }
        drawn
    }

    fn line(&self, problem: &Problem) -> String {
        let mut line = self.path.display().to_string();
        if let Some(Position { line: row, column }) = self.position(problem) {
            let _ = write!(line, ":{row}:{column}");
        }
        line.push_str(": ");
        if problem.severity == Severity::Warning {
            line.push_str("warning: ");
        }
        line.push_str(&problem.message);
        if let Some(help) = &problem.help {
            line.push_str("; ");
            line.push_str(help);
        }
        line
    }

    /// The nearest boundary of a character at or before `at`.
    fn floor(&self, at: usize) -> usize {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        at
    }

    /// A span within the text and within its first line: tables reach over many lines, and their first names them.
    fn one_line(&self, at: &Range<usize>) -> (usize, usize) {
        let start = self.floor(at.start);
        let end = self.floor(at.end).max(start);
        let shown = self.text.get(start..end).unwrap_or_default();
        (start, shown.lines().next().unwrap_or_default().len())
    }
}

impl fmt::Debug for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Problems")
            .field("path", &self.path)
            .field("list", &self.list)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.line(problem))?;
        }
        Ok(())
    }
}

impl PolicyErrors {
    pub(super) fn new(mut problems: Problems) -> Self {
        if problems.list.is_empty() {
            problems.list.push(Problem {
                severity: Severity::Error,
                at: None,
                message: "the file cannot be decoded".into(),
                help: Some("report it: the decoder gave no reason".into()),
                also: None,
            });
        }
        Self(problems)
    }

    /// A file that cannot be read at all.
    pub(super) fn unreadable(path: &Path, message: String, help: &str) -> Self {
        Self::new(Problems::new(
            path,
            "",
            vec![Problem {
                severity: Severity::Error,
                at: None,
                message,
                help: Some(help.into()),
                also: None,
            }],
        ))
    }

    /// What is wrong; never empty.
    pub fn problems(&self) -> &Problems {
        &self.0
    }
}

/// One problem as the drawing library wants it.
#[derive(Debug)]
struct Figure<'a> {
    problems: &'a Problems,
    problem: &'a Problem,
    source: &'a NamedSource<Arc<str>>,
}

impl fmt::Display for Figure<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem.message)?;
        if self.problem.at.is_none() {
            write!(f, " ({})", self.problems.path.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Figure<'_> {}

impl Diagnostic for Figure<'_> {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.problem.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.problem
            .help
            .as_ref()
            .map(|help| Box::new(help) as Box<dyn fmt::Display + 'a>)
    }

    fn source_code(&self) -> Option<&dyn miette::SourceCode> {
        self.problem
            .at
            .is_some()
            .then_some(self.source as &dyn miette::SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (start, len) = self.problems.one_line(self.problem.at.as_ref()?);
        let here = LabeledSpan::new_primary_with_span(None, (start, len));
        let also = self.problem.also.as_ref().map(|(at, why)| {
            let (start, len) = self.problems.one_line(at);
            LabeledSpan::new(Some(why.clone()), start, len)
        });
        Some(Box::new(std::iter::once(here).chain(also)))
    }
}
