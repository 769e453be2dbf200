//! How far a figure could be from what more items would say: percentile bootstrap intervals (Efron 1979).

use super::{Interval, Rate};
use crate::streams;
use kernels::rng;
use rayon::prelude::*;

/// Resamples of an interval.
const RESAMPLES: u64 = 1000;

/// `statistic` of `n` items, and the 2.5 % and 97.5 % quantiles of what it is of resamples: `n` items each,
/// drawn with replacement. It is told the indices of its items. The same items give the same interval.
pub fn bootstrap(n: usize, statistic: impl Fn(&[usize]) -> f64 + Sync) -> Interval {
    Resampled::of(n, RESAMPLES, statistic).interval()
}

/// The mean of `values`: where each is 0 or 1, a share with Wilson's interval, since resamples of items that
/// are all right know no others; else with the bootstrap's.
pub fn mean(values: &[f64]) -> Interval {
    if values.iter().all(|value| [0.0, 1.0].contains(value)) {
        return Rate::wilson(
            values.iter().filter(|value| **value == 1.0).count() as u64,
            values.len() as u64,
        )
        .into();
    }
    bootstrap(values.len(), |drawn| drawn.iter().map(|&i| values[i]).sum::<f64>() / drawn.len().max(1) as f64)
}

/// A figure, and what it is of resamples, in ascending order.
pub(super) struct Resampled {
    value: f64,
    found: Vec<f64>,
}

impl Resampled {
    /// `statistic` of `n` items and of `resamples` draws of as many with replacement.
    pub(super) fn of(n: usize, resamples: u64, statistic: impl Fn(&[usize]) -> f64 + Sync) -> Resampled {
        let all: Vec<usize> = (0..n).collect();
        let value = statistic(&all);
        if n == 0 {
            return Resampled { value, found: vec![value] };
        }
        let resample = |number: u64| {
            let drawn: Vec<usize> = (0..n as u64)
                .map(|i| rng::below(0, streams::BOOTSTRAP.at(number), i, n as u64) as usize)
                .collect();
            statistic(&drawn)
        };
        let mut found: Vec<f64> = (0..resamples).into_par_iter().map(resample).collect();
        found.sort_by(f64::total_cmp);
        Resampled { value, found }
    }

    pub(super) fn interval(&self) -> Interval {
        let last = (self.found.len() - 1) as f64;
        let quantile = |share: f64| self.found[(share * last).round() as usize];
        Interval { value: self.value, low: quantile(0.025), high: quantile(0.975) }
    }

    /// The share of resamples of which the figure is above zero.
    pub(super) fn share_above_zero(&self) -> f64 {
        let above = self.found.len() - self.found.partition_point(|&value| value <= 0.0);
        above as f64 / self.found.len() as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_cover_the_truth() {
        const EXPERIMENTS: u64 = 1000;
        const N: u64 = 100;
        let covers = |experiment: u64| {
            let items: Vec<f64> = (0..N).map(|i| rng::normal(1, experiment, i)).collect();
            let mean = |drawn: &[usize]| drawn.iter().map(|&i| items[i]).sum::<f64>() / drawn.len() as f64;
            let Interval { low, high, .. } = bootstrap(items.len(), mean);
            low <= 0.0 && 0.0 <= high
        };
        let covered = (0..EXPERIMENTS).filter(|&experiment| covers(experiment)).count();
        assert!((930..=970).contains(&covered), "{covered} of {EXPERIMENTS} intervals cover the mean");
    }

    #[test]
    fn a_share_that_is_whole_is_not_certain() {
        let Interval { value, low, high } = mean(&[1.0; 10]);
        assert!(value == 1.0 && high == 1.0 && low < 0.75, "{low}");
        let Interval { value, low, high } = mean(&[0.5, 1.0, 0.0, 0.5]);
        assert!(value == 0.5 && low < 0.5 && high > 0.5, "{low}, {high}");
    }

    #[test]
    fn the_same_items_give_the_same_interval() {
        let mean = |drawn: &[usize]| drawn.iter().sum::<usize>() as f64;
        assert_eq!(bootstrap(10, mean), bootstrap(10, mean));
        assert_eq!(bootstrap(0, |_| 0.0), Interval::default());
    }
}
