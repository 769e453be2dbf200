//! Counter-based random numbers: a value is a pure function of `(seed, stream, index)`.
//!
//! Nothing is stepped, so any value can be asked for at any time, by any thread, twice. The mixing function
//! is SplitMix64's finaliser (Steele, Lea & Flood 2014), applied once a coordinate.

/// 64 random bits for `(seed, stream, index)`.
#[inline(always)]
pub fn bits(seed: u64, stream: u64, index: u64) -> u64 {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let key = mix(seed.wrapping_add(GOLDEN) ^ mix(stream.wrapping_add(GOLDEN.wrapping_mul(2))));
    mix(key ^ mix(index.wrapping_mul(GOLDEN).wrapping_add(key)))
}

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Uniform in `[0, 1)` with 24 random bits.
#[inline]
pub fn uniform(seed: u64, stream: u64, index: u64) -> f32 {
    (bits(seed, stream, index) >> 40) as f32 / (1u32 << 24) as f32
}

/// Uniform in `0 .. n` (`n > 0`), by multiplication; the bias is below `n / 2⁶⁴`.
#[inline]
pub fn below(seed: u64, stream: u64, index: u64, n: u64) -> u64 {
    ((u128::from(bits(seed, stream, index)) * u128::from(n)) >> 64) as u64
}

/// Standard normal, by Box and Muller (1958).
pub fn normal(seed: u64, stream: u64, index: u64) -> f64 {
    let unit = |i| ((bits(seed, stream, i) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let (u, v) = (unit(2 * index), unit(2 * index + 1));
    (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_distributions() {
        let n = 200_000u64;
        let mean = (0..n).map(|i| f64::from(uniform(1, 2, i))).sum::<f64>() / n as f64;
        assert!((mean - 0.5).abs() < 0.003, "{mean}");
        let z: Vec<f64> = (0..n).map(|i| normal(3, 4, i)).collect();
        let mean = z.iter().sum::<f64>() / n as f64;
        let variance = z.iter().map(|x| x * x).sum::<f64>() / n as f64;
        let fourth = z.iter().map(|x| x.powi(4)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015 && (fourth - 3.0).abs() < 0.1);
        let hits = (0..n).filter(|&i| below(5, 6, i, 7) == 3).count() as f64;
        assert!((hits / n as f64 - 1.0 / 7.0).abs() < 0.003);
    }

    #[test]
    fn every_coordinate_matters() {
        let mut seen: Vec<u64> =
            (0..1000).flat_map(|i| [bits(i, 0, 0), bits(0, i + 1, 0), bits(0, 0, i + 1)]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 3000);
    }
}
