//! Result tables: aligned by what a terminal shows, cut to its width.

use std::io::{self, Write};

use anstyle::{Effects, Style};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::clean;
use super::step::{Column, QueryResult};

const DIM: Style = Style::new().effects(Effects::DIMMED);
const BOLD: Style = Style::new().effects(Effects::BOLD);
/// What stands between two columns.
const GAP: usize = 3;
/// No column is made narrower than this while there is another way.
const NARROW: usize = 8;
/// No column is made wider than this while others have to share the line.
const WIDE: usize = 60;

/// Writes the rows of `result`, each line behind `indent`, in `width` columns of a terminal.
pub(super) fn write(
    out: &mut impl Write,
    result: &QueryResult,
    indent: &str,
    width: usize,
) -> io::Result<()> {
    let cells: Vec<Vec<Cell>> = result
        .rows
        .iter()
        .map(|row| row.iter().map(|value| Cell::new(value.as_deref())).collect())
        .collect();
    let columns = fit(
        &result.columns,
        &cells,
        width.saturating_sub(indent.width()).max(NARROW),
    );
    let hidden = result.columns.len() - columns.len();

    write!(out, "{indent}")?;
    for (index, column) in columns.iter().enumerate() {
        separate(out, index, " │ ")?;
        let (name, fill) = pad(&column.name, column.width);
        let fill = if index + 1 == columns.len() { "" } else { &fill };
        write!(out, "{BOLD}{name}{BOLD:#}{fill}")?;
    }
    write!(out, "\n{indent}{DIM}")?;
    for (index, column) in columns.iter().enumerate() {
        if index > 0 {
            write!(out, "─┼─")?;
        }
        write!(out, "{}", "─".repeat(column.width))?;
    }
    writeln!(out, "{DIM:#}")?;
    for row in &cells {
        write!(out, "{indent}")?;
        for (index, column) in columns.iter().enumerate() {
            separate(out, index, " │ ")?;
            if let Some(cell) = row.get(index) {
                cell.write(out, column, index + 1 == columns.len())?;
            }
        }
        writeln!(out)?;
    }
    let more = result.row_count - result.rows.len() as u64;
    if more > 0 {
        let rows = if more == 1 { "row" } else { "rows" };
        writeln!(out, "{indent}{DIM}… {more} more {rows} (--rows){DIM:#}")?;
    }
    if hidden > 0 {
        let names = if hidden == 1 { "column" } else { "columns" };
        writeln!(
            out,
            "{indent}{DIM}… {hidden} more {names} (--json has them){DIM:#}"
        )?;
    }
    Ok(())
}

fn separate(out: &mut impl Write, index: usize, separator: &str) -> io::Result<()> {
    if index > 0 {
        write!(out, "{DIM}{separator}{DIM:#}")?;
    }
    Ok(())
}

/// A column as it is laid out.
struct Layout {
    name: String,
    width: usize,
    right: bool,
}

/// A value, ready to be written.
struct Cell {
    text: String,
    width: usize,
    null: bool,
}

impl Cell {
    fn new(value: Option<&str>) -> Self {
        let text = value.map_or_else(|| "NULL".to_owned(), clean::line);
        Self {
            width: text.width(),
            text,
            null: value.is_none(),
        }
    }

    /// Blanks behind the last cell of a line are left out.
    fn write(&self, out: &mut impl Write, column: &Layout, last: bool) -> io::Result<()> {
        let (text, before) = pad(&self.text, column.width);
        let fill = if last { "" } else { &before };
        match (self.null, column.right) {
            (true, _) => write!(out, "{DIM}{text}{DIM:#}{fill}"),
            (false, true) => write!(out, "{before}{text}"),
            (false, false) => write!(out, "{text}{fill}"),
        }
    }
}

/// Lays out as many columns as fit in `width`; at least one.
fn fit(columns: &[Column], cells: &[Vec<Cell>], width: usize) -> Vec<Layout> {
    let widest = if columns.len() == 1 { width } else { WIDE };
    let mut layout: Vec<Layout> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let name = clean::line(&column.name);
            let cells = cells
                .iter()
                .filter_map(|row| row.get(index))
                .map(|cell| cell.width);
            let natural = cells.chain([name.width()]).max().unwrap_or(0);
            Layout {
                width: natural.clamp(1, widest.max(1)),
                name,
                right: is_number(column.type_oid),
            }
        })
        .collect();
    loop {
        let gaps = layout.len().saturating_sub(1) * GAP;
        let total = layout.iter().map(|column| column.width).sum::<usize>() + gaps;
        let over = total.saturating_sub(width);
        if over == 0 || layout.len() <= 1 {
            break;
        }
        // The widest gives way to the next widest; where all are narrow, the last column goes.
        let mut widths: Vec<usize> = layout.iter().map(|column| column.width).collect();
        widths.sort_unstable_by(|a, b| b.cmp(a));
        let top = widths.first().copied().unwrap_or(0);
        if top <= NARROW {
            layout.pop();
            continue;
        }
        let next = widths
            .iter()
            .copied()
            .find(|width| *width < top)
            .unwrap_or(0)
            .max(NARROW);
        if let Some(column) = layout.iter_mut().find(|column| column.width == top) {
            column.width = top.saturating_sub(over).max(next.min(top - 1));
        }
    }
    layout
}

/// Types that are read from the right: integers, floats, numeric, money, oid.
fn is_number(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23 | 26 | 700 | 701 | 790 | 1700)
}

/// The text, cut to `width`, and the blanks that fill it up.
fn pad(text: &str, width: usize) -> (String, String) {
    let shown = if text.width() <= width {
        text.to_owned()
    } else {
        let mut cut = String::new();
        let mut used = 1;
        for c in text.chars() {
            used += c.width().unwrap_or(0);
            if used > width {
                break;
            }
            cut.push(c);
        }
        cut.push('…');
        cut
    };
    let fill = " ".repeat(width.saturating_sub(shown.width()));
    (shown, fill)
}
