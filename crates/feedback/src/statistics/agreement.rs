//! How often two raters say the same of two answers.

use super::{percentiles, resampling};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 1000;

/// A share of pairs of answers about which two raters say the same.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Agreement {
    /// The share.
    pub value: f64,
    /// The lower end of its interval of 95 %, by resampling items.
    pub low: f64,
    /// The upper end.
    pub high: f64,
    /// Items that two raters ranked.
    pub items: usize,
}

/// How often raters agree: over items, pairs of their raters and pairs of their answers. Both prefer the same one, or
/// neither prefers one: 1; one of them prefers one and the other does not: ½. `items` has for each item the pairs
/// of rankings to compare. None where nothing is compared.
pub fn agreement(items: &[Vec<[&[u32]; 2]>]) -> Option<Agreement> {
    let counts: Vec<(f64, f64)> =
        items.iter().map(|pairs| counted(pairs)).filter(|(_, n)| *n > 0.0).collect();
    let share = |of: &mut dyn Iterator<Item = (f64, f64)>| {
        let (same, all) = of.fold((0.0, 0.0), |(same, all), (s, n)| (same + s, all + n));
        same / all
    };
    if counts.is_empty() {
        return None;
    }
    let mut random = resampling();
    let resampled: Vec<f64> = (0..RESAMPLES)
        .map(|_| share(&mut (0..counts.len()).map(|_| counts[random.below(counts.len())])))
        .collect();
    let (low, high) = percentiles(resampled);
    Some(Agreement { value: share(&mut counts.iter().copied()), low, high, items: counts.len() })
}

/// What of pairs of answers is said alike, and how many pairs there are.
fn counted(rankings: &[[&[u32]; 2]]) -> (f64, f64) {
    let (mut same, mut all) = (0.0, 0.0);
    for [a, b] in rankings {
        for i in 0..a.len() {
            for j in 0..i {
                all += 1.0;
                same += match (a[i].cmp(&a[j]), b[i].cmp(&b[j])) {
                    (x, y) if x == y => 1.0,
                    (x, y) if x.is_eq() || y.is_eq() => 0.5,
                    _ => 0.0,
                };
            }
        }
    }
    (same, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_alike_counts() {
        let of = |a: &[u32], b: &[u32]| agreement(&[vec![[a, b]]]).unwrap().value;
        assert_eq!(of(&[1, 2, 3], &[1, 2, 3]), 1.0);
        assert_eq!(of(&[1, 2, 3], &[3, 2, 1]), 0.0);
        assert_eq!(of(&[1, 2], &[1, 1]), 0.5);
        assert_eq!(of(&[1, 1], &[1, 1]), 1.0);
        // Of three pairs one is turned round.
        assert!((of(&[1, 2, 3], &[2, 1, 3]) - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(agreement(&[]), None);
    }

    #[test]
    fn the_interval_is_that_of_items() {
        let (same, other): ([&[u32]; 2], [&[u32]; 2]) = ([&[1, 2], &[1, 2]], [&[1, 2], &[2, 1]]);
        let items: Vec<_> = (0..100).map(|i| vec![if i % 4 == 0 { other } else { same }]).collect();
        let told = agreement(&items).unwrap();
        assert_eq!((told.value, told.items), (0.75, 100));
        // 0.75 ± 1.96 √(0.75 · 0.25 / 100).
        assert!((told.low - 0.665).abs() < 0.02 && (told.high - 0.835).abs() < 0.02, "{told:?}");
    }
}
