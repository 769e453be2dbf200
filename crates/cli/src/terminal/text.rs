//! Speeds and tables as people read them, and numbers by the library.

use gpt::progress::Unit;

pub(crate) use gpt::numbers::{bytes, count, plural, scaled, secs};

/// `3.21/s`, `1.2 MB/s`.
pub(crate) fn rate(per_sec: f64, unit: Unit) -> String {
    let text = scaled(per_sec);
    match unit {
        Unit::Bytes => format!("{text}B/s"),
        Unit::Count => format!("{}/s", text.trim_end()),
    }
}

/// Rows as aligned columns: the first to the left, the others to the right, indented by two.
pub(crate) fn table(rows: &[impl AsRef<[String]>]) -> String {
    aligned(rows, |column| column == 0)
}

/// Rows as columns of texts: all to the left, indented by two.
pub(crate) fn left_table(rows: &[impl AsRef<[String]>]) -> String {
    aligned(rows, |_| true)
}

fn aligned(rows: &[impl AsRef<[String]>], is_left: impl Fn(usize) -> bool) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.as_ref().iter().zip(&widths).enumerate() {
            match is_left(column) {
                true => line += &format!("  {cell:<width$}"),
                false => line += &format!("  {cell:>width$}"),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The narrowest last column that is wrapped within itself.
const COLUMN: usize = 20;

/// A help text in lines of at most `width` characters: lines of a paragraph flow together, last columns of
/// tables wrap within their column, and commands go on after a `\`.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut flows = false;
    for line in text.lines() {
        let is_prose = !line.is_empty() && !line.starts_with(' ');
        match lines.last_mut() {
            Some(last) if flows && is_prose => *last = format!("{last} {line}"),
            _ => lines.push(line.to_owned()),
        }
        // What ends with a colon introduces what follows.
        flows = is_prose && !line.ends_with(':');
    }
    lines.iter().map(|line| wrapped_line(line, width) + "\n").collect::<String>().trim_end().to_owned()
}

fn wrapped_line(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let own = line.trim_start();
    let is_command = own.starts_with("mynah ") || own.starts_with("printf ");
    let indent = line.chars().count() - own.chars().count();
    // The last column of a table begins after the last gap.
    let column = line.rfind("  ").map_or(0, |at| line[..at].chars().count() + 2);
    let (hang, end) = match () {
        () if is_command => (indent + 4, " \\"),
        () if column > indent && column + COLUMN <= width => (column, ""),
        () if indent > 0 => (indent + 4, ""),
        () => (0, ""),
    };
    let room = width - end.len();
    let (mut text, mut filled, mut is_first) = (String::new(), 0, true);
    let (kept, rest) =
        if hang == column && column > indent { split_at(line, column) } else { split_at(line, indent) };
    text += kept;
    filled += kept.chars().count();
    for word in rest.split(' ') {
        let long = word.chars().count();
        if !is_first && filled + 1 + long > room {
            text += &format!("{end}\n{}", " ".repeat(hang));
            filled = hang;
        } else if !is_first {
            text.push(' ');
            filled += 1;
        }
        text += word;
        filled += long;
        is_first = false;
    }
    text
}

/// The text before and from the character `at` on.
fn split_at(text: &str, at: usize) -> (&str, &str) {
    text.split_at(text.char_indices().nth(at).map_or(text.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_have_their_units() {
        assert_eq!([rate(3.214, Unit::Count), rate(1.2e6, Unit::Bytes)], ["3.21/s", "1.20 MB/s"]);
    }

    #[test]
    fn help_wraps_where_its_form_allows() {
        let prose = "one two three\nfour fives\n\nExamples:\n  mynah do --this --those\n  key  12  what it is in words";
        let expected = "one two three four fives\n\nExamples:\n  mynah do --this --those\n  key  12  what it is in words";
        assert_eq!(wrapped(prose, 60), expected);
        let narrow = "one two three four\nfives\n\nExamples:\n  mynah do --this \\\n      --those\n  key  12  what it is\n      in words";
        assert_eq!(wrapped(prose, 23), narrow);
        let row = "  lr  0.1  Highest learning rate of all steps.";
        assert_eq!(wrapped(row, 36), "  lr  0.1  Highest learning rate of\n           all steps.");
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_string(), "10".into()], ["long".into(), "5".into()]];
        assert_eq!(table(&rows), "  a     10\n  long   5\n");
    }
}
