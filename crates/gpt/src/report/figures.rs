//! Figures with their intervals as people read them, with equal digits everywhere.

use crate::eval::Interval;

/// A share: `57.1 %`.
pub fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// A share with its interval: `57.1 % (40.9–72.0)`.
pub fn percent_of(share: impl Into<Interval>) -> String {
    let Interval { value, low, high } = share.into();
    format!("{} ({:.1}–{:.1})", percent(value), 100.0 * low, 100.0 * high)
}

/// A score with its interval: `0.539 (0.525–0.552)`. Below zero the ends stand apart: `-0.569 (-0.644 to
/// -0.494)` would be hard to read with a dash.
pub fn score_of(score: Interval) -> String {
    let Interval { value, low, high } = score;
    let between = if low < 0.0 { " … " } else { "–" };
    format!("{} ({}{between}{})", signed(value, 3, false), signed(low, 3, false), signed(high, 3, false))
}

/// A difference of shares in percentage points with its interval: `+3.1 (−0.5 … +6.6)`.
pub fn points_of(difference: Interval) -> String {
    difference_of(difference, 100.0, 1)
}

/// A difference of scores with its interval: `+0.012 (−0.003 … +0.027)`.
pub(super) fn score_difference_of(difference: Interval) -> String {
    difference_of(difference, 1.0, 3)
}

/// The same, where it stands in a sentence: an interval is not broken over lines.
pub(super) fn unbroken(figure: &str) -> String {
    figure.replace(' ', "\u{a0}").replace('–', "\u{2060}–\u{2060}")
}

/// A score alone: `−0.569`.
pub(super) fn score(x: f64) -> String {
    signed(x, 3, false)
}

fn difference_of(Interval { value, low, high }: Interval, times: f64, digits: usize) -> String {
    let [value, low, high] = [value, low, high].map(|x| signed(times * x, digits, true));
    format!("{value} ({low} … {high})")
}

/// A number with a minus sign that is as wide as a plus sign.
fn signed(x: f64, digits: usize, plus: bool) -> String {
    let text = format!("{:.digits$}", x.abs());
    // What is rounded to zero has no sign.
    let sign = match text.bytes().all(|byte| matches!(byte, b'0' | b'.')) {
        true => "",
        false if x < 0.0 => "−",
        false if plus => "+",
        false => "",
    };
    format!("{sign}{text}")
}

/// Operations: `2.9 × 10¹³`.
pub(super) fn operations(flops: f64) -> String {
    const DIGITS: [char; 10] = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let text = format!("{flops:.1e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let raised = exponent.chars().map(|c| c.to_digit(10).map_or('⁻', |digit| DIGITS[digit as usize]));
    format!("{digits} × 10{}", raised.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_equal_digits() {
        let interval = |value, low, high| Interval { value, low, high };
        assert_eq!(percent_of(interval(0.571_43, 0.408_6, 0.720_2)), "57.1 % (40.9–72.0)");
        assert_eq!(percent_of(interval(0.6, 0.5, 1.0)), "60.0 % (50.0–100.0)");
        assert_eq!(score_of(interval(0.538_6, 0.52, 0.552)), "0.539 (0.520–0.552)");
        assert_eq!(score_of(interval(-0.5, -0.6, 0.1)), "−0.500 (−0.600 … 0.100)");
        assert_eq!(points_of(interval(0.031, -0.005, 0.066)), "+3.1 (−0.5 … +6.6)");
        assert_eq!(points_of(interval(0.0, -0.000_1, 0.02)), "0.0 (0.0 … +2.0)");
        assert_eq!(score_difference_of(interval(-0.012, -0.03, 0.001)), "−0.012 (−0.030 … +0.001)");
        assert_eq!([operations(2.94e13), operations(1e9)], ["2.9 × 10¹³", "1.0 × 10⁹"]);
    }
}
