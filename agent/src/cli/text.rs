//! Text for terminals: safe, aligned, in words.

use std::fmt::Write;

use chrono::TimeDelta;

/// The text with everything escaped that could make a terminal show something else than what is there: control
/// characters, and those that are invisible or turn the direction of writing. Line breaks and tabs stay as blanks.
///
/// What a workload wrote is shown to people who decide on it, so it is not to be trusted with their screen.
pub(super) fn one_line(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\n' | '\r' | '\t' => shown.push(' '),
            hidden if is_deceptive(hidden) => {
                // Writing to a String cannot fail.
                let _infallible = write!(shown, "{}", hidden.escape_unicode());
            }
            plain => shown.push(plain),
        }
    }
    shown
}

/// Like [`one_line`], a line for each of the text's lines.
pub(super) fn lines(text: &str) -> Vec<String> {
    text.lines().map(one_line).collect()
}

fn is_deceptive(letter: char) -> bool {
    letter.is_control()
        || matches!(letter,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// At most `width` characters of `line`; `…` stands for what is cut.
pub(super) fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let mut shown: String = line.chars().take(width.saturating_sub(1)).collect();
    shown.push('…');
    shown
}

/// The text in lines of at most `width` characters, broken at blanks; a longer word gets a line of its own.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A length of time in its largest unit: `12 s`, `4 min`, `3 h`, `2 d`. Never negative.
pub(super) fn ago(time: TimeDelta) -> String {
    let seconds = time.num_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Rows as aligned columns, two blanks apart; the last column is not padded.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _infallible = write!(line, "{cell:<width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Width of the terminal in columns; where the output is none, wide enough for most lines.
pub(super) fn width() -> usize {
    terminal_size::terminal_size().map_or(NO_TERMINAL, |(width, _)| usize::from(width.0).max(NARROWEST))
}

const NO_TERMINAL: usize = 160;
const NARROWEST: usize = 60;

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::{ago, cut, lines, one_line, table, wrapped};

    #[test]
    fn a_command_cannot_rewrite_the_screen_of_the_one_who_decides() {
        for (text, shown) in [
            ("SELECT 1", "SELECT 1"),
            ("SELECT 'Übung ✓ 日本'", "SELECT 'Übung ✓ 日本'"),
            (
                "DROP TABLE x\u{1b}[1A\u{1b}[2K",
                "DROP TABLE x\\u{1b}[1A\\u{1b}[2K",
            ),
            ("a\rb\nc\td", "a b c d"),
            ("x \u{202e}1 TCELES", "x \\u{202e}1 TCELES"),
            ("or\u{200b}ders", "or\\u{200b}ders"),
            ("\u{9b}2J\u{7f}\u{0}", "\\u{9b}2J\\u{7f}\\u{0}"),
        ] {
            assert_eq!(one_line(text), shown);
        }
        assert_eq!(lines("SELECT 1\n\u{1b}[8m, 2"), ["SELECT 1", "\\u{1b}[8m, 2"]);
    }

    #[test]
    fn lines_are_cut_at_characters_and_say_so() {
        assert_eq!(cut("übung", 5), "übung");
        assert_eq!(cut("übungen", 5), "übun…");
        assert_eq!(cut("x", 0), "…");
    }

    #[test]
    fn long_texts_are_broken_at_blanks() {
        assert_eq!(wrapped("über den Fluss  und", 8), ["über den", "Fluss", "und"]);
        assert_eq!(wrapped("immeasurable x", 5), ["immeasurable", "x"]);
        assert!(wrapped("", 5).is_empty());
    }

    #[test]
    fn times_are_in_their_largest_unit() {
        for (seconds, shown) in [
            (-5, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_200, "2 h"),
            (172_800, "2 d"),
        ] {
            assert_eq!(ago(TimeDelta::seconds(seconds)), shown);
        }
    }

    #[test]
    fn columns_are_aligned_by_characters() {
        let rows =
            [["ID", "NAME", "X"], ["ü", "longer", ""], ["abc", "b", "end"]].map(|row| row.map(String::from));
        assert_eq!(table(&rows), "ID   NAME    X\nü    longer\nabc  b       end\n");
    }
}
