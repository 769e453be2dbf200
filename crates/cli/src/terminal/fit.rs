//! What fits on a line of the terminal.

use terminal_size::{Width, terminal_size, terminal_size_of};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns of a terminal that does not say how many it has, and of what is cut where there is none.
const USUAL: usize = 80;
const NO_TERMINAL: usize = 160;
/// Columns of help at a terminal at most: longer lines are hard to read.
const WIDEST: usize = 120;

/// Columns of the terminal that standard error is; where there is none, room enough.
pub(super) fn width() -> usize {
    use std::io::IsTerminal;
    match terminal_size_of(std::io::stderr()) {
        Some((Width(columns), _)) => usize::from(columns),
        None if std::io::stderr().is_terminal() => USUAL,
        None => NO_TERMINAL,
    }
}

/// Columns that help is written in: the terminal's, or what `COLUMNS` says; neither very narrow nor too wide
/// to read.
pub(crate) fn help_width() -> usize {
    let said = || std::env::var("COLUMNS").ok()?.parse().ok();
    let columns = terminal_size().map(|(Width(columns), _)| usize::from(columns)).or_else(said);
    columns.map_or(NO_TERMINAL, |columns| columns.clamp(40, WIDEST))
}

/// As many of the columns as fit, from the first on; the first one always.
pub(super) fn columns(columns: &[String], width: usize) -> String {
    let mut line = columns.first().cloned().unwrap_or_default();
    for column in columns.iter().skip(1) {
        // What would wrap around is left out; something shorter behind it may still fit.
        if line.width() + 2 + column.width() <= width {
            line = line + "  " + column;
        }
    }
    line
}

/// The text, cut where the line would be longer, with an ellipsis.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut room = width.saturating_sub(1);
    let fits = |c: &char| {
        let columns = c.width().unwrap_or(0);
        let fits = columns <= room;
        room = if fits { room - columns } else { 0 };
        fits
    };
    text.chars().take_while(fits).chain(['…']).collect()
}

/// The text on one line: white space is single spaces, and nothing moves the cursor.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let status = ["step 10/20", "loss 1.5", "long long long", "lr 1"].map(String::from);
        assert_eq!(columns(&status, 80), "step 10/20  loss 1.5  long long long  lr 1");
        assert_eq!(columns(&status, 26), "step 10/20  loss 1.5  lr 1");
        assert_eq!(columns(&status, 5), "step 10/20");
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(cut("二加三等于五", 12), "二加三等于五");
        assert_eq!(cut("二加三等于五", 8), "二加三…");
        assert_eq!(cut("plain", 4), "pla…");
        assert_eq!(one_line("a\n  b\u{1b}[2J\tc"), "a b[2J c");
    }
}
