//! pass@k: how likely it is that one of k programs is right.

use serde::Serialize;

use crate::eval::{Interval, mean};

/// The unbiased estimate of pass@k from `n` programs, of which `c` are right: 1 − C(n−c, k) / C(n, k) (Chen
/// et al. 2021), the chance that k of them, drawn without replacement, are not all wrong. As the product ∏ (1
/// − k/i) over i from n−c+1 to n, so that no factor overflows.
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

/// pass@k over problems of which each has `(n, c)`: n programs, c of them right; with an interval over
/// problems. `None` if there is no problem, or one has fewer than k programs.
pub fn pass_at_k_over(problems: &[(u64, u64)], k: u64) -> Option<PassAtK> {
    if problems.is_empty() || problems.iter().any(|(n, _)| *n < k) {
        return None;
    }
    let values: Vec<f64> = problems.iter().map(|(n, c)| pass_at_k(*n, *c, k)).collect();
    let Interval { value, low, high } = mean(&values);
    Some(PassAtK { k, value, low, high, n: values.len() as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kernels::rng;

    /// C(n, k) for n up to 120, exactly, by Pascal's rule.
    fn triangle() -> Vec<Vec<u128>> {
        let mut rows = vec![vec![1]];
        for n in 1..=120 {
            let above: &Vec<u128> = &rows[n - 1];
            let row =
                (0..=n).map(|k| above.get(k).unwrap_or(&0) + if k > 0 { above[k - 1] } else { 0 }).collect();
            rows.push(row);
        }
        rows
    }

    #[test]
    fn it_is_the_closed_form() {
        let rows = triangle();
        let draw = |index: u64, limit: u64| rng::below(5, 1, index, limit);
        for trial in 0..1000 {
            let n = 1 + draw(3 * trial, 120);
            let (c, k) = (draw(3 * trial + 1, n + 1), 1 + draw(3 * trial + 2, n));
            let all_wrong = rows[(n - c) as usize].get(k as usize).copied().unwrap_or(0);
            let exact = 1.0 - all_wrong as f64 / rows[n as usize][k as usize] as f64;
            let got = pass_at_k(n, c, k);
            assert!((got - exact).abs() < 1e-12, "n {n}, c {c}, k {k}: {got}, not {exact}");
        }
    }

    #[test]
    fn it_is_the_share_of_draws_with_a_right_one() {
        for n in 1..=10_u32 {
            for c in 0..=n {
                let right = (1_u32 << c) - 1;
                for k in 1..=n {
                    let draws = (0..1_u32 << n).filter(|draw| draw.count_ones() == k);
                    let (mut all, mut good) = (0, 0);
                    draws.for_each(|draw| (all, good) = (all + 1, good + u32::from(draw & right != 0)));
                    let share = f64::from(good) / f64::from(all);
                    assert!(
                        (pass_at_k(n.into(), c.into(), k.into()) - share).abs() < 1e-12,
                        "n {n}, c {c}, k {k}"
                    );
                }
            }
        }
    }

    #[test]
    fn over_problems_it_is_the_mean_with_its_interval() {
        let problems: Vec<(u64, u64)> = (0..200).map(|i| (4, [0, 4, 2, 2][i % 4])).collect();
        let over = pass_at_k_over(&problems, 1).expect("enough");
        assert_eq!((over.value, over.n), (0.5, 200));
        // The deviations are ½, ½, 0, 0: variance 1/8, standard error √(1/1600).
        let reach = 1.96 / 40.0;
        assert!((over.high - 0.5 - reach).abs() < 0.01 && (0.5 - over.low - reach).abs() < 0.01, "{over:?}");
        assert_eq!(pass_at_k_over(&[(4, 0), (1, 1)], 2), None);
        assert_eq!(pass_at_k_over(&[], 1), None);
    }
}
