//! Krippendorff's α for ordinal values.

use std::collections::BTreeMap;

/// How much raters agree beyond chance: 1 is complete, 0 is chance (Krippendorff 2011, *Computing Krippendorff's
/// alpha-reliability*). `units` has for each thing that was judged the ranks that it got; things with one judgement
/// say nothing. None where nothing was judged twice, or nothing differs.
pub fn ordinal_alpha(units: &[Vec<u32>]) -> Option<f64> {
    let units: Vec<&Vec<u32>> = units.iter().filter(|values| values.len() > 1).collect();
    let mut numbers = BTreeMap::new();
    for value in units.iter().copied().flatten() {
        numbers.insert(*value, 0);
    }
    numbers.values_mut().enumerate().for_each(|(i, number)| *number = i);
    let k = numbers.len();

    // The coincidence matrix: each pair of judgements of a unit of m counts 1 / (m − 1).
    let mut coincidences = vec![vec![0.0; k]; k];
    for values in &units {
        let share = 1.0 / (values.len() - 1) as f64;
        for (i, a) in values.iter().enumerate() {
            for (j, b) in values.iter().enumerate() {
                if i != j {
                    coincidences[numbers[a]][numbers[b]] += share;
                }
            }
        }
    }
    let totals: Vec<f64> = coincidences.iter().map(|row| row.iter().sum()).collect();
    let n: f64 = totals.iter().sum();

    // δ² of ordinal values: all that lies between them, the ends by half.
    let distance = |a: usize, b: usize| {
        let (low, high) = (a.min(b), a.max(b));
        let between: f64 = totals[low..=high].iter().sum();
        (between - (totals[a] + totals[b]) / 2.0).powi(2)
    };
    let (mut observed, mut expected) = (0.0, 0.0);
    for a in 0..k {
        for b in 0..k {
            observed += coincidences[a][b] * distance(a, b);
            expected += totals[a] * totals[b] * distance(a, b);
        }
    }
    (expected > 0.0).then(|| 1.0 - (n - 1.0) * observed / expected)
}
