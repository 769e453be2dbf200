//! How far a share could be off, and how far two lists go together.

/// z of a 95 % interval.
const Z: f64 = 1.959_964;

/// The 95 % interval of a share of which `hits` of `n` were seen, by Wilson's score (Wilson 1927), which is sensible for small
/// `n` and near 0 and 1: from 0 to 1 where nothing was seen. A half hit is half of one; the interval is then wider than it
/// need be.
pub fn wilson(hits: f64, n: f64) -> (f64, f64) {
    if n <= 0.0 {
        return (0.0, 1.0);
    }
    let share = hits / n;
    let scale = 1.0 + Z * Z / n;
    let middle = (share + Z * Z / (2.0 * n)) / scale;
    let reach = Z / scale * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    // The ends of 0 and 1 are exact; rounding would leave them a little inside.
    (if hits <= 0.0 { 0.0 } else { middle - reach }, if hits >= n { 1.0 } else { middle + reach })
}

/// Pearson's correlation of two lists; 0 where one of both is constant.
pub fn pearson(a: &[f64], b: &[f64]) -> f64 {
    let n = a.len() as f64;
    let mean = |x: &[f64]| x.iter().sum::<f64>() / n;
    let (ma, mb) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(&x, &y)| f(x - ma, y - mb)).sum::<f64>();
    let (ab, aa, bb) = (sum(&|x, y| x * y), sum(&|x, _| x * x), sum(&|_, y| y * y));
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correlation_is_pearsons() {
        assert!((pearson(&[1.0, 2.0, 3.0], &[2.0, 4.0, 6.0]) - 1.0).abs() < 1e-12);
        assert!((pearson(&[1.0, 2.0, 3.0], &[3.0, 1.0, 2.0]) + 0.5).abs() < 1e-12);
        assert_eq!(pearson(&[1.0, 1.0], &[0.0, 5.0]), 0.0);
    }

    #[test]
    fn wilsons_interval_is_right() {
        let (low, high) = wilson(231.0, 1000.0);
        assert!((low - 0.205_936).abs() < 1e-6 && (high - 0.258_122).abs() < 1e-6, "{low} {high}");
        assert_eq!((wilson(0.0, 9.0).0, wilson(9.0, 9.0).1, wilson(0.0, 0.0)), (0.0, 1.0, (0.0, 1.0)));
    }
}
