//! Figures with their 95 % intervals.

use serde::{Deserialize, Serialize};
use text::statistics::wilson;

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
    /// `hits` of `n` with its Wilson score interval.
    pub fn wilson(hits: u64, n: u64) -> Self {
        let (low, high) = wilson(hits as f64, n as f64);
        Self { value: hits as f64 / n.max(1) as f64, low, high, n }
    }
}

impl From<Rate> for Interval {
    fn from(Rate { value, low, high, .. }: Rate) -> Self {
        Interval { value, low, high }
    }
}
