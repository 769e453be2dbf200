//! How a loss falls with compute: `loss = a · compute^(-b)` (Hestness et al. 2017, Kaplan et al. 2020), a line between the
//! logarithms, by least squares.
//!
//! There is no irreducible loss in it: over the few factors of ten that a ladder spans, the three numbers of such a curve say
//! nothing of each other. So it is for comparing recipes and for the next rungs, not for the far end.

use super::Interval;
use serde::{Deserialize, Serialize};

/// A fitted power law.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerLaw {
    /// The loss at one unit of compute.
    pub a: f64,
    /// How fast it falls, with its 95 % interval: of the t distribution, errors of the logarithm being normal.
    pub b: Interval,
    /// How many runs it is of.
    pub n: usize,
    /// Mean of the logarithms of compute, and the sum of squared distances from it.
    centre: f64,
    spread: f64,
    /// Standard deviation of what the line leaves.
    deviation: f64,
}

/// 97.5 % quantiles of Student's t distribution of 1, 2 … degrees of freedom.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

impl PowerLaw {
    /// Of pairs of compute and loss, all above zero; none of fewer than three, or of one compute alone.
    pub fn fit(points: &[(f64, f64)]) -> Option<PowerLaw> {
        let points: Vec<(f64, f64)> = points
            .iter()
            .filter(|(compute, loss)| *compute > 0.0 && *loss > 0.0 && loss.is_finite())
            .map(|(compute, loss)| (compute.ln(), loss.ln()))
            .collect();
        let n = points.len();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / n as f64;
        let (centre, height) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - centre).powi(2)).sum();
        if n < 3 || spread < 1e-12 {
            return None;
        }
        let slope = points.iter().map(|point| (point.0 - centre) * (point.1 - height)).sum::<f64>() / spread;
        let left = |point: &(f64, f64)| point.1 - height - slope * (point.0 - centre);
        let deviation = (points.iter().map(|point| left(point).powi(2)).sum::<f64>() / (n - 2) as f64).sqrt();
        let reach = quantile(n) * deviation / spread.sqrt();
        let b = Interval { value: -slope, low: -slope - reach, high: -slope + reach };
        Some(PowerLaw { a: (height - slope * centre).exp(), b, n, centre, spread, deviation })
    }

    /// The loss that it says of so much compute, with the 95 % interval of the line there.
    pub fn at(&self, compute: f64) -> Interval {
        let x = compute.ln();
        let height = self.a.ln() - self.b.value * x;
        let error = (1.0 / self.n as f64 + (x - self.centre).powi(2) / self.spread).sqrt();
        let reach = quantile(self.n) * self.deviation * error;
        Interval { value: height.exp(), low: (height - reach).exp(), high: (height + reach).exp() }
    }
}

/// The quantile for a line through `n` points.
fn quantile(n: usize) -> f64 {
    T.get(n - 3).copied().unwrap_or(1.96 + 2.5 / (n - 2) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::rng;

    #[test]
    fn an_exact_law_is_found() {
        let points: Vec<(f64, f64)> =
            (1..6).map(|i| 10f64.powi(10 + i)).map(|c| (c, 30.0 * c.powf(-0.07))).collect();
        let law = PowerLaw::fit(&points).unwrap();
        assert!((law.a - 30.0).abs() < 1e-9 && (law.b.value - 0.07).abs() < 1e-12, "{law:?}");
        assert!(law.b.high - law.b.low < 1e-9);
        assert!((law.at(1e17).value - 30.0 * 1e17f64.powf(-0.07)).abs() < 1e-9);
        assert_eq!(PowerLaw::fit(&points[..2]), None);
        assert_eq!(PowerLaw::fit(&[points[0]; 4]), None);
    }

    /// By `numpy.polyfit(ln c, ln l, 1, cov=True)` and `scipy.stats.t.ppf(0.975, 2)`.
    #[test]
    fn intervals_are_those_of_least_squares() {
        let points = [(1e10, 6.0), (3e10, 5.6), (1e11, 5.1), (4e11, 4.8)];
        let law = PowerLaw::fit(&points).unwrap();
        let [b, low, high] = GOLDEN;
        for (got, golden) in [(law.b.value, b), (law.b.low, low), (law.b.high, high)] {
            assert!((got - golden).abs() < 1e-6, "{law:?}");
        }
    }

    const GOLDEN: [f64; 3] = [0.061895721, 0.040730214, 0.083061228];

    #[test]
    fn intervals_cover_the_truth() {
        let covers = |experiment: u64| {
            let point = |i: u64| {
                let compute = 10f64.powi(9 + i as i32);
                (compute, 20.0 * compute.powf(-0.05) * (0.02 * rng::normal(3, experiment, i)).exp())
            };
            let law = PowerLaw::fit(&(0..6).map(point).collect::<Vec<_>>()).unwrap();
            let (line, truth) = (law.at(1e16), 20.0 * 1e16f64.powf(-0.05));
            [law.b.low <= 0.05 && 0.05 <= law.b.high, line.low <= truth && truth <= line.high]
        };
        let covered: Vec<[bool; 2]> = (0..1000).map(covers).collect();
        for which in 0..2 {
            let share = covered.iter().filter(|covers| covers[which]).count();
            assert!((930..=970).contains(&share), "{share} of 1000 intervals cover the truth");
        }
    }
}
