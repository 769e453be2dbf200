//! pass@k: how likely it is that one of k programs is right.

use serde::Serialize;

/// The unbiased estimate of pass@k from `n` programs, of which `c` are right: 1 − C(n−c, k) / C(n, k) (Chen et al. 2021), the
/// chance that k of them, drawn without replacement, are not all wrong. As the product ∏ (1 − k/i) over i from n−c+1 to n,
/// so that no factor overflows.
///
/// # Panics
/// If k is 0 or more than n, or c more than n.
pub fn pass_at_k(n: u64, c: u64, k: u64) -> f64 {
    assert!((1..=n).contains(&k) && c <= n, "pass@{k} of {c} right among {n}");
    if n - c < k {
        return 1.0;
    }
    1.0 - (n - c + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// pass@k over a set of problems.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PassAtK {
    /// How many programs one has.
    pub k: u64,
    /// The mean over problems.
    pub value: f64,
    /// The lower end of its 95 % interval.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// The number of problems.
    pub n: u64,
}

/// pass@k over problems of which each has `(n, c)`: n programs, c of them right. The interval is the mean ± 1.96 standard errors
/// over problems, cut to what can be, and Wilson's (1927) where every problem's is 0 or 1, as for k = n. `None`
/// if there is no problem, or one has fewer than k programs.
pub fn pass_at_k_over(problems: &[(u64, u64)], k: u64) -> Option<PassAtK> {
    if problems.is_empty() || problems.iter().any(|(n, _)| *n < k) {
        return None;
    }
    let values: Vec<f64> = problems.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect();
    let n = values.len() as f64;
    let value = values.iter().sum::<f64>() / n;
    let z = 1.96;
    let all_or_nothing = values.iter().all(|value| *value == 0.0 || *value == 1.0);
    let (low, high) = if all_or_nothing {
        let centre = (value + z * z / (2.0 * n)) / (1.0 + z * z / n);
        let reach = z / (1.0 + z * z / n) * (value * (1.0 - value) / n + z * z / (4.0 * n * n)).sqrt();
        (centre - reach, centre + reach)
    } else {
        let variance = values.iter().map(|other| (other - value).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let reach = z * (variance / n).sqrt();
        (value - reach, value + reach)
    };
    Some(PassAtK { k, value, low: low.max(0.0), high: high.min(1.0), n: values.len() as u64 })
}
