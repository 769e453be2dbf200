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
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let width = |column: usize| rows.iter().map(|row| row.as_ref()[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, &width)) in row.as_ref().iter().zip(&widths).enumerate() {
            match column {
                0 => line += &format!("  {cell:<width$}"),
                _ => line += &format!("  {cell:>width$}"),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_have_their_units() {
        assert_eq!([rate(3.214, Unit::Count), rate(1.2e6, Unit::Bytes)], ["3.21/s", "1.20 MB/s"]);
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [["a".to_string(), "10".into()], ["long".into(), "5".into()]];
        assert_eq!(table(&rows), "  a     10\n  long   5\n");
    }
}
