//! Figures with their 95 % intervals.

use serde::{Deserialize, Serialize};

/// A figure with its 95 % interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The figure.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Interval {
    /// Of the mean of `values`: ± 1.96 standard errors.
    pub fn of_mean(values: &[f64]) -> Self {
        let n = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / n;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let reach = 1.96 * (variance / n).sqrt();
        Interval { value: mean, low: mean - reach, high: mean + reach }
    }
}

/// A share of `n` items with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rate {
    /// The share, 0 to 1.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Items.
    pub n: u64,
}

impl Rate {
    /// `hits` of `n` with its Wilson score interval (Wilson 1927), which is sensible for small `n` and near 0
    /// and 1.
    pub fn wilson(hits: u64, n: u64) -> Self {
        if n == 0 {
            return Self { value: 0.0, low: 0.0, high: 1.0, n };
        }
        let (share, count, z) = (hits as f64 / n as f64, n as f64, 1.959_964);
        let scale = 1.0 + z * z / count;
        let middle = (share + z * z / (2.0 * count)) / scale;
        let reach = z / scale * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
        // The ends of 0 and 1 are exact; rounding would leave them a little inside.
        let low = if hits == 0 { 0.0 } else { middle - reach };
        let high = if hits == n { 1.0 } else { middle + reach };
        Self { value: share, low, high, n }
    }
}

impl From<Rate> for Interval {
    fn from(Rate { value, low, high, .. }: Rate) -> Self {
        Interval { value, low, high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_is_right() {
        let rate = Rate::wilson(231, 1000);
        assert!((rate.low - 0.205_936).abs() < 1e-6 && (rate.high - 0.258_122).abs() < 1e-6, "{rate:?}");
        assert_eq!((Rate::wilson(0, 9).low, Rate::wilson(9, 9).high), (0.0, 1.0));
        assert_eq!((Rate::wilson(0, 0).low, Rate::wilson(0, 0).high), (0.0, 1.0));
    }
}
