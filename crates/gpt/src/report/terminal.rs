//! Curves for the terminal: one line of blocks, or a small picture in braille.

use super::axis::number;

/// A curve as a line of at most `width` blocks, `▇▅▃▂▁`; values that are not finite are left out.
pub fn sparkline(values: &[f64], width: usize) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let values: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let columns = means(&values, width);
    let (low, high) = range(&columns);
    let block =
        |value: &f64| BLOCKS[((value - low) / (high - low).max(f64::MIN_POSITIVE) * 7.0).round() as usize];
    columns.iter().map(block).collect()
}

/// A curve of `(x, y)` points as `rows` lines of braille, `columns` wide including the labels of the vertical
/// axis; points that are not finite are left out, and the result is empty if none remains.
///
/// ```text
///  9.21 ⢇
///       ⠘⢆
///       ⠀⠈⠢⣀
///  2.87 ⠀⠀⠀⠈⠉⠒⠒
///       1      400
/// ```
pub fn chart(points: &[(f64, f64)], columns: usize, rows: usize) -> String {
    let points: Vec<(f64, f64)> =
        points.iter().copied().filter(|(x, y)| x.is_finite() && y.is_finite()).collect();
    let (low, high) = range(&points.iter().map(|point| point.1).collect::<Vec<_>>());
    let (first, last) = range(&points.iter().map(|point| point.0).collect::<Vec<_>>());
    if points.is_empty() || rows == 0 {
        return String::new();
    }
    let labels = [number(high), number(low)];
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let columns = columns.saturating_sub(margin + 1).max(1);
    let mut canvas = Canvas::new(columns, rows);
    let dot = |value: f64, low: f64, high: f64, dots: usize| {
        ((value - low) / (high - low).max(f64::MIN_POSITIVE) * (dots - 1) as f64).round() as usize
    };
    let place =
        |&(x, y): &(f64, f64)| (dot(x, first, last, 2 * columns), 4 * rows - 1 - dot(y, low, high, 4 * rows));
    let dots: Vec<(usize, usize)> = points.iter().map(place).collect();
    dots.windows(2).for_each(|pair| canvas.line(pair[0], pair[1]));
    canvas.set(dots[0]);

    let mut text = String::new();
    for (row, cells) in canvas.cells.chunks(columns).enumerate() {
        let label = if row == 0 {
            &labels[0]
        } else if row + 1 == rows {
            &labels[1]
        } else {
            ""
        };
        let cells: String =
            cells.iter().filter_map(|&bits| char::from_u32(0x2800 + u32::from(bits))).collect();
        text += &format!("{label:>margin$} {cells}\n");
    }
    let (first, last) = (number(first), number(last));
    let width = columns.saturating_sub(first.len());
    text + &format!("{:margin$} {first}{last:>width$}\n", "")
}

/// Dots, two by four in a character.
struct Canvas {
    columns: usize,
    cells: Vec<u8>,
}

impl Canvas {
    fn new(columns: usize, rows: usize) -> Self {
        Self { columns, cells: vec![0; columns * rows] }
    }

    fn set(&mut self, (x, y): (usize, usize)) {
        // The order of the dots in Unicode's braille patterns.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        self.cells[y / 4 * self.columns + x / 2] |= BITS[y % 4][x % 2];
    }

    fn line(&mut self, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        let along = |a: usize, b: usize, i: usize| {
            (a as f64 + (b as f64 - a as f64) * i as f64 / steps as f64).round() as usize
        };
        for i in 0..=steps {
            self.set((along(from.0, to.0, i), along(from.1, to.1, i)));
        }
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &value| (low.min(value), high.max(value)))
}

/// The means of at most `columns` equal stretches of `values`.
fn means(values: &[f64], columns: usize) -> Vec<f64> {
    let columns = columns.min(values.len());
    let stretch =
        |column: usize| &values[column * values.len() / columns..(column + 1) * values.len() / columns];
    (0..columns).map(|column| stretch(column).iter().sum::<f64>() / stretch(column).len() as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_curve_falls() {
        assert_eq!(sparkline(&[8.0, 6.0, 4.0, f64::NAN, 2.0, 1.0], 5), "█▆▄▂▁");
        assert_eq!(sparkline(&[4.0, 4.0, 1.0, 1.0], 2), "█▁");
        assert_eq!(sparkline(&[3.0, 3.0], 9), "▁▁");
        assert_eq!((sparkline(&[], 9), sparkline(&[1.0], 0)), (String::new(), String::new()));
    }

    #[test]
    fn a_picture_has_its_labels_at_the_ends() {
        let drawn = chart(&[(1.0, 9.0), (3.0, 1.0)], 6, 2);
        assert_eq!(drawn, "9 ⠑⢄⠀⠀\n1 ⠀⠀⠑⢄\n  1  3\n");
        assert_eq!(chart(&[(5.0, 2.5)], 8, 1), "2.5 ⡀⠀⠀⠀\n    5  5\n");
        assert_eq!(chart(&[(f64::NAN, 1.0)], 40, 8), "");
    }
}
